#include "curve.h"

#include <math.h>
#include <stdlib.h>

/* A stretch of time until `end_ns` in which power runs straight: `microwatts` at `origin_ns`, and `rise` more than that
 * `length_ns` later. */
typedef struct {
    int64_t origin_ns, end_ns, microwatts, rise, length_ns;
} Piece;

int64_t floor_division(int64_t dividend, int64_t divisor) {
    int64_t quotient = dividend / divisor;
    return quotient * divisor > dividend ? quotient - 1 : quotient;
}

int curve_parse(Curve *curve, const char *text) {
    char *end;
    double number = strtod(text, &end);
    curve->points = 0;
    if (end != text && !*end) {
        curve->points = 1;
        curve->at_ns[0] = 0;
        curve->microwatts[0] = llround(number * 1e6);
        return 1;
    }
    while (curve->points < MAX_POINTS && end != text && *end == ':') {
        int64_t at_ns = llround(number * 1e9);
        int64_t before_ns = curve->points ? curve->at_ns[curve->points - 1] : 0;
        text = end + 1;
        number = strtod(text, &end);
        if (end == text || at_ns < before_ns || (!curve->points && at_ns)) return 0;
        curve->at_ns[curve->points] = at_ns;
        curve->microwatts[curve->points++] = llround(number * 1e6);
        if (!*end) return curve->points > 1 && at_ns > 0;
        if (*end != ',') return 0;
        text = end + 1;
        number = strtod(text, &end);
    }
    return 0;
}

static Piece steady(int64_t microwatts, int64_t end_ns) {
    return (Piece){.origin_ns = 0, .end_ns = end_ns, .microwatts = microwatts, .rise = 0, .length_ns = 1};
}

static Piece piece_at(const Curve *curve, int64_t at_ns) {
    int last = curve->points - 1;
    int64_t origin_ns = curve->start_ns, period_ns = curve->at_ns[last];
    if (!last) return steady(curve->microwatts[0], INT64_MAX);
    if (at_ns < origin_ns) return steady(curve->microwatts[0], origin_ns);
    if (curve->repeats) origin_ns += period_ns * floor_division(at_ns - origin_ns, period_ns);
    else if (at_ns - origin_ns >= period_ns) return steady(curve->microwatts[last], INT64_MAX);
    int next = 1;
    while (curve->at_ns[next] <= at_ns - origin_ns) next++;
    return (Piece){
        .origin_ns = origin_ns + curve->at_ns[next - 1],
        .end_ns = origin_ns + curve->at_ns[next],
        .microwatts = curve->microwatts[next - 1],
        .rise = curve->microwatts[next] - curve->microwatts[next - 1],
        .length_ns = curve->at_ns[next] - curve->at_ns[next - 1],
    };
}

/* Multiples of the golden ratio modulo 1: neighbours are unlike each other, and the factors average to 1. */
static int64_t factor_ppm(const Curve *curve, int64_t at_ns) {
    if (!curve->wobble_ppm) return PARTS_PER_MILLION;
    uint32_t slot = (uint32_t)floor_division(at_ns, curve->wobble_ns);
    uint64_t fraction = slot * UINT32_C(2654435769), width = (uint64_t)(2 * curve->wobble_ppm + 1);
    return PARTS_PER_MILLION - curve->wobble_ppm + (int64_t)(fraction * width >> 32);
}

int64_t curve_microwatts(const Curve *curve, int64_t at_ns) {
    Piece piece = piece_at(curve, at_ns);
    __int128 microwatts = piece.microwatts;
    if (piece.rise) microwatts += (__int128)piece.rise * (at_ns - piece.origin_ns) / piece.length_ns;
    return (int64_t)(microwatts * factor_ppm(curve, at_ns) / PARTS_PER_MILLION);
}

static Femtojoules since_origin(const Piece *piece, int64_t at_ns) {
    Femtojoules elapsed_ns = at_ns - piece->origin_ns;
    return piece->microwatts * elapsed_ns + piece->rise * elapsed_ns * elapsed_ns / (2 * piece->length_ns);
}

Femtojoules curve_energy(const Curve *curve, int64_t from_ns, int64_t to_ns) {
    Femtojoules energy = 0;
    while (from_ns < to_ns) {
        Piece piece = piece_at(curve, from_ns);
        int64_t end_ns = piece.end_ns < to_ns ? piece.end_ns : to_ns;
        if (curve->wobble_ppm) {
            int64_t slot_end_ns = (floor_division(from_ns, curve->wobble_ns) + 1) * curve->wobble_ns;
            if (slot_end_ns < end_ns) end_ns = slot_end_ns;
        }
        Femtojoules part = since_origin(&piece, end_ns) - since_origin(&piece, from_ns);
        energy += part * factor_ppm(curve, from_ns) / PARTS_PER_MILLION;
        from_ns = end_ns;
    }
    return energy;
}
