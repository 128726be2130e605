// SPDX-License-Identifier: Apache-2.0
//
// Loading of cuBLASLt.
#include "kernels/cuda/cublaslt.h"

#include <dlfcn.h>

#define VERSION_MIN 120000

static oct_status find_all(oct_cublaslt *library, void *handle, oct_err *err)
{
    const struct {
        void *function;
        const char *name;
    } wanted[] = {
        {&library->create, "cublasLtCreate"},
        {&library->destroy, "cublasLtDestroy"},
        {&library->version, "cublasLtGetVersion"},
        {&library->status_name, "cublasLtGetStatusName"},
        {&library->layout_create, "cublasLtMatrixLayoutCreate"},
        {&library->layout_destroy, "cublasLtMatrixLayoutDestroy"},
        {&library->desc_create, "cublasLtMatmulDescCreate"},
        {&library->desc_destroy, "cublasLtMatmulDescDestroy"},
        {&library->desc_set, "cublasLtMatmulDescSetAttribute"},
        {&library->preference_create, "cublasLtMatmulPreferenceCreate"},
        {&library->preference_destroy, "cublasLtMatmulPreferenceDestroy"},
        {&library->preference_set, "cublasLtMatmulPreferenceSetAttribute"},
        {&library->heuristic, "cublasLtMatmulAlgoGetHeuristic"},
        {&library->check, "cublasLtMatmulAlgoCheck"},
        {&library->matmul, "cublasLtMatmul"},
    };

    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void **to = wanted[i].function;  // POSIX lets a pointer to data hold one to a function
        *to = dlsym(handle, wanted[i].name);
        if (!*to) return oct_fail(err, OCT_EUNSUPPORTED, "no function '%s'", wanted[i].name);
    }
    return OCT_OK;
}

static void *open_first(const char *path, const char **name)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
    void *handle = NULL;

    *name = path ? path : names[0];
    if (path) return dlopen(path, RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; i < sizeof names / sizeof *names && !handle; i++) {
        handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (handle) *name = names[i];
    }
    return handle;
}

oct_status oct_cublaslt_load(oct_cublaslt *library, const char *path, oct_err *err)
{
    const char *name = NULL;
    void *handle = open_first(path, &name);

    *library = (oct_cublaslt){0};
    if (!handle) return oct_fail(err, OCT_EUNSUPPORTED, "no cuBLASLt ('%s')", name);
    oct_status st = find_all(library, handle, err);
    if (!st && library->version() < VERSION_MIN)
        st = oct_fail(err, OCT_EUNSUPPORTED, "version %zu is below %d", library->version(),
                      VERSION_MIN);
    return st ? oct_wrap(err, st, "cannot use '%s'", name) : OCT_OK;
}

oct_status oct_cublaslt_fail(const oct_cublaslt *library, int status, const char *what,
                             oct_err *err)
{
    if (!status) return OCT_OK;
    return oct_fail(err, OCT_EDEVICE, "cuBLASLt: %s: %s (status %d)", what,
                    library->status_name(status), status);
}
