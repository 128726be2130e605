// SPDX-License-Identifier: Apache-2.0
//
// kernels/cuda/conv.h with a stand-in for cuDNN (argument: its path) and the emulation in the place
// of a GPU, against the CPU's convolutions.
#include "kernels/cuda/conv.h"

#include <dlfcn.h>

#include "common/number.h"
#include "kernels/ops.h"
#include "tests/cuda/fake_cudnn.h"
#include "tests/test.h"

#define N 2048

static const char *fake_path;
static fake_cudnn_state *fake;

// Device memory is the host's.
static _Alignas(256) uint16_t x[N], weight[N], y[N];
static _Alignas(256) uint8_t workspace[4096];
static float x_wide[N], weight_wide[N], bias[N], want[N];

static float narrow(oct_dtype dtype, uint16_t *to, float value)
{
    *to = dtype == OCT_F16 ? oct_f32_to_f16(value) : oct_f32_to_bf16(value);
    return dtype == OCT_F16 ? oct_f16_to_f32(*to) : oct_bf16_to_f32(*to);
}

static void fill(oct_dtype dtype)
{
    unsigned seed = 5;
    for (size_t i = 0; i < N; i++) {
        seed = seed * 1664525u + 1013904223u;
        x_wide[i] = narrow(dtype, &x[i], (float)(int32_t)seed * 0x1p-30f);
        seed = seed * 1664525u + 1013904223u;
        weight_wide[i] = narrow(dtype, &weight[i], (float)(int32_t)seed * 0x1p-32f);
        bias[i] = (float)(i % 7) - 3;
    }
    memset(y, 0xff, sizeof y);
}

static void reset(void)
{
    *fake = (fake_cudnn_state){.version = 91900, .workspace_bytes = 1000};
}

static oct_conv_cuda *open_conv(const char *library)
{
    oct_conv_cuda *conv = NULL;
    CHECK(!oct_conv_cuda_open(&conv, library, NULL));
    return conv;
}

static void close_conv(oct_conv_cuda *conv)
{
    oct_conv_cuda_close(conv);
    CHECK(fake->live_handles == 0 && fake->live_descriptors == 0);
}

static void check_call(oct_conv_cuda *conv, oct_conv_cuda_call call)
{
    const size_t pixels = call.height * call.width / (call.is_down2 ? 4 : 1);
    const double unit = call.dtype == OCT_F16 ? 0x1p-11 : 0x1p-8;
    size_t bytes = 0;
    oct_err err = {0};

    fill(call.dtype);
    call.x = x;
    call.weight = weight;
    call.y = y;
    if (call.is_down2)
        oct_conv2d_down2(want, x_wide, OCT_F32, weight_wide, call.bias, call.in, call.out,
                         call.height, call.width);
    else
        oct_conv2d(want, x_wide, OCT_F32, weight_wide, call.bias, call.in, call.out, call.height,
                   call.width, call.kernel);
    CHECK(!oct_conv_cuda_plan(conv, &call, &bytes, &err));
    CHECK(bytes <= sizeof workspace);
    CHECK(!oct_conv_cuda_run(conv, &call, workspace, NULL, &err));
    CHECK_TEXT(err.text, "");
    for (size_t i = 0; i < call.out * pixels; i++) {
        const float got = call.dtype == OCT_F16 ? oct_f16_to_f32(y[i]) : oct_bf16_to_f32(y[i]);
        // y is rounded before the bias, which is at most 3, and behind it.
        CHECK_NEAR((double)got, (double)want[i],
                   1.01 * unit * (2 * fabs((double)want[i]) + 3) + 1e-6);
    }
}

static const oct_conv_cuda_call calls[] = {
    {.dtype = OCT_F16, .in = 3, .out = 5, .height = 6, .width = 8, .kernel = 3, .bias = bias},
    {.dtype = OCT_BF16, .in = 7, .out = 2, .height = 5, .width = 9, .kernel = 1, .bias = bias},
    {.dtype = OCT_F16, .in = 2, .out = 3, .height = 7, .width = 5, .kernel = 3},
    {.dtype = OCT_BF16,
     .in = 4,
     .out = 3,
     .height = 6,
     .width = 10,
     .kernel = 3,
     .bias = bias,
     .is_down2 = true},
};
enum { CALLS = sizeof calls / sizeof *calls };

