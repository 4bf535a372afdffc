/* A stand-in for NVIDIA's libnvidia-ml.so.1: the calls nvidia-ml-py makes for Wattline, over invented GPUs.
 *
 * THE SCRIPT. What the GPUs are and do stands in the text file named by WATTLINE_NVML_STAND_IN (without it, in gpus.txt
 * beside this library), looked at again in every call, so that a test can change it while the library is in use; it
 * must be replaced whole. One line for each GPU, `key=value` separated by spaces, and lines that begin with:
 *
 *   at SECONDS gpu=INDEX key=value ...   from that instant of CLOCK_MONOTONIC (Python's time.monotonic()) on these
 *                                        keys hold for that GPU in place of its line's
 *   library init=CODE                    what nvmlInit returns
 *   library clock_seconds=SECONDS        the clock, in place of CLOCK_MONOTONIC; it must not go back
 *
 * An `at` line takes effect at its own instant, whenever the calls are made; one that is seen only by a call after its
 * instant takes effect at the call before that one. All else takes effect in the call that first sees it.
 * Keys, with what a missing one means:
 *
 *   uuid=GPU-0..., name=Stand-In (without spaces), arch=9 (Hopper; nvmlDeviceArchitecture_t)
 *   power_watts=100          true power: what the energy counter integrates and the instantaneous reading shows. Also
 *                            0:WATTS,SECONDS:WATTS,...: straight lines between points, two points of one instant are a
 *                            step, repeated from the last point's instant on
 *   power_start_seconds=0    where on the clock the first point lies; the first point's power holds before it
 *   power_repeats=1          0: the last point's power holds after it
 *   wobble_ratio=0, wobble_seconds=0.1   every so many seconds (on a grid of the clock) power is multiplied by another
 *                            factor within 1 +- ratio: slot number n has 1 - ratio + 2 ratio frac(n / golden ratio)
 *   average_watts=0          what the averaged reading shows, which nobody should integrate
 *   period_seconds=0.1, phase_seconds=0   how often the energy counter is refreshed for its readers, and where the grid
 *                            of the refreshes lies on the clock
 *   stall=0                  catch_up: the counter answers but is not refreshed, and shows all of it when the stall
 *                            ends; for_good: what is spent meanwhile never reaches the counter
 *   jumped_joules=0          a change of it is a jump by the difference, shown with the next refresh
 *   offset_millijoules=0     a change of it is a jump shown at once; the counter never falls below 0
 *   resets=0                 a change of it restarts the counter at 0, as a reload of the driver does
 *   energy=0, power=0, handle=0   the nvmlReturn_t of the energy, the power and the handle call
 *   lost=0                   1: every call on the GPU returns NVML_ERROR_GPU_IS_LOST
 *   handle_epoch=0           a change of it is a loss that NVML does not get over by itself: the same error from every
 *                            call on the GPU until the last nvmlShutdown and another nvmlInit (an assumption: NVIDIA
 *                            documents that nvmlDeviceGetHandleBy* attaches to a GPU and the last nvmlShutdown lets go
 *                            of it, and nothing of handles after a loss)
 *   slow_milliseconds=0      how long a call on the GPU takes; it answers what is true at its end
 *   mig=0                    0, 1, or unsupported
 *   mig_devices=0            slices of a GPU with mig=1, with handles of their own; they show the whole GPU's energy
 *   mig_energy=0             the nvmlReturn_t of the energy call on a slice
 *   sm_clock_mhz=0, memory_clock_mhz=0, max_sm_clock_mhz=0, max_memory_clock_mhz=0   0: not supported
 *
 * Energy is kept in femtojoules (microwatts x nanoseconds), integrated in closed form over the script and not over the
 * calls. A counter begins with 1 MJ when its GPU is first seen.
 *
 * THE BOOKS. Where the folder named by WATTLINE_NVML_STAND_IN_BOOKS exists (without that variable, `books` beside this
 * library), each process that asks for energy keeps PROCESS_ID.json there, replaced in every such call: `process_id`,
 * the instant of the call as `at_nanoseconds`, and `boards`, in the order of the script, with these keys. Microjoules
 * are rounded towards zero; all but `uuid` are integers.
 *
 *   uuid, since_nanoseconds   the GPU, and when this process first saw it: the beginning of its books
 *   true_microjoules          spent since then
 *   displayed_microjoules     the sum of the rises between consecutive values returned within one epoch, that is,
 *                             between two resets
 *   before_first_read_microjoules    spent before the first value returned
 *   lost_before_resets_microjoules   from the last value returned before a reset to the reset: nobody can have read it
 *   lost_after_resets_microjoules    the first values returned after resets: spent since the reset, but what a reader
 *                             cannot tell from a counter that began elsewhere
 *   lost_in_stalls_microjoules       spent in stalls for good
 *   unread_microjoules        from the last value returned to this instant
 *   jumped_microjoules        shown and never spent: jumps and changes of the offset, negative where they fell
 *   fallen_microjoules        the sum of the falls between consecutive values returned within one epoch
 *   value_millijoules         the value returned last
 *   reads, resets, jumps, stalls     how many
 *   errors                    calls on the GPU that were told to fail, of every kind
 *
 * So that, always: true + jumped = before_first_read + displayed - fallen + lost_before_resets + lost_after_resets
 * + lost_in_stalls + unread.
 */

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "machine.h"

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, GPU_IS_LOST = 15 };
enum { POWER_INSTANT = 186, UNSIGNED_INT = 1 };
enum { CLOCK_GRAPHICS = 0, CLOCK_SM = 1, CLOCK_MEMORY = 2, MAX_MIG_DEVICES = 7 };

