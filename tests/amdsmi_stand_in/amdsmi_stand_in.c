/* A stand-in for AMD's libamd_smi.so: the calls that the zeus library makes for Wattline, over invented GPUs.
 *
 * What the GPUs are and do stands in the text file named by WATTLINE_AMDSMI_STAND_IN, read again in every call. One line
 * for each GPU, `key=value` separated by spaces; a line `library init=CODE` sets what amdsmi_init returns:
 *
 *   name=MI300X (without spaces), hip=its place   the market name, and the number HIP gives the GPU
 *   power_watts=100    true power: what the accumulator integrates, from the zero of CLOCK_MONOTONIC on
 *   shown_watts=power  what both power readings show; 65535 is the library's way to say that there is none
 *   energy=0           the amdsmi_status_t of the energy call
 *
 * The many calls that nobody makes here are stubs, written when the library is built; see __init__.py.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, INVALID = 1, NOT_INITIALIZED = 32 };
enum { MAX_GPUS = 8, TEXT = 64 };
#define RESOLUTION_MICROJOULES 15.3f

typedef struct {
    char name[TEXT];
    unsigned hip;
    double power_watts, shown_watts;
    int energy;
} Gpu;

typedef struct { uint32_t drm_render, drm_card, hsa_id, hip_id; char hip_uuid[256]; } EnumerationInfo;

typedef struct {
    char market_name[256];
    uint32_t vendor_id;
    char vendor_name[256];
    uint32_t subvendor_id;
    uint64_t device_id;
    uint32_t rev_id;
    char asic_serial[256];
    uint32_t oam_id, compute_units;
    uint64_t graphics_version;
    uint32_t subsystem_id, reserved[21];
} AsicInfo;

typedef struct {
    uint64_t socket_power;
    uint32_t current_socket_power, average_socket_power;
    uint64_t gfx_voltage, soc_voltage, mem_voltage;
    uint32_t power_limit;
    uint64_t reserved[18];
} PowerInfo;

static Gpu gpus[MAX_GPUS];
static unsigned gpu_count;
static int init_code, is_initialized;

static void set(Gpu *gpu, const char *key, const char *value) {
    if (!strcmp(key, "name")) snprintf(gpu->name, TEXT, "%s", value);
    else if (!strcmp(key, "hip")) gpu->hip = (unsigned)atoi(value);
    else if (!strcmp(key, "power_watts")) gpu->power_watts = gpu->shown_watts = atof(value);
    else if (!strcmp(key, "shown_watts")) gpu->shown_watts = atof(value);
    else if (!strcmp(key, "energy")) gpu->energy = atoi(value);
    else { fprintf(stderr, "amdsmi_stand_in: unknown key %s\n", key); abort(); }
}

static void parse(char *line) {
    char *rest = NULL, *word = strtok_r(line, " \n", &rest);
    if (!word) return;
    if (!strcmp(word, "library")) {
        word = strtok_r(NULL, " \n", &rest);
        if (word) sscanf(word, "init=%d", &init_code);
        return;
    }
    if (gpu_count == MAX_GPUS) return;
    Gpu *gpu = &gpus[gpu_count];
    *gpu = (Gpu){.hip = gpu_count++, .power_watts = 100, .shown_watts = 100};
    snprintf(gpu->name, TEXT, "MI300X");
    for (; word; word = strtok_r(NULL, " \n", &rest)) {
        char *equals = strchr(word, '=');
        if (!equals) { fprintf(stderr, "amdsmi_stand_in: not key=value: %s\n", word); abort(); }
        *equals = 0;
        set(gpu, word, equals + 1);
    }
}

static void reread(void) {
    const char *path = getenv("WATTLINE_AMDSMI_STAND_IN");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[1024];
    gpu_count = 0;
    init_code = SUCCESS;
    while (file && fgets(line, sizeof line, file)) parse(line);
    if (file) fclose(file);
}

/* What every call on a GPU does first; handles count GPUs from 1. */
static int find(void *handle, Gpu **gpu) {
    if (!is_initialized) return NOT_INITIALIZED;
    reread();
    uintptr_t number = (uintptr_t)handle;
    if (number < 1 || number > gpu_count) return INVALID;
    *gpu = &gpus[number - 1];
    return SUCCESS;
}

int amdsmi_init(uint64_t flags) {
    (void)flags;
    reread();
    is_initialized = init_code == SUCCESS;
    return init_code;
}

int amdsmi_shut_down(void) {
    is_initialized = 0;
    return SUCCESS;
}

/* All GPUs are on one socket. */
int amdsmi_get_socket_handles(uint32_t *count, void **sockets) {
    if (!is_initialized) return NOT_INITIALIZED;
    *count = 1;
    if (sockets) sockets[0] = (void *)1;
    return SUCCESS;
}

int amdsmi_get_processor_handles(void *socket, uint32_t *count, void **processors) {
    (void)socket;
    if (!is_initialized) return NOT_INITIALIZED;
    reread();
    *count = gpu_count;
    for (unsigned index = 0; processors && index < gpu_count; index++) processors[index] = (void *)(uintptr_t)(index + 1);
    return SUCCESS;
}

int amdsmi_get_gpu_enumeration_info(void *handle, EnumerationInfo *info) {
    Gpu *gpu;
    int code = find(handle, &gpu);
    memset(info, 0, sizeof *info);
    if (code == SUCCESS) info->hip_id = gpu->hip;
    return code;
}

int amdsmi_get_gpu_asic_info(void *handle, AsicInfo *info) {
    Gpu *gpu;
    int code = find(handle, &gpu);
    memset(info, 0, sizeof *info);
    if (code == SUCCESS) snprintf(info->market_name, sizeof info->market_name, "%s", gpu->name);
    return code;
}

int amdsmi_get_power_info(void *handle, PowerInfo *info) {
    Gpu *gpu;
    int code = find(handle, &gpu);
    memset(info, 0, sizeof *info);
    if (code == SUCCESS) info->current_socket_power = info->average_socket_power = (uint32_t)gpu->shown_watts;
    return code;
}

int amdsmi_get_energy_count(void *handle, uint64_t *accumulator, float *resolution, uint64_t *timestamp) {
    Gpu *gpu;
    struct timespec now;
    int code = find(handle, &gpu);
    if (code != SUCCESS || gpu->energy != SUCCESS) return code != SUCCESS ? code : gpu->energy;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    *resolution = RESOLUTION_MICROJOULES;
    *accumulator = (uint64_t)(gpu->power_watts * seconds * 1e6 / RESOLUTION_MICROJOULES);
    *timestamp = (uint64_t)(seconds * 1e9);
    return SUCCESS;
}
