#define _GNU_SOURCE
#include "machine.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PATH = 4096, FILE_SIZE = 1 << 18 };

Board boards[MAX_BOARDS];
Script script;
static Script replaced;
static int64_t updated_ns;

static void find(char path[PATH], const char *variable, const char *beside) {
    const char *given = getenv(variable);
    Dl_info library;
    path[0] = 0;
    if (given) snprintf(path, PATH, "%s", given);
    else if (dladdr((void *)machine_update, &library) && library.dli_fname) {
        const char *slash = strrchr(library.dli_fname, '/');
        int folder = slash ? (int)(slash - library.dli_fname) : 1;
        snprintf(path, PATH, "%.*s/%s", folder, slash ? library.dli_fname : ".", beside);
    }
}

/* True where the file does not say what it said before. */
static int reread(void) {
    static char text[FILE_SIZE], known[FILE_SIZE];
    static int is_known;
    char path[PATH];
    find(path, "WATTLINE_NVML_STAND_IN", "gpus.txt");
    FILE *file = fopen(path, "r");
    size_t length = file ? fread(text, 1, FILE_SIZE - 1, file) : 0;
    if (file) fclose(file);
    text[length] = 0;
    if (is_known && !strcmp(text, known)) return 0;
    is_known = 1;
    strcpy(known, text);
    replaced = script;
    script_parse(&script, text);
    return 1;
}

static int64_t clock_ns(void) {
    struct timespec now;
    if (script.clock_ns >= 0) return script.clock_ns;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NANOSECONDS_PER_SECOND + now.tv_nsec;
}

static void adopt(Board *board, const Script *source, int64_t at_ns) {
    Settings settings;
    script_settings(source, (unsigned)(board - boards), at_ns, &settings);
    board_adopt(board, &settings);
}

/* Let time pass for a board, through the changes that the script has in store for it. */
static void advance(Board *board, const Script *source, int64_t now_ns) {
    adopt(board, source, board->now_ns);
    for (;;) {
        int64_t change_ns = script_next_change_ns(source, (unsigned)(board - boards), board->now_ns);
        if (change_ns > now_ns) break;
        board_run(board, change_ns);
        adopt(board, source, change_ns);
    }
    board_run(board, now_ns);
}

static void begin_or_return(Board *board, int64_t now_ns) {
    Settings settings;
    if (board->is_known) {
        if (board->now_ns < now_ns) board->now_ns = now_ns; /* it was not in the script for a while */
        adopt(board, &script, now_ns);
    } else {
        script_settings(&script, (unsigned)(board - boards), now_ns, &settings);
        board_begin(board, &settings, now_ns);
    }
}

void machine_update(void) {
    int is_new = reread();
    int64_t now_ns = updated_ns = clock_ns();
    if (is_new) {
        script_merge(&replaced, &script);
        for (unsigned index = 0; index < replaced.boards; index++) advance(&boards[index], &replaced, now_ns);
        for (unsigned index = 0; index < script.boards; index++) begin_or_return(&boards[index], now_ns);
    } else {
        for (unsigned index = 0; index < script.boards; index++) advance(&boards[index], &script, now_ns);
    }
}

void machine_write_books(void) {
    char folder[PATH], path[PATH + 64], unfinished[PATH + 64];
    find(folder, "WATTLINE_NVML_STAND_IN_BOOKS", "books");
    snprintf(path, sizeof path, "%s/%d.json", folder, (int)getpid());
    snprintf(unfinished, sizeof unfinished, "%s/%d.unfinished", folder, (int)getpid());
    FILE *file = fopen(unfinished, "w");
    if (!file) return;
    fprintf(file, "{\"process_id\": %d, \"at_nanoseconds\": %lld, ", (int)getpid(), (long long)updated_ns);
    fputs("\"boards\": [", file);
    for (unsigned index = 0; index < script.boards; index++) {
        if (index) fputs(",\n", file);
        board_write_books(&boards[index], file);
    }
    fputs("]}\n", file);
    fclose(file);
    rename(unfinished, path);
}
