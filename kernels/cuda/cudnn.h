// SPDX-License-Identifier: Apache-2.0
//
// cuDNN 9, loaded at run time: its backend interface in plain C. No header of cuDNN is needed to
// build; descriptors and attributes are numbers, which its users name (cuDNN promises to keep them
// within version 9).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

typedef struct CUstream_st *oct_stream;

// A zeroed one is valid and closed. The functions return 0 or a cudnnStatus_t, which
// oct_cudnn_fail() turns into a sentence.
typedef struct oct_cudnn {
    void *library;
    void *handle;    // of the GPU that was current at oct_cudnn_open()
    size_t version;  // 91900 is 9.19.0
    const char *(*error_string)(int status);
    int (*create)(void **handle);
    int (*destroy)(void *handle);
    int (*set_stream)(void *handle, oct_stream stream);
    int (*create_descriptor)(int type, void **descriptor);
    int (*destroy_descriptor)(void *descriptor);
    int (*finalize)(void *descriptor);
    int (*set_attribute)(void *descriptor, int name, int type, int64_t count, const void *values);
    int (*get_attribute)(void *descriptor, int name, int type, int64_t room, int64_t *count,
                         void *values);
    int (*execute)(void *handle, void *plan, void *pack);
} oct_cudnn;

// Load `path`, NULL for libcudnn.so.9, and make a handle on the current GPU. OCT_EUNSUPPORTED when
// the library is absent or too old, OCT_EDEVICE when it refuses a handle.
oct_status oct_cudnn_open(oct_cudnn *cudnn, const char *path, oct_err *err);
void oct_cudnn_close(oct_cudnn *cudnn);  // fine on a closed one

// The same without a handle: descriptors can be made, plans need a GPU.
oct_status oct_cudnn_load(oct_cudnn *cudnn, const char *path, oct_err *err);

// OCT_OK for status 0, else OCT_EDEVICE and "cuDNN: <what>: <its words> (status N)".
oct_status oct_cudnn_fail(const oct_cudnn *cudnn, int status, const char *what, oct_err *err);
