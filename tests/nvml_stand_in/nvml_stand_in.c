/* A stand-in for NVIDIA's libnvidia-ml.so.1: the few calls nvidia-ml-py makes for Wattline, over invented GPUs.
 *
 * What the GPUs are and do stands in the text file named by WATTLINE_NVML_STAND_IN, read again at every call, so that
 * a test can change it while the library is loaded. One line per GPU, `key=value` separated by spaces; a line
 * `library init=CODE` sets what nvmlInit returns. Keys, with what a missing one means:
 *
 *   uuid=GPU-0..., name=... (without spaces), arch=9 (Hopper), mig=0 (0, 1, or unsupported)
 *   power_watts=100        true power: what the energy counter integrates and the instantaneous reading shows
 *   average_watts=0        what the averaged reading shows, which nobody should integrate
 *   period_seconds=0.1     how often the energy counter is refreshed, on a grid of CLOCK_MONOTONIC
 *   offset_millijoules=0   added to the counter: a large negative one is a driver reload
 *   energy=0, power=0, handle=0   the NVML return code of the energy, the power and the handle call
 *
 * Energy is the integral of power over CLOCK_MONOTONIC since its zero; a change of power counts from the refresh
 * before the call that first sees it.
 */

#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, UNKNOWN = 999 };
enum { MAX_DEVICES = 8, TEXT = 96, POWER_INSTANT = 186, UNSIGNED_INT = 1 };

typedef struct {
    char uuid[TEXT], name[TEXT], mig[TEXT];
    double power_watts, average_watts, period_seconds, offset_millijoules;
    int arch, energy, power, handle;
    double integrated_joules, integrated_to_seconds; /* kept between calls */
} Device;

/* nvmlFieldValue_t */
typedef struct {
    uint32_t field_id, scope_id;
    int64_t timestamp, latency_microseconds;
    uint32_t value_type;
    int32_t nvml_return;
    union { double d; uint32_t ui; uint64_t ull; } value;
} FieldValue;

static Device devices[MAX_DEVICES];
static unsigned device_count;
static int init_code, init_references;

static double now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Bring the counter to its last refresh with the power known so far. */
static void integrate(Device *device) {
    double refreshed_at = device->period_seconds * (double)(int64_t)(now_seconds() / device->period_seconds);
    if (refreshed_at > device->integrated_to_seconds) {
        device->integrated_joules += device->power_watts * (refreshed_at - device->integrated_to_seconds);
        device->integrated_to_seconds = refreshed_at;
    }
}

static void set(Device *device, const char *key, const char *value) {
    if (!strcmp(key, "uuid")) snprintf(device->uuid, TEXT, "%s", value);
    else if (!strcmp(key, "name")) snprintf(device->name, TEXT, "%s", value);
    else if (!strcmp(key, "mig")) snprintf(device->mig, TEXT, "%s", value);
    else if (!strcmp(key, "power_watts")) device->power_watts = atof(value);
    else if (!strcmp(key, "average_watts")) device->average_watts = atof(value);
    else if (!strcmp(key, "period_seconds")) device->period_seconds = atof(value);
    else if (!strcmp(key, "offset_millijoules")) device->offset_millijoules = atof(value);
    else if (!strcmp(key, "arch")) device->arch = atoi(value);
    else if (!strcmp(key, "energy")) device->energy = atoi(value);
    else if (!strcmp(key, "power")) device->power = atoi(value);
    else if (!strcmp(key, "handle")) device->handle = atoi(value);
    else { fprintf(stderr, "nvml_stand_in: unknown key %s\n", key); abort(); }
}

static void reset_to_defaults(Device *device, unsigned index) {
    snprintf(device->uuid, TEXT, "GPU-%08u-0000-0000-0000-000000000000", index);
    snprintf(device->name, TEXT, "Stand-In");
    snprintf(device->mig, TEXT, "0");
    device->power_watts = 100;
    device->period_seconds = 0.1;
    device->average_watts = device->offset_millijoules = 0;
    device->arch = 9;
    device->energy = device->power = device->handle = SUCCESS;
}

