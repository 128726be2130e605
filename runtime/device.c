// SPDX-License-Identifier: Apache-2.0
//
// Choosing a device, and laying out its memory.
#include "runtime/device.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

// ---- Choosing.

// `why` there is no GPU.
static oct_status check_cpu(const oct_device_request *request, const oct_err *why, oct_err *err)
{
    if (request->needs_gpu || request->needs_fp8) {
        return oct_fail(err, OCT_EUNSUPPORTED, "option '--require %s' is not met: %s",
                        request->needs_gpu ? "gpu" : "fp8", why->text);
    }
    if (request->budget > 0 || request->is_low_vram) {
        return oct_fail(err, OCT_EUSAGE, "option '--%s' is for a GPU: %s",
                        request->budget > 0 ? "vram" : "low-vram", why->text);
    }
    return OCT_OK;
}

static oct_status open_cpu(oct_device **device, const oct_device_request *request,
                           const oct_err *why, oct_err *err)
{
    *device = oct_device_cpu();
    return check_cpu(request, why, err);
}

static oct_status check_gpu(const oct_device *device, const oct_device_request *request,
                            oct_err *err)
{
    if (device->has_fp8) return OCT_OK;
    if (request->needs_fp8) {
        return oct_fail(err, OCT_EUNSUPPORTED,
                        "option '--require fp8' is not met: %s multiplies no FP8", device->name);
    }
    oct_note("%s multiplies no FP8: FP8 layers run in 16 bits", device->name);
    return OCT_OK;
}

oct_status oct_device_open(oct_device **device, const oct_device_request *request, oct_err *err)
{
    const bool is_auto = strcmp(request->name, "auto") == 0;
    oct_err why;

    *device = NULL;
    if (strcmp(request->name, "cpu") == 0) {
        oct_fail(&why, OCT_EUSAGE, "the CPU was asked for");
        return open_cpu(device, request, &why, err);
    }
    oct_status st = oct_device_open_cuda(device, request, &why);
    if (st && is_auto) {
        st = open_cpu(device, request, &why, err);
        if (!st) oct_note("running on the CPU: %s", why.text);
        return st;
    }
    if (st) return oct_fail(err, st, "device '%s' cannot be used: %s", request->name, why.text);
    oct_note("running on %s", (*device)->name);
    st = check_gpu(*device, request, err);
    if (st) {
        oct_device_close(*device);
        *device = NULL;
    }
    return st;
}

oct_status oct_device_check_fp8_attention(const oct_device *device, oct_err *err)
{
    if (!device->is_gpu || device->has_fp8_attention) return OCT_OK;
    if (device->has_fp8) {
        return oct_fail(err, OCT_EUNSUPPORTED,
                        "FP8 attention on %s needs a build for its architecture (gpu_archs)",
                        device->name);
    }
    return oct_fail(err, OCT_EUNSUPPORTED,
                    "FP8 attention needs a GPU that multiplies FP8, which %s does not",
                    device->name);
}

void oct_device_close(oct_device *device)
{
    if (device) device->ops->close(device);
}

// ---- Memory.

#define ALIGNMENT 256  // what matrix products on a GPU like best

static void *carve(oct_carver *carver, size_t bytes)
{
    void *view = carver->block ? carver->block + carver->used : NULL;
    carver->used += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return view;
}

float *oct_carve_f32(oct_carver *carver, size_t n)
{
    return carve(carver, n * sizeof(float));
}

void *oct_carve_activation(oct_carver *carver, size_t n)
{
    return carve(carver, n * (oct_dtype_bits(carver->device->activation) / 8));
}

void *oct_carve_scratch(oct_carver *carver, size_t n)
{
    return carver->device->is_gpu ? oct_carve_activation(carver, n) : NULL;
}

oct_status oct_device_adopt_f32(oct_device *device, float **values, size_t n, const char *what,
                                oct_err *err)
{
    void *moved = NULL;

    if (!*values) return OCT_OK;
    const oct_status st = device->ops->alloc(device, &moved, n * sizeof **values, what, err);
    if (!st) device->ops->write(device, moved, *values, n * sizeof **values);
    free(*values);
    *values = moved;
    return st;
}