/* What a handle points at is never looked at; it says the board, and the slice counted from 1. */
typedef struct { char unused; } *Handle;
static const uintptr_t HANDLE_TAG = 0x57A70000;

/* nvmlFieldValue_t */
typedef struct {
    uint32_t field_id, scope_id;
    int64_t timestamp, latency_microseconds;
    uint32_t value_type;
    int32_t nvml_return;
    union { double d; uint32_t ui; uint64_t ull; } value;
} FieldValue;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int init_references;

/* A process that is forked while another thread holds the lock would never get it. */
static void unlock_in_child(void) { pthread_mutex_init(&lock, NULL); }

__attribute__((constructor)) static void mind_forks(void) { pthread_atfork(NULL, NULL, unlock_in_child); }

/* -- what every call does first and last ------------------------------------------------------------------------- */

static Handle handle_of(unsigned index, unsigned slice) { return (Handle)(HANDLE_TAG | slice << 8 | index); }
static unsigned slice_of(Handle handle) { return (unsigned)((uintptr_t)handle >> 8 & 0xFF); }
static Board *board_of(Handle handle) { return &boards[(uintptr_t)handle & (MAX_BOARDS - 1)]; }

static int is_handle(Handle handle) {
    return (uintptr_t)handle >> 16 == HANDLE_TAG >> 16 && ((uintptr_t)handle & 0xFF) < script.boards;
}

static int leave(int code) {
    pthread_mutex_unlock(&lock);
    return code;
}

/* Hold the library; `leave` must follow. */
static int enter(void) {
    pthread_mutex_lock(&lock);
    if (init_references == 0) return UNINITIALIZED;
    machine_update();
    return SUCCESS;
}

/* Hold the library, for a call on a GPU: its error, or the board. `leave` must follow. */
static int enter_board(Handle handle, Board **board) {
    int code = enter();
    if (code != SUCCESS) return code;
    if (!is_handle(handle)) return INVALID_ARGUMENT;
    int64_t slow_ns = board_of(handle)->settings.slow_ns;
    if (slow_ns > 0) {
        leave(SUCCESS);
        struct timespec pause = {slow_ns / NANOSECONDS_PER_SECOND, slow_ns % NANOSECONDS_PER_SECOND};
        nanosleep(&pause, NULL);
        if ((code = enter()) != SUCCESS) return code;
    }
    *board = board_of(handle);
    if (!(*board)->settings.lost && !(*board)->handles_are_dead) return SUCCESS;
    (*board)->errors++;
    return GPU_IS_LOST;
}

/* The answer a call was told to give. */
static int told(Board *board, int64_t code) {
    if (code != SUCCESS) board->errors++;
    return (int)code;
}

/* -- NVML -------------------------------------------------------------------------------------------------------- */

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    machine_update();
    if (script.init_code != SUCCESS) return leave(script.init_code);
    if (init_references++ == 0)
        for (unsigned index = 0; index < MAX_BOARDS; index++) boards[index].handles_are_dead = 0;
    return leave(SUCCESS);
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    pthread_mutex_lock(&lock);
    if (init_references == 0) return leave(UNINITIALIZED);
    init_references--;
    return leave(SUCCESS);
}

const char *nvmlErrorString(int code) {
    (void)code;
    return "an error the stand-in was told to give";
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    int code = enter();
    if (code == SUCCESS) *count = script.boards;
    return leave(code);
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle *handle) {
    Board *board;
    *handle = handle_of(index < MAX_BOARDS ? index : MAX_BOARDS, 0);
    int code = enter_board(*handle, &board);
    return leave(code == SUCCESS ? told(board, board->settings.handle) : code);
}

int nvmlDeviceGetUUID(Handle handle, char *text, unsigned length) {
    Board *board;
    int code = enter_board(handle, &board);
    unsigned slice = slice_of(handle);
    if (code == SUCCESS && slice) snprintf(text, length, "MIG-%s-%u", board->settings.uuid, slice - 1);
    else if (code == SUCCESS) snprintf(text, length, "%s", board->settings.uuid);
    return leave(code);
}

static Handle handle_named(const char *uuid) {
    char name[2 * TEXT];
    for (unsigned index = 0; index < script.boards; index++) {
        const Settings *settings = &boards[index].settings;
        if (!strcmp(settings->uuid, uuid)) return handle_of(index, 0);
        for (unsigned slice = 1; slice <= settings->mig_devices; slice++) {
            snprintf(name, sizeof name, "MIG-%s-%u", settings->uuid, slice - 1);
            if (!strcmp(name, uuid)) return handle_of(index, slice);
        }
    }
    return NULL;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Handle *handle) {
    Board *board;
    int code = enter();
    *handle = code == SUCCESS ? handle_named(uuid) : NULL;
    leave(code);
    if (code != SUCCESS || !*handle) return code != SUCCESS ? code : NOT_FOUND;
    code = enter_board(*handle, &board);
    return leave(code == SUCCESS ? told(board, board->settings.handle) : code);
}