static void cudnn_and_the_cpu_agree(void)
{
    reset();
    oct_conv_cuda *conv = open_conv(fake_path);
    CHECK_TEXT(oct_conv_cuda_library(conv), "cuDNN 9.19.0");
    for (int i = 0; i < CALLS; i++) check_call(conv, calls[i]);
    CHECK(fake->executions == CALLS);
    CHECK_TEXT(fake->refusal, "");
    close_conv(conv);
}

static void without_cudnn_the_own_kernel_and_the_cpu_agree(void)
{
    reset();
    oct_conv_cuda *conv = open_conv("/nowhere/libcudnn.so.9");
    CHECK_TEXT(oct_conv_cuda_library(conv), "own kernels");
    for (int i = 0; i < CALLS; i++) check_call(conv, calls[i]);
    CHECK(fake->executions == 0);
    close_conv(conv);
}

static void what_cudnn_refuses_the_own_kernel_does(void)
{
    reset();
    fake->refuses_asymmetry = true;
    oct_conv_cuda *conv = open_conv(fake_path);
    for (int i = 0; i < CALLS; i++) check_call(conv, calls[i]);
    CHECK(fake->executions == CALLS - 1);
    close_conv(conv);
}

static void engines_that_refuse_or_round_are_passed_over(void)
{
    reset();
    fake->refused_engines = 1;
    fake->notes[1] = 5;  // Winograd
    oct_conv_cuda *conv = open_conv(fake_path);
    check_call(conv, calls[0]);
    CHECK(fake->executions == 1 && fake->engine == 2);
    fake->notes[2] = 2;  // sums of reduced precision
    check_call(conv, calls[1]);
    CHECK(fake->executions == 1);  // none is left
    close_conv(conv);
}

static void a_library_that_fails_is_an_error(void)
{
    oct_conv_cuda *conv = NULL;
    size_t bytes = 0;
    oct_err err = {0};

    reset();
    fake->handle_status = 1001;
    CHECK(oct_conv_cuda_open(&conv, fake_path, &err) == OCT_EDEVICE);
    CHECK_TEXT(err.text, "cuDNN: a handle: FAKE_STATUS (status 1001)");
    CHECK(!conv);
    reset();
    conv = open_conv(fake_path);
    oct_conv_cuda_call call = calls[0];
    call.x = x;
    call.weight = weight;
    call.y = y;
    CHECK(oct_conv_cuda_run(conv, &call, workspace, NULL, &err) == OCT_EDEVICE);
    CHECK_TEXT(err.text, "no plan for a convolution of 3 channels of 6x8");
    CHECK(!oct_conv_cuda_plan(conv, &call, &bytes, &err));
    CHECK(bytes == 1000);
    fake->execute_status = 5000;
    CHECK(oct_conv_cuda_run(conv, &call, workspace, NULL, &err) == OCT_EDEVICE);
    CHECK_TEXT(err.text, "cuDNN: a convolution: FAKE_STATUS (status 5000)");
    close_conv(conv);
}

int main(int argc, char **argv)
{
    fake_path = argc > 1 ? argv[1] : "";
    void *library = dlopen(fake_path, RTLD_NOW);
    if (library) fake = dlsym(library, "fake_cudnn");
    if (!fake) {
        printf("Bail out! %s\n", dlerror());
        return 3;
    }
    RUN(cudnn_and_the_cpu_agree);
    RUN(without_cudnn_the_own_kernel_and_the_cpu_agree);
    RUN(what_cudnn_refuses_the_own_kernel_does);
    RUN(engines_that_refuse_or_round_are_passed_over);
    RUN(a_library_that_fails_is_an_error);
    return test_end();
}
