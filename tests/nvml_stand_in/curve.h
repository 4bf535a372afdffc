/* Power as a function of time, and its exact integral in integers. Knows nothing of counters or of NVML. */

#ifndef CURVE_H
#define CURVE_H

#include <stdint.h>

/* Microwatts times nanoseconds: 10^-15 J. 128 bits hold any energy a test can spend. */
typedef __int128 Femtojoules;

#define FEMTOJOULES_PER_MICROJOULE ((Femtojoules)1000000000)
#define FEMTOJOULES_PER_MILLIJOULE ((Femtojoules)1000000000000)
#define NANOSECONDS_PER_SECOND INT64_C(1000000000)

enum { MAX_POINTS = 64, PARTS_PER_MILLION = 1000000 };

/* Straight lines between points; two points of one instant are a step. The first point is at 0, which is `start_ns`
 * on the clock: before it the first point holds, after the last one the curve begins anew or the last point holds.
 * In every slot of `wobble_ns` all of it is multiplied by a factor of the slot's own within 1 +- wobble_ppm / 10^6. */
typedef struct {
    int points;
    int64_t at_ns[MAX_POINTS], microwatts[MAX_POINTS];
    int64_t start_ns, repeats, wobble_ppm, wobble_ns;
} Curve;

/* `WATTS`, or `SECONDS:WATTS,SECONDS:WATTS,...` from 0 on in order; false where the text is neither. */
int curve_parse(Curve *curve, const char *text);

int64_t curve_microwatts(const Curve *curve, int64_t at_ns);

/* Energy between two instants, to within one femtojoule for each straight line crossed. */
Femtojoules curve_energy(const Curve *curve, int64_t from_ns, int64_t to_ns);

/* Rounds towards minus infinity, as instants before a grid's origin need it. */
int64_t floor_division(int64_t dividend, int64_t divisor);

#endif