int nvmlDeviceGetName(Handle handle, char *text, unsigned length) {
    Board *board;
    int code = enter_board(handle, &board);
    if (code == SUCCESS) snprintf(text, length, slice_of(handle) ? "%s MIG" : "%s", board->settings.name);
    return leave(code);
}

int nvmlDeviceGetTotalEnergyConsumption(Handle handle, unsigned long long *millijoules) {
    Board *board;
    int code = enter_board(handle, &board);
    if (code == SUCCESS && slice_of(handle)) code = told(board, board->settings.mig_energy);
    if (code == SUCCESS) code = told(board, board->settings.energy);
    if (code == SUCCESS) *millijoules = (unsigned long long)board_read_millijoules(board);
    if (code != UNINITIALIZED) machine_write_books();
    return leave(code);
}

int nvmlDeviceGetMigMode(Handle handle, unsigned *current, unsigned *pending) {
    Board *board;
    int code = enter_board(handle, &board);
    if (code == SUCCESS && !strcmp(board->settings.mig, "unsupported")) code = NOT_SUPPORTED;
    if (code == SUCCESS) *current = *pending = (unsigned)atoi(board->settings.mig);
    return leave(code);
}

/* Documented to be 0 where MIG is not supported or off. */
int nvmlDeviceGetMaxMigDeviceCount(Handle handle, unsigned *count) {
    Board *board;
    int code = enter_board(handle, &board);
    if (code == SUCCESS) *count = strcmp(board->settings.mig, "1") ? 0 : MAX_MIG_DEVICES;
    return leave(code);
}

int nvmlDeviceGetMigDeviceHandleByIndex(Handle handle, unsigned index, Handle *slice) {
    Board *board;
    int code = enter_board(handle, &board);
    if (code == SUCCESS && (strcmp(board->settings.mig, "1") || index >= board->settings.mig_devices)) code = NOT_FOUND;
    if (code == SUCCESS) *slice = handle_of((unsigned)(board - boards), index + 1);
    return leave(code);
}

int nvmlDeviceIsMigDeviceHandle(Handle handle, unsigned *is_slice) {
    Board *board;
    int code = enter_board(handle, &board);
    if (code == SUCCESS) *is_slice = slice_of(handle) != 0;
    return leave(code);
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Handle slice, Handle *handle) {
    Board *board;
    int code = enter_board(slice, &board);
    if (code == SUCCESS && !slice_of(slice)) code = INVALID_ARGUMENT;
    if (code == SUCCESS) *handle = handle_of((unsigned)(board - boards), 0);
    return leave(code);
}

int nvmlDeviceGetArchitecture(Handle handle, unsigned *architecture) {
    Board *board;
    int code = enter_board(handle, &board);
    if (code == SUCCESS) *architecture = (unsigned)board->settings.arch;
    return leave(code);
}

int nvmlDeviceGetFieldValues(Handle handle, int count, FieldValue *fields) {
    Board *board;
    int code = enter_board(handle, &board);
    for (int index = 0; code == SUCCESS && index < count; index++) {
        int is_power = fields[index].field_id == POWER_INSTANT;
        fields[index].nvml_return = is_power ? told(board, board->settings.power) : NOT_SUPPORTED;
        fields[index].value_type = UNSIGNED_INT;
        fields[index].value.ui = (uint32_t)(curve_microwatts(&board->settings.curve, board->now_ns) / 1000);
    }
    return leave(code);
}

int nvmlDeviceGetPowerUsage(Handle handle, unsigned *milliwatts) {
    Board *board;
    int code = enter_board(handle, &board);
    if (code == SUCCESS) *milliwatts = (unsigned)board->settings.average_milliwatts;
    return leave(code);
}

static int clock_mhz(int type, int64_t sm_mhz, int64_t memory_mhz, unsigned *mhz) {
    int64_t value = type == CLOCK_SM || type == CLOCK_GRAPHICS ? sm_mhz : type == CLOCK_MEMORY ? memory_mhz : 0;
    *mhz = (unsigned)value;
    return value ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetClockInfo(Handle handle, int type, unsigned *mhz) {
    Board *board;
    int code = enter_board(handle, &board);
    if (code != SUCCESS) return leave(code);
    return leave(clock_mhz(type, board->settings.sm_clock_mhz, board->settings.memory_clock_mhz, mhz));
}

int nvmlDeviceGetMaxClockInfo(Handle handle, int type, unsigned *mhz) {
    Board *board;
    int code = enter_board(handle, &board);
    if (code != SUCCESS) return leave(code);
    return leave(clock_mhz(type, board->settings.max_sm_clock_mhz, board->settings.max_memory_clock_mhz, mhz));
}
