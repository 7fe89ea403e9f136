/* A stand-in for an accelerator, for measurements of scale on few cores: ONNX Runtime's library with one difference. Each pass takes as long as
 * STANDIN_MS says, asleep for what the genuine pass (of a tiny model) leaves of it. Built and used by scale.py alone, by TAMIS_ORT_LIB; tamis knows
 * nothing of it. ONNX Runtime's table of functions only ever grows at its end, and `Run` is its tenth entry. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { RUN = 9 };

typedef void *run_fn(void *session, const void *options, const char *const *names, const void *const *inputs, size_t count,
                     const char *const *outputs, size_t wanted, void **values);
typedef struct {
    void **(*get_api)(uint32_t version);
    const char *(*version)(void);
} base;

static const base *genuine;
static run_fn *genuine_run;
static long cost_ns;

static void *run(void *session, const void *options, const char *const *names, const void *const *inputs, size_t count,
                 const char *const *outputs, size_t wanted, void **values) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += cost_ns % 1000000000L;
    until.tv_sec += cost_ns / 1000000000L + until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    void *status = genuine_run(session, options, names, inputs, count, outputs, wanted, values);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0) {
    }
    return status;
}

static void **get_api(uint32_t version) {
    void **api = genuine->get_api(version);
    if (api && api[RUN] != (void *)run) {
        long page = sysconf(_SC_PAGESIZE);
        void *start = (void *)((uintptr_t)&api[RUN] & ~(uintptr_t)(page - 1));
        if (mprotect(start, (size_t)page, PROT_READ | PROT_WRITE) != 0) {
            perror("standin: mprotect");
            abort();
        }
        genuine_run = (run_fn *)api[RUN];
        api[RUN] = (void *)run;
    }
    return api;
}

static const char *version(void) { return genuine->version(); }

const void *OrtGetApiBase(void) {
    static const base ours = {get_api, version};
    if (!genuine) {
        void *library = dlopen(getenv("STANDIN_ORT"), RTLD_NOW | RTLD_LOCAL);
        const base *(*get_base)(void) = library ? (const base *(*)(void))dlsym(library, "OrtGetApiBase") : NULL;
        if (!get_base) {
            fprintf(stderr, "standin: no ONNX Runtime at STANDIN_ORT: %s\n", dlerror());
            abort();
        }
        genuine = get_base();
        cost_ns = atol(getenv("STANDIN_MS")) * 1000000L;
    }
    return &ours;
}