static void parse_line(char *line, unsigned *count) {
    char *rest = NULL, *word = strtok_r(line, " \n", &rest);
    if (!word) return;
    if (!strcmp(word, "library")) {
        word = strtok_r(NULL, " \n", &rest);
        if (word) sscanf(word, "init=%d", &init_code);
        return;
    }
    if (*count == MAX_DEVICES) return;
    Device *device = &devices[*count];
    reset_to_defaults(device, *count);
    for (; word; word = strtok_r(NULL, " \n", &rest)) {
        char *equals = strchr(word, '=');
        if (!equals) continue;
        *equals = 0;
        set(device, word, equals + 1);
    }
    ++*count;
}

static void reread(void) {
    const char *path = getenv("WATTLINE_NVML_STAND_IN");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[1024];
    unsigned count = 0;
    for (unsigned index = 0; index < device_count; index++) integrate(&devices[index]);
    init_code = SUCCESS;
    while (file && fgets(line, sizeof line, file)) parse_line(line, &count);
    if (file) fclose(file);
    for (unsigned index = 0; index < count; index++) integrate(&devices[index]);
    device_count = count;
}

/* What every call on a device does first. */
static int ready(const Device *device) {
    if (init_references == 0) return UNINITIALIZED;
    reread();
    return device >= devices && device < devices + device_count ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    reread();
    if (init_code == SUCCESS) init_references++;
    return init_code;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    if (init_references == 0) return UNINITIALIZED;
    init_references--;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    (void)code;
    return "an error the stand-in was told to give";
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    if (init_references == 0) return UNINITIALIZED;
    reread();
    *count = device_count;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    *device = &devices[index < MAX_DEVICES ? index : 0];
    int code = index < MAX_DEVICES ? ready(*device) : INVALID_ARGUMENT;
    return code != SUCCESS ? code : (*device)->handle;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Device **device) {
    int code = ready(devices);
    for (unsigned index = 0; code == SUCCESS && index < device_count; index++)
        if (!strcmp(devices[index].uuid, uuid)) return nvmlDeviceGetHandleByIndex_v2(index, device);
    return code == SUCCESS ? NOT_FOUND : code;
}

int nvmlDeviceGetUUID(Device *device, char *text, unsigned length) {
    int code = ready(device);
    if (code == SUCCESS) snprintf(text, length, "%s", device->uuid);
    return code;
}

int nvmlDeviceGetName(Device *device, char *text, unsigned length) {
    int code = ready(device);
    if (code == SUCCESS) snprintf(text, length, "%s", device->name);
    return code;
}

int nvmlDeviceGetTotalEnergyConsumption(Device *device, unsigned long long *millijoules) {
    int code = ready(device);
    if (code != SUCCESS || device->energy != SUCCESS) return code != SUCCESS ? code : device->energy;
    double value = device->integrated_joules * 1000 + device->offset_millijoules;
    *millijoules = value > 0 ? (unsigned long long)value : 0;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    int code = ready(device);
    if (code != SUCCESS) return code;
    if (!strcmp(device->mig, "unsupported")) return NOT_SUPPORTED;
    *current = *pending = (unsigned)atoi(device->mig);
    return SUCCESS;
}

int nvmlDeviceGetArchitecture(Device *device, unsigned *architecture) {
    int code = ready(device);
    if (code == SUCCESS) *architecture = (unsigned)device->arch;
    return code;
}

int nvmlDeviceGetFieldValues(Device *device, int count, FieldValue *fields) {
    int code = ready(device);
    for (int index = 0; code == SUCCESS && index < count; index++) {
        fields[index].nvml_return = fields[index].field_id == POWER_INSTANT ? device->power : NOT_SUPPORTED;
        fields[index].value_type = UNSIGNED_INT;
        fields[index].value.ui = (uint32_t)(device->power_watts * 1000);
    }
    return code;
}

int nvmlDeviceGetPowerUsage(Device *device, unsigned *milliwatts) {
    int code = ready(device);
    if (code == SUCCESS) *milliwatts = (unsigned)(device->average_watts * 1000);
    return code;
}
