/* Owns device faults: an ONNX Runtime whose every k-th run fails, for a tamis that is not changed in the least.
 *
 * tamis is pointed at this library by TAMIS_ORT_LIB. It loads the genuine one (FAULTY_ORT_REAL) and hands out its table of functions with one entry
 * exchanged: Run. Of the runs after the first FAULTY_ORT_AFTER_MS milliseconds, while a model loads, every FAULTY_ORT_EVERY-th fails, in
 * turn with the words of a device error and those of an allocator that found no memory; each adds a byte to FAULTY_ORT_COUNT.
 *
 * The table's order is ONNX Runtime's promise (onnxruntime_c_api.h: entries are only ever added at the end): CreateStatus is the first, Run the
 * tenth. What Run takes is passed on as it came.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { CREATE_STATUS = 0, RUN = 9, ORT_FAIL = 1, ORT_RUNTIME_EXCEPTION = 6 };

struct base {
    void *const *(*get_api)(uint32_t version);
    const char *(*get_version_string)(void);
};
typedef void *(*run_fn)(void *, void *, void *, void *, size_t, void *, size_t, void *);
typedef void *(*create_status_fn)(int, const char *);

static const struct base *genuine;
static run_fn genuine_run;
static create_status_fn create_status;
static struct timespec loaded;
static atomic_ulong runs;

static long setting(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static long milliseconds_since_load(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - loaded.tv_sec) * 1000 + (now.tv_nsec - loaded.tv_nsec) / 1000000;
}

static void *run(void *session, void *options, void *names, void *inputs, size_t count, void *outputs, size_t output_count, void *results) {
    long every = setting("FAULTY_ORT_EVERY");
    if (every > 0 && milliseconds_since_load() >= setting("FAULTY_ORT_AFTER_MS")) {
        unsigned long number = ++runs;
        if (number % every == 0) {
            int file = open(getenv("FAULTY_ORT_COUNT"), O_WRONLY | O_APPEND | O_CREAT, 0644);
            if (file >= 0) {
                if (write(file, ".", 1) != 1) perror("faulty_ort");
                close(file);
            }
            if (number / every % 2) return create_status(ORT_FAIL, "CUDA failure 700: an illegal memory access was encountered (injected)");
            return create_status(ORT_RUNTIME_EXCEPTION, "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer (injected)");
        }
    }
    return genuine_run(session, options, names, inputs, count, outputs, output_count, results);
}

static void *const *get_api(uint32_t version) {
    void **api = (void **)genuine->get_api(version);
    if (!api || api[RUN] == (void *)run) return api;
    create_status = (create_status_fn)api[CREATE_STATUS];
    genuine_run = (run_fn)api[RUN];
    uintptr_t size = (uintptr_t)sysconf(_SC_PAGESIZE), page = (uintptr_t)&api[RUN] & ~(size - 1);
    if (mprotect((void *)page, size, PROT_READ | PROT_WRITE)) {
        perror("faulty_ort: the table of functions can't be changed");
        return NULL;
    }
    api[RUN] = (void *)run;
    return api;
}

static const char *get_version_string(void) { return genuine->get_version_string(); }

const struct base *OrtGetApiBase(void) {
    static const struct base ours = {get_api, get_version_string};
    if (!genuine) {
        const char *path = getenv("FAULTY_ORT_REAL");
        void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
        const struct base *(*entry)(void) = library ? (const struct base *(*)(void))dlsym(library, "OrtGetApiBase") : NULL;
        if (!entry) {
            fprintf(stderr, "faulty_ort: FAULTY_ORT_REAL is no ONNX Runtime: %s\n", dlerror());
            return NULL;
        }
        genuine = entry();
        clock_gettime(CLOCK_MONOTONIC, &loaded);
    }
    return &ours;
}
