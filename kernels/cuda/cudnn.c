// SPDX-License-Identifier: Apache-2.0
//
// Loading of cuDNN.
#include "kernels/cuda/cudnn.h"

#include <dlfcn.h>

#define LIBRARY "libcudnn.so.9"
#define VERSION_MIN 90000
#define VERSION_END 100000

static oct_status find(const oct_cudnn *cudnn, void *function, const char *name, oct_err *err)
{
    void **to = function;  // POSIX lets a pointer to data hold one to a function
    *to = dlsym(cudnn->library, name);
    return *to ? OCT_OK : oct_fail(err, OCT_EUNSUPPORTED, "no function '%s'", name);
}

static oct_status find_all(oct_cudnn *cudnn, oct_err *err)
{
    const struct {
        void *function;
        const char *name;
    } wanted[] = {
        {&cudnn->error_string, "cudnnGetErrorString"},
        {&cudnn->create, "cudnnCreate"},
        {&cudnn->destroy, "cudnnDestroy"},
        {&cudnn->set_stream, "cudnnSetStream"},
        {&cudnn->create_descriptor, "cudnnBackendCreateDescriptor"},
        {&cudnn->destroy_descriptor, "cudnnBackendDestroyDescriptor"},
        {&cudnn->finalize, "cudnnBackendFinalize"},
        {&cudnn->set_attribute, "cudnnBackendSetAttribute"},
        {&cudnn->get_attribute, "cudnnBackendGetAttribute"},
        {&cudnn->execute, "cudnnBackendExecute"},
    };
    oct_status st = OCT_OK;

    for (size_t i = 0; i < sizeof wanted / sizeof *wanted && !st; i++)
        st = find(cudnn, wanted[i].function, wanted[i].name, err);
    return st;
}

static oct_status check_version(oct_cudnn *cudnn, oct_err *err)
{
    size_t (*get_version)(void) = NULL;
    const oct_status st = find(cudnn, &get_version, "cudnnGetVersion", err);
    if (st) return st;
    cudnn->version = get_version();
    if (cudnn->version >= VERSION_MIN && cudnn->version < VERSION_END) return OCT_OK;
    return oct_fail(err, OCT_EUNSUPPORTED, "version %zu is not in %d..%d", cudnn->version,
                    VERSION_MIN, VERSION_END - 1);
}

oct_status oct_cudnn_load(oct_cudnn *cudnn, const char *path, oct_err *err)
{
    *cudnn = (oct_cudnn){0};
    if (!path) path = LIBRARY;
    cudnn->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!cudnn->library) return oct_fail(err, OCT_EUNSUPPORTED, "no cuDNN ('%s')", path);
    oct_status st = check_version(cudnn, err);
    if (!st) st = find_all(cudnn, err);
    if (!st) return OCT_OK;
    oct_cudnn_close(cudnn);
    return oct_wrap(err, st, "cannot use '%s'", path);
}

oct_status oct_cudnn_open(oct_cudnn *cudnn, const char *path, oct_err *err)
{
    oct_status st = oct_cudnn_load(cudnn, path, err);
    if (st) return st;
    st = oct_cudnn_fail(cudnn, cudnn->create(&cudnn->handle), "a handle", err);
    if (st) {
        cudnn->handle = NULL;
        oct_cudnn_close(cudnn);
    }
    return st;
}

void oct_cudnn_close(oct_cudnn *cudnn)
{
    if (cudnn->handle) cudnn->destroy(cudnn->handle);
    if (cudnn->library) dlclose(cudnn->library);
    *cudnn = (oct_cudnn){0};
}

oct_status oct_cudnn_fail(const oct_cudnn *cudnn, int status, const char *what, oct_err *err)
{
    if (!status) return OCT_OK;
    return oct_fail(err, OCT_EDEVICE, "cuDNN: %s: %s (status %d)", what,
                    cudnn->error_string(status), status);
}
