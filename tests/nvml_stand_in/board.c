#include "board.h"

#define START_MILLIJOULES INT64_C(1000000000)

static Femtojoules at_least_zero(Femtojoules energy) { return energy > 0 ? energy : 0; }

void board_begin(Board *board, const Settings *settings, int64_t now_ns) {
    int64_t start_millijoules = START_MILLIJOULES + settings->offset_millijoules;
    *board = (Board){.is_known = 1, .settings = *settings, .since_ns = now_ns, .now_ns = now_ns};
    board->counter = at_least_zero(start_millijoules * FEMTOJOULES_PER_MILLIJOULE);
    board->refreshed = board->epoch_origin = board->counter;
    board->stalls = settings->stall != RUNNING;
}

static void spend(Board *board, int64_t to_ns) {
    Femtojoules energy = curve_energy(&board->settings.curve, board->now_ns, to_ns);
    board->spent += energy;
    if (board->settings.stall == STALLED_FOR_GOOD) board->lost_in_stalls += energy;
    else board->counter += energy;
    board->now_ns = to_ns;
}

void board_run(Board *board, int64_t to_ns) {
    const Settings *settings = &board->settings;
    int64_t refresh_ns =
        settings->phase_ns + settings->period_ns * floor_division(to_ns - settings->phase_ns, settings->period_ns);
    if (refresh_ns > board->now_ns && settings->stall == RUNNING) {
        spend(board, refresh_ns);
        board->refreshed = board->counter;
    }
    if (to_ns > board->now_ns) spend(board, to_ns);
}

/* What readers have not seen of the present epoch. */
static Femtojoules unread(const Board *board) {
    Femtojoules seen =
        board->is_read_in_epoch ? board->value_millijoules * FEMTOJOULES_PER_MILLIJOULE : board->epoch_origin;
    return board->counter - seen;
}

static void reset(Board *board) {
    board->lost_before_resets += unread(board);
    board->counter = board->refreshed = board->epoch_origin = 0;
    board->is_read_in_epoch = 0;
    board->resets++;
}

/* A new offset is shown at once, a jump with the next refresh. */
static void shift(Board *board, int64_t millijoules) {
    Femtojoules before = board->counter;
    board->counter = at_least_zero(board->counter + millijoules * FEMTOJOULES_PER_MILLIJOULE);
    board->refreshed = at_least_zero(board->refreshed + millijoules * FEMTOJOULES_PER_MILLIJOULE);
    board->jumped += board->counter - before;
}

static void jump(Board *board, int64_t microjoules) {
    Femtojoules before = board->counter;
    board->counter = at_least_zero(board->counter + microjoules * FEMTOJOULES_PER_MICROJOULE);
    board->jumped += board->counter - before;
    board->jumps++;
}

void board_adopt(Board *board, const Settings *settings) {
    const Settings old = board->settings;
    board->settings = *settings;
    if (settings->resets != old.resets) reset(board);
    if (settings->offset_millijoules != old.offset_millijoules)
        shift(board, settings->offset_millijoules - old.offset_millijoules);
    if (settings->jumped_microjoules != old.jumped_microjoules)
        jump(board, settings->jumped_microjoules - old.jumped_microjoules);
    if (settings->stall != RUNNING && old.stall == RUNNING) board->stalls++;
    if (settings->handle_epoch != old.handle_epoch) board->handles_are_dead = 1;
}

int64_t board_read_millijoules(Board *board) {
    int64_t value = (int64_t)(board->refreshed / FEMTOJOULES_PER_MILLIJOULE);
    Femtojoules shown = value * FEMTOJOULES_PER_MILLIJOULE;
    if (board->is_read_in_epoch) {
        Femtojoules rise = shown - board->value_millijoules * FEMTOJOULES_PER_MILLIJOULE;
        if (rise >= 0) board->displayed += rise;
        else board->fallen -= rise;
    } else if (board->resets) {
        board->lost_after_resets += shown;
    } else {
        board->before_first_read = shown - board->epoch_origin;
    }
    board->value_millijoules = value;
    board->is_read_in_epoch = 1;
    board->reads++;
    return value;
}

static void write_energy(FILE *file, const char *key, Femtojoules energy) {
    fprintf(file, ",\n  \"%s_microjoules\": %lld", key, (long long)(energy / FEMTOJOULES_PER_MICROJOULE));
}

static void write_count(FILE *file, const char *key, int64_t count) {
    fprintf(file, ",\n  \"%s\": %lld", key, (long long)count);
}

void board_write_books(const Board *board, FILE *file) {
    fprintf(file, "{\n  \"uuid\": \"%s\"", board->settings.uuid);
    write_count(file, "since_nanoseconds", board->since_ns);
    write_energy(file, "true", board->spent);
    write_energy(file, "displayed", board->displayed);
    write_energy(file, "before_first_read", board->before_first_read);
    write_energy(file, "lost_before_resets", board->lost_before_resets);
    write_energy(file, "lost_after_resets", board->lost_after_resets);
    write_energy(file, "lost_in_stalls", board->lost_in_stalls);
    write_energy(file, "unread", unread(board));
    write_energy(file, "jumped", board->jumped);
    write_energy(file, "fallen", board->fallen);
    write_count(file, "value_millijoules", board->value_millijoules);
    write_count(file, "reads", board->reads);
    write_count(file, "resets", board->resets);
    write_count(file, "jumps", board->jumps);
    write_count(file, "stalls", board->stalls);
    write_count(file, "errors", board->errors);
    fprintf(file, "\n}");
}
