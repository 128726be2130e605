// SPDX-License-Identifier: Apache-2.0
//
// The GPU of a build without CUDA: there is none.
#include "runtime/device.h"

oct_status oct_device_open_cuda(oct_device **device, const oct_device_request *request,
                                oct_err *why)
{
    *device = NULL;
    return oct_fail(why, OCT_EUNSUPPORTED, "this build has no CUDA");
}
