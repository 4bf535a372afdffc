/* The control file's text, and what it says of each board at each instant; the keys are explained in nvml_stand_in.c.
 * A text that makes no sense ends the process: it is the test's own mistake. */

#ifndef SCRIPT_H
#define SCRIPT_H

#include "board.h"

enum { MAX_BOARDS = 8, MAX_CHANGES = 512, LINE = 2048 };

/* A line that begins with `at`. */
typedef struct {
    int64_t at_ns;
    unsigned board;
    char text[LINE];
} Change;

typedef struct {
    unsigned boards, changes;
    int init_code;
    int64_t clock_ns; /* below 0: CLOCK_MONOTONIC */
    char lines[MAX_BOARDS][LINE];
    Change change[MAX_CHANGES]; /* in the order of their instants */
} Script;

/* `text` is taken apart. */
void script_parse(Script *script, char *text);

/* Add the timed changes of another script. */
void script_merge(Script *script, const Script *other);

void script_settings(const Script *script, unsigned board, int64_t at_ns, Settings *settings);

/* The earliest instant later than `after_ns` at which a board changes; INT64_MAX where there is none. */
int64_t script_next_change_ns(const Script *script, unsigned board, int64_t after_ns);

#endif
