/* One GPU as the stand-in plays it: what it spends, what its energy counter makes of that, and the books of both.
 * Knows nothing of NVML or of the script's text. Instants are nanoseconds of the stand-in's clock. */

#ifndef BOARD_H
#define BOARD_H

#include <stdio.h>

#include "curve.h"

enum { TEXT = 96 };
typedef enum { RUNNING, STALLED_WITH_CATCH_UP, STALLED_FOR_GOOD } Stall;

/* What the script says of a board at one instant; the keys are explained in nvml_stand_in.c. */
typedef struct {
    char uuid[TEXT], name[TEXT], mig[TEXT];
    Curve curve;
    int64_t average_milliwatts, period_ns, phase_ns, offset_millijoules, jumped_microjoules, resets, handle_epoch;
    int64_t arch, energy, power, handle, lost, mig_devices, mig_energy, slow_ns;
    int64_t sm_clock_mhz, memory_clock_mhz, max_sm_clock_mhz, max_memory_clock_mhz;
    Stall stall;
} Settings;

typedef struct {
    int is_known, handles_are_dead;
    Settings settings;
    int64_t since_ns, now_ns;
    Femtojoules spent, counter, refreshed; /* `refreshed`: the counter when its readers were last given it */
    /* The books; see nvml_stand_in.c. An epoch begins with the board and with every reset. */
    int is_read_in_epoch;
    int64_t value_millijoules;                               /* returned last, in this epoch */
    Femtojoules epoch_origin;                                /* what the counter held when the epoch began */
    Femtojoules before_first_read, displayed, fallen, lost_before_resets, lost_after_resets, lost_in_stalls, jumped;
    int64_t reads, resets, jumps, stalls, errors;
} Board;

/* The board comes into being, with 1 MJ on its counter. */
void board_begin(Board *board, const Settings *settings, int64_t now_ns);

/* Let time pass under the present settings. */
void board_run(Board *board, int64_t to_ns);

/* New settings from this instant on; resets, jumps and stalls happen where they differ from the old ones. */
void board_adopt(Board *board, const Settings *settings);

/* What the counter shows its reader, noted as shown. */
int64_t board_read_millijoules(Board *board);

void board_write_books(const Board *board, FILE *file);

#endif
