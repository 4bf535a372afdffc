#include "script.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef enum { WORD, NUMBER, THOUSANDTHS, MILLIONTHS, SECONDS, MILLISECONDS, POWER, STALL } Kind;

typedef struct {
    const char *name;
    Kind kind;
    size_t offset;
} Key;

static const Key KEYS[] = {
    {"uuid", WORD, offsetof(Settings, uuid)},
    {"name", WORD, offsetof(Settings, name)},
    {"arch", NUMBER, offsetof(Settings, arch)},
    {"power_watts", POWER, 0},
    {"power_start_seconds", SECONDS, offsetof(Settings, curve.start_ns)},
    {"power_repeats", NUMBER, offsetof(Settings, curve.repeats)},
    {"wobble_ratio", MILLIONTHS, offsetof(Settings, curve.wobble_ppm)},
    {"wobble_seconds", SECONDS, offsetof(Settings, curve.wobble_ns)},
    {"average_watts", THOUSANDTHS, offsetof(Settings, average_milliwatts)},
    {"period_seconds", SECONDS, offsetof(Settings, period_ns)},
    {"phase_seconds", SECONDS, offsetof(Settings, phase_ns)},
    {"offset_millijoules", NUMBER, offsetof(Settings, offset_millijoules)},
    {"stall", STALL, 0},
    {"jumped_joules", MILLIONTHS, offsetof(Settings, jumped_microjoules)},
    {"resets", NUMBER, offsetof(Settings, resets)},
    {"energy", NUMBER, offsetof(Settings, energy)},
    {"power", NUMBER, offsetof(Settings, power)},
    {"handle", NUMBER, offsetof(Settings, handle)},
    {"lost", NUMBER, offsetof(Settings, lost)},
    {"handle_epoch", NUMBER, offsetof(Settings, handle_epoch)},
    {"slow_milliseconds", MILLISECONDS, offsetof(Settings, slow_ns)},
    {"mig", WORD, offsetof(Settings, mig)},
    {"mig_devices", NUMBER, offsetof(Settings, mig_devices)},
    {"mig_energy", NUMBER, offsetof(Settings, mig_energy)},
    {"sm_clock_mhz", NUMBER, offsetof(Settings, sm_clock_mhz)},
    {"memory_clock_mhz", NUMBER, offsetof(Settings, memory_clock_mhz)},
    {"max_sm_clock_mhz", NUMBER, offsetof(Settings, max_sm_clock_mhz)},
    {"max_memory_clock_mhz", NUMBER, offsetof(Settings, max_memory_clock_mhz)},
};

static _Noreturn void refuse(const char *what, const char *text) {
    fprintf(stderr, "nvml_stand_in: %s: %s\n", what, text);
    abort();
}

static double number(const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end) refuse("not a number", text);
    return value;
}

static Stall stall(const char *text) {
    if (!strcmp(text, "0")) return RUNNING;
    if (!strcmp(text, "catch_up")) return STALLED_WITH_CATCH_UP;
    if (!strcmp(text, "for_good")) return STALLED_FOR_GOOD;
    refuse("stall is 0, catch_up or for_good", text);
}

static void set(Settings *settings, const Key *key, const char *value) {
    static const double scale[] = {
        [NUMBER] = 1, [THOUSANDTHS] = 1e3, [MILLIONTHS] = 1e6, [SECONDS] = 1e9, [MILLISECONDS] = 1e6};
    char *place = (char *)settings + key->offset;
    switch (key->kind) {
    case WORD: snprintf(place, TEXT, "%s", value); break;
    case STALL: settings->stall = stall(value); break;
    case POWER:
        if (!curve_parse(&settings->curve, value)) refuse("power_watts is WATTS or 0:WATTS,SECONDS:WATTS,...", value);
        break;
    default: *(int64_t *)place = llround(number(value) * scale[key->kind]);
    }
}

static void set_named(Settings *settings, const char *name, const char *value) {
    for (size_t index = 0; index < sizeof KEYS / sizeof *KEYS; index++)
        if (!strcmp(KEYS[index].name, name)) {
            set(settings, &KEYS[index], value);
            return;
        }
    refuse("unknown key", name);
}

static void apply(Settings *settings, const char *text) {
    char line[LINE], *rest = NULL;
    snprintf(line, LINE, "%s", text);
    for (char *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *equals = strchr(word, '=');
        if (!equals) refuse("not key=value", word);
        *equals = 0;
        set_named(settings, word, equals + 1);
    }
}

static void set_defaults(Settings *settings, unsigned board) {
    *settings = (Settings){.arch = 9, .period_ns = NANOSECONDS_PER_SECOND / 10};
    snprintf(settings->uuid, TEXT, "GPU-%08u-0000-0000-0000-000000000000", board);
    snprintf(settings->name, TEXT, "Stand-In");
    snprintf(settings->mig, TEXT, "0");
    settings->curve = (Curve){.points = 1, .microwatts = {100 * INT64_C(1000000)}, .repeats = 1};
    settings->curve.wobble_ns = NANOSECONDS_PER_SECOND / 10;
}

void script_settings(const Script *script, unsigned board, int64_t at_ns, Settings *settings) {
    set_defaults(settings, board);
    apply(settings, script->lines[board]);
    for (unsigned index = 0; index < script->changes && script->change[index].at_ns <= at_ns; index++)
        if (script->change[index].board == board) apply(settings, script->change[index].text);
    if (settings->period_ns <= 0 || settings->curve.wobble_ns <= 0) refuse("a period is not above 0", settings->uuid);
}

int64_t script_next_change_ns(const Script *script, unsigned board, int64_t after_ns) {
    for (unsigned index = 0; index < script->changes; index++)
        if (script->change[index].board == board && script->change[index].at_ns > after_ns)
            return script->change[index].at_ns;
    return INT64_MAX;
}

static void insert(Script *script, const Change *change) {
    if (script->changes == MAX_CHANGES) refuse("too many lines that begin with `at`", change->text);
    unsigned place = script->changes++;
    for (; place && script->change[place - 1].at_ns > change->at_ns; place--)
        script->change[place] = script->change[place - 1];
    script->change[place] = *change;
}

void script_merge(Script *script, const Script *other) {
    for (unsigned index = 0; index < other->changes; index++) insert(script, &other->change[index]);
}

static const char *after_key(const char *word, const char *key) {
    size_t length = strlen(key);
    return word && !strncmp(word, key, length) && word[length] == '=' ? word + length + 1 : NULL;
}

static void parse_library(Script *script, char *rest) {
    for (char *word = strtok_r(rest, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        const char *init = after_key(word, "init"), *clock = after_key(word, "clock_seconds");
        if (init) script->init_code = (int)number(init);
        else if (clock) script->clock_ns = llround(number(clock) * 1e9);
        else refuse("unknown key of the library", word);
    }
}

/* at SECONDS gpu=INDEX key=value ... */
static void parse_change(Script *script, char *rest) {
    static Change change;
    const char *seconds = strtok_r(rest, " ", &rest);
    const char *board = after_key(strtok_r(NULL, " ", &rest), "gpu");
    if (!seconds || !board || number(board) >= MAX_BOARDS) refuse("expected `at SECONDS gpu=INDEX ...`", rest);
    change.at_ns = llround(number(seconds) * 1e9);
    change.board = (unsigned)number(board);
    snprintf(change.text, LINE, "%s", rest);
    insert(script, &change);
}

void script_parse(Script *script, char *text) {
    char *rest = text, *line, *words;
    script->boards = script->changes = 0;
    script->init_code = 0;
    script->clock_ns = -1;
    while ((line = strsep(&rest, "\n"))) {
        if (strlen(line) >= LINE) refuse("a line too long", line);
        words = line + strspn(line, " ");
        if (!*words) continue;
        if (!strncmp(words, "library ", 8)) parse_library(script, words + 8);
        else if (!strncmp(words, "at ", 3)) parse_change(script, words + 3);
        else if (script->boards == MAX_BOARDS) refuse("too many GPUs", words);
        else snprintf(script->lines[script->boards++], LINE, "%s", words);
    }
}
