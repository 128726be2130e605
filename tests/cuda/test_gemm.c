// SPDX-License-Identifier: Apache-2.0
//
// kernels/cuda/gemm.h over a library of our own (fake_cublaslt.h) and the emulated CUDA runtime,
// against the CPU's products.
#include "kernels/cuda/gemm.h"

#include <dlfcn.h>
#include <stdlib.h>

#include "common/file.h"
#include "common/log.h"
#include "common/number.h"
#include "kernels/kernels.h"
#include "kernels/ops.h"
#include "tests/cuda/emulated_runtime.h"
#include "tests/cuda/fake_cublaslt.h"
#include "tests/test.h"
#include "tests/tools/scratch.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *library;  // path of the fake
static fake_cublaslt *fake;
static oct_gemm_cuda *gemm;
static void *workspace;
static size_t workspace_bytes;
static bool keeps_workspace;
static char cache[512];  // a file of plans, or "": none
static uint64_t seed;

static void begin_on(int sm)
{
    *fake = (fake_cublaslt){.sm = sm};
    emulated_reset((emulated_device){
        .n_devices = 1, .major = sm / 10, .minor = sm % 10, .bytes = (size_t)512 << 20});
}

static oct_status open_gemm(oct_gemm_cuda_params params, oct_err *err)
{
    if (!params.device_name) params.device_name = "Emulated GPU";
    if (!params.sm) params.sm = fake->sm;
    if (!params.library) params.library = library;
    params.multiprocessors = 4;
    params.cache = cache[0] ? cache : NULL;
    return oct_gemm_cuda_open(&gemm, &params, err);
}

static void begin(int sm)
{
    oct_err err = {0};
    begin_on(sm);
    CHECK(!open_gemm((oct_gemm_cuda_params){0}, &err));
    CHECK_TEXT(err.text, "");
}

static void end(void)
{
    cudaFree(workspace);
    workspace = NULL;
    workspace_bytes = 0;
    oct_gemm_cuda_close(gemm);
    gemm = NULL;
    CHECK(!emulated_finish());
    CHECK(fake->handles == 0 && fake->objects == 0);
}

// ---- Products with numbers.

static float uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(seed >> 40) / (1 << 23) - 1);
}

static void *to_device(const void *from, size_t bytes)
{
    void *to = NULL;
    CHECK(!cudaMalloc(&to, bytes));
    CHECK(!cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
    return to;
}

static void store(void *to, oct_dtype dtype, size_t i, float value)
{
    if (dtype == OCT_F32) ((float *)to)[i] = value;
    if (dtype == OCT_F16) ((uint16_t *)to)[i] = oct_f32_to_f16(value);
    if (dtype == OCT_BF16) ((uint16_t *)to)[i] = oct_f32_to_bf16(value);
    if (dtype == OCT_F8_E4M3) ((uint8_t *)to)[i] = oct_f32_to_e4m3(value);
    if (dtype == OCT_F8_E5M2) ((uint8_t *)to)[i] = oct_f32_to_e5m2(value);
}

static float load(const void *from, oct_dtype dtype, size_t i)
{
    if (dtype == OCT_F32) return ((const float *)from)[i];
    if (dtype == OCT_F16) return oct_f16_to_f32(((const uint16_t *)from)[i]);
    if (dtype == OCT_BF16) return oct_bf16_to_f32(((const uint16_t *)from)[i]);
    if (dtype == OCT_F8_E5M2) return oct_e5m2_to_f32(((const uint8_t *)from)[i]);
    return oct_e4m3_to_f32(((const uint8_t *)from)[i]);
}

// Numbers of a type, widened again to `wide`; the device's copy.
static void *random_numbers(oct_dtype dtype, size_t n, float largest, float *wide)
{
    void *stored = calloc(n, sizeof(float));
    for (size_t i = 0; i < n; i++) {
        store(stored, dtype, i, largest * uniform());
        wide[i] = load(stored, dtype, i);
    }
    void *on_device = to_device(stored, oct_dtype_bits(dtype) / 8 * n);
    free(stored);
    return on_device;
}

typedef struct sample {  // a call with its numbers
    oct_gemm_cuda_call call;
    float *x, *w, *bias, *row_scales;  // as binary32
    float x_scale;
} sample;

static float *floats(size_t n)
{
    return calloc(n, sizeof(float));
}

static void *empty(size_t bytes)
{
    void *p = NULL;
    CHECK(!cudaMalloc(&p, bytes));
    return p;
}

// Exactly what the call wants; it costs some time to make, so a larger one is kept where calls are
// many.
static void fit_workspace(const oct_gemm_cuda_call *call)
{
    const size_t bytes = oct_gemm_cuda_bytes(gemm, call);
    if (workspace_bytes == bytes || (keeps_workspace && workspace_bytes > bytes)) return;
    cudaFree(workspace);
    workspace_bytes = bytes + (keeps_workspace ? 1 << 20 : 0);
    workspace = empty(workspace_bytes);
}

static sample make_sample(oct_gemm_cuda_call call, bool has_row_scales)
{
    const bool is_fp8 = call.x.dtype == OCT_F8_E4M3, has_codes = oct_dtype_bits(call.w.dtype) == 8;
    sample s = {.call = call,
                .x = floats(call.m * call.k),
                .w = floats(call.n * call.k),
                .bias = floats(call.n),
                .row_scales = floats(call.n),
                .x_scale = 1};
    oct_gemm_cuda_call *c = &s.call;

    c->x.data = random_numbers(c->x.dtype, c->m * c->k, is_fp8 ? 448 : 3, s.x);
    c->w.data = random_numbers(c->w.dtype, c->n * c->k, has_codes ? 448 : 1, s.w);
    c->w.scale = has_codes ? 0.0021f : 1;
    if (is_fp8) {
        s.x_scale = 0.0067f;
        c->x.scale = to_device(&s.x_scale, sizeof s.x_scale);
    }
    for (size_t i = 0; i < c->n; i++)
        s.row_scales[i] = has_row_scales ? 0.6f + 0.4f * uniform() : 1;
    if (has_row_scales) c->w.row_scales = to_device(s.row_scales, c->n * sizeof(float));
    if (c->bias.dtype) c->bias.data = random_numbers(c->bias.dtype, c->n, 2, s.bias);
    c->y.data = empty(c->m * c->n * sizeof(float));
    fit_workspace(c);
    return s;
}

static void release(sample *s)
{
    cudaFree((void *)s->call.x.data);
    cudaFree((void *)s->call.x.scale);
    cudaFree((void *)s->call.w.data);
    cudaFree((void *)s->call.w.row_scales);
    cudaFree((void *)s->call.bias.data);
    cudaFree(s->call.y.data);
    free(s->x);
    free(s->w);
    free(s->bias);
    free(s->row_scales);
}

static void multiply_on_cpu(const sample *s, float *y, float *before_gelu)
{
    const oct_gemm_cuda_call *c = &s->call;
    const oct_gemm_weight w = {.dtype = OCT_F32,
                               .data = s->w,
                               .scale = c->w.scale * s->x_scale,
                               .row_scales = c->w.row_scales ? s->row_scales : NULL};

    oct_gemm_scaled(before_gelu, s->x, &w, s->bias, c->m, c->n, c->k);
    memcpy(y, before_gelu, c->m * c->n * sizeof *y);
    if (c->has_gelu) oct_activate(y, OCT_GELU_TANH, c->m * c->n);
}

// What the terms of a sum add up to without their signs.
static double magnitude(const sample *s, size_t row, size_t col)
{
    const oct_gemm_cuda_call *c = &s->call;
    double sum = 0;
    for (size_t k = 0; k < c->k; k++)
        sum += fabs((double)s->x[row * c->k + k] * (double)s->w[col * c->k + k]);
    return sum * (double)(c->w.scale * s->x_scale * s->row_scales[col]);
}

static double unit(oct_dtype dtype)
{
    return dtype == OCT_F32 ? 0x1p-24 : dtype == OCT_F16 ? 0x1p-11 : 0x1p-8;
}

// y is rounded once or, where our own pass follows, before the scale and again behind the bias;
// sums of binary32 in another order differ by 2^-22 of their magnitude at most.
static size_t count_wrong(const sample *s)
{
    const oct_gemm_cuda_call *c = &s->call;
    const size_t n = c->m * c->n;
    const double u = 1.01 * unit(c->y.dtype);
    float *want = floats(n), *sum = floats(n), *got = floats(n);
    size_t wrong = 0;

    multiply_on_cpu(s, want, sum);
    CHECK(!cudaMemcpy(got, c->y.data, oct_dtype_bits(c->y.dtype) / 8 * n, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < n; i++) {
        const float value = load(got, c->y.dtype, i);
        const double bare = fabs((double)sum[i]) + fabs((double)s->bias[i % c->n]);
        const double bound = u * (fabs((double)want[i]) + 1.13 * bare) +
                             0x1p-22 * magnitude(s, i / c->n, i % c->n) + 1e-7;
        wrong += !(fabs((double)value - (double)want[i]) <= bound);
    }
    free(want);
    free(sum);
    free(got);
    return wrong;
}

static void run_sample(const sample *s, oct_gemm_path want)
{
    oct_err err = {0};
    oct_gemm_path path = (oct_gemm_path)-1;

    CHECK(!oct_gemm_cuda_plan(gemm, &s->call, workspace, NULL, &err));
    CHECK(!oct_gemm_cuda_run(gemm, &s->call, workspace, NULL, &path, &err));
    CHECK_TEXT(err.text, "");
    CHECK(path == want);
}

typedef struct types {
    oct_dtype x, w, y;
    oct_gemm_path path;
} types;

static const types all_types[] = {
    {OCT_F32, OCT_F32, OCT_F32, OCT_GEMM_F32},
    {OCT_F32, OCT_F16, OCT_F32, OCT_GEMM_F32},
    {OCT_F32, OCT_BF16, OCT_F32, OCT_GEMM_F32},
    {OCT_F16, OCT_F16, OCT_F16, OCT_GEMM_16BIT},
    {OCT_F16, OCT_F16, OCT_F32, OCT_GEMM_16BIT},
    {OCT_BF16, OCT_BF16, OCT_BF16, OCT_GEMM_16BIT},
    {OCT_BF16, OCT_BF16, OCT_F32, OCT_GEMM_16BIT},
    {OCT_F8_E4M3, OCT_F8_E4M3, OCT_F16, OCT_GEMM_FP8},
    {OCT_F8_E4M3, OCT_F8_E4M3, OCT_BF16, OCT_GEMM_FP8},
    {OCT_F8_E4M3, OCT_F8_E4M3, OCT_F32, OCT_GEMM_FP8},
    {OCT_F32, OCT_F8_E4M3, OCT_F32, OCT_GEMM_FP8_WIDENED},
    {OCT_F16, OCT_F8_E4M3, OCT_F16, OCT_GEMM_FP8_WIDENED},
    {OCT_F16, OCT_F8_E4M3, OCT_F32, OCT_GEMM_FP8_WIDENED},
    {OCT_F16, OCT_F8_E5M2, OCT_F16, OCT_GEMM_FP8_WIDENED},
    {OCT_BF16, OCT_F8_E4M3, OCT_BF16, OCT_GEMM_FP8_WIDENED},
    {OCT_BF16, OCT_F8_E4M3, OCT_F32, OCT_GEMM_FP8_WIDENED},
};

static const struct {
    size_t m, n, k;
} shapes[] = {{1, 16, 16}, {7, 48, 64}, {33, 16, 160}};

// Every pair of types with every set of epilogues: biases of each type, row scales, GELU.
static void check_types(const types *t, int sm)
{
    static const oct_dtype biases[] = {OCT_BOOL, OCT_F16, OCT_BF16, OCT_F32};  // BOOL: none

    for (size_t i = 0; i < COUNT(biases) * 4; i++) {
        const size_t shape = i % COUNT(shapes);
        const oct_gemm_cuda_call call = {.m = shapes[shape].m,
                                         .n = shapes[shape].n,
                                         .k = shapes[shape].k,
                                         .x.dtype = t->x,
                                         .w.dtype = t->w,
                                         .y.dtype = t->y,
                                         .bias.dtype = biases[i / 4],
                                         .has_gelu = i & 1};
        sample s = make_sample(call, i & 2);
        run_sample(&s, t->path);
        const size_t wrong = count_wrong(&s);
        if (wrong > 0)
            printf("# sm_%d: %zu wrong of %s x %s to %s, case %zu\n", sm, wrong,
                   oct_dtype_name(t->x), oct_dtype_name(t->w), oct_dtype_name(t->y), i);
        CHECK(wrong == 0);
        release(&s);
    }
}

static void every_combination_agrees_with_the_cpu(void)
{
    static const int sms[] = {80, 89, 90, 120};

    keeps_workspace = true;
    for (size_t i = 0; i < COUNT(sms); i++) {
        begin(sms[i]);
        for (size_t t = 0; t < COUNT(all_types); t++) {
            if ((all_types[t].path == OCT_GEMM_FP8) != (sms[i] >= 89))
                continue;  // others are alike
            check_types(&all_types[t], sms[i]);
        }
        end();
    }
    keeps_workspace = false;
}

static void a_null_scale_is_one(void)
{
    begin(90);
    for (int i = 0; i < 2; i++) {
        sample s = make_sample((oct_gemm_cuda_call){.m = 5,
                                                    .n = 16,
                                                    .k = 32,
                                                    .x.dtype = OCT_F8_E4M3,
                                                    .w.dtype = OCT_F8_E4M3,
                                                    .y.dtype = OCT_F32},
                               i);
        cudaFree((void *)s.call.x.scale);
        s.call.x.scale = NULL;
        s.x_scale = 1;
        run_sample(&s, OCT_GEMM_FP8);
        CHECK(count_wrong(&s) == 0);
        release(&s);
    }
    end();
}

// ---- What is refused.

static void combinations_without_a_path_are_refused(void)
{
    static const types bad[] = {
        {OCT_F16, OCT_BF16, OCT_F16, 0},
        {OCT_F16, OCT_F16, OCT_BF16, 0},
        {OCT_F32, OCT_F32, OCT_F16, 0},
        {OCT_F8_E4M3, OCT_F16, OCT_F16, 0},
        {OCT_F8_E4M3, OCT_F8_E4M3, OCT_F8_E4M3, 0},
        {OCT_F8_E4M3, OCT_F8_E5M2, OCT_F16, 0},
    };
    oct_err err = {0};

    begin(90);
    for (size_t i = 0; i < COUNT(bad); i++) {
        const oct_gemm_cuda_call call = {.m = 1,
                                         .n = 16,
                                         .k = 16,
                                         .x.dtype = bad[i].x,
                                         .w.dtype = bad[i].w,
                                         .y.dtype = bad[i].y};
        CHECK(oct_gemm_cuda_plan(gemm, &call, NULL, NULL, &err) == OCT_EUNSUPPORTED);
        CHECK(oct_gemm_cuda_run(gemm, &call, NULL, NULL, NULL, &err) == OCT_EUNSUPPORTED);
    }
    CHECK_TEXT(err.text, "no product of F8_E4M3 and F8_E5M2 into F16");
    end();
}

static void fp8_wants_its_hardware_and_multiples_of_16(void)
{
    const oct_gemm_cuda_call call = {.m = 1,
                                     .n = 24,
                                     .k = 16,
                                     .x.dtype = OCT_F8_E4M3,
                                     .w.dtype = OCT_F8_E4M3,
                                     .y.dtype = OCT_F16};
    oct_err err = {0};

    begin(89);
    CHECK(oct_gemm_cuda_has_fp8(gemm, 32, 16));
    CHECK(!oct_gemm_cuda_has_fp8(gemm, 24, 16) && !oct_gemm_cuda_has_fp8(gemm, 32, 8));
    CHECK(oct_gemm_cuda_plan(gemm, &call, NULL, NULL, &err) == OCT_EUNSUPPORTED);
    CHECK_TEXT(err.text, "no FP8 product of [24][16] weights on sm_89: wants sm_89 and multiples "
                         "of 16");
    end();
    begin(86);
    CHECK(!oct_gemm_cuda_has_fp8(gemm, 32, 16));
    end();
}

static oct_gemm_cuda_call simple(void)
{
    return (oct_gemm_cuda_call){.m = 3,
                                .n = 16,
                                .k = 32,
                                .x.dtype = OCT_F16,
                                .w.dtype = OCT_F16,
                                .y.dtype = OCT_F16,
                                .bias.dtype = OCT_F16};
}

static void a_launch_without_a_plan_is_an_error(void)
{
    oct_err err = {0};

    begin(90);
    sample s = make_sample(simple(), false);
    CHECK(oct_gemm_cuda_run(gemm, &s.call, workspace, NULL, NULL, &err) == OCT_EDEVICE);
    CHECK_TEXT(err.text, "no plan for the product 3x16x32 F16 to F16 bias F16");
    run_sample(&s, OCT_GEMM_16BIT);
    s.call.m = 2;
    CHECK(oct_gemm_cuda_run(gemm, &s.call, workspace, NULL, NULL, &err) == OCT_EDEVICE);
    release(&s);
    end();
}

static void candidates_that_fail_when_launched_are_passed_over(void)
{
    oct_err err = {0};

    begin(90);
    fake->refused_runs = 3;  // the first two
    sample s = make_sample(simple(), false);
    run_sample(&s, OCT_GEMM_16BIT);
    CHECK(fake->algorithm == 2);
    CHECK(count_wrong(&s) == 0);
    fake->refuses_all = true;
    s.call.m = 2;
    CHECK(oct_gemm_cuda_plan(gemm, &s.call, workspace, NULL, &err) == OCT_EUNSUPPORTED);
    CHECK_TEXT(err.text, "cuBLASLt 13.1.0 has no algorithm for the product 2x16x32 F16 to F16 bias "
                         "F16 on 'Emulated GPU'");
    fake->refuses_all = false;
    fake->refused_runs = 15;
    s.call.m = 3;
    CHECK(oct_gemm_cuda_run(gemm, &s.call, workspace, NULL, NULL, &err) == OCT_EDEVICE);
    CHECK_TEXT(err.text, "cuBLASLt: 3x16x32 F16 to F16 bias F16: CUBLAS_STATUS_NOT_SUPPORTED "
                         "(status 15)");
    release(&s);
    end();
}

static void a_library_that_is_missing_or_broken_is_one_sentence(void)
{
    oct_err err = {0};

    begin_on(90);
    CHECK(open_gemm((oct_gemm_cuda_params){.library = "/nowhere/libcublasLt.so.13"}, &err) ==
          OCT_EUNSUPPORTED);
    CHECK_TEXT(err.text, "no cuBLASLt ('/nowhere/libcublasLt.so.13')");
    CHECK(!gemm);
    CHECK(open_gemm((oct_gemm_cuda_params){.library = "libm.so.6"}, &err) == OCT_EUNSUPPORTED);
    CHECK_TEXT(err.text, "cannot use 'libm.so.6': no function 'cublasLtCreate'");
    fake->version = 110805;
    CHECK(open_gemm((oct_gemm_cuda_params){0}, &err) == OCT_EUNSUPPORTED);
    CHECK(strstr(err.text, "version 110805 is below 120000"));
    fake->version = 0;
    fake->refuses_handle = true;
    CHECK(open_gemm((oct_gemm_cuda_params){0}, &err) == OCT_EDEVICE);
    CHECK_TEXT(err.text, "cuBLASLt: a handle: CUBLAS_STATUS_NOT_INITIALIZED (status 1)");
    CHECK(!gemm && fake->handles == 0 && fake->objects == 0);
}

// ---- How the work is divided.

static void plan_and_check(oct_gemm_cuda_call call, bool has_row_scales, int epilogue)
{
    oct_err err = {0};
    sample s = make_sample(call, has_row_scales);

    CHECK(!oct_gemm_cuda_plan(gemm, &s.call, workspace, NULL, &err));
    CHECK(!oct_gemm_cuda_run(gemm, &s.call, workspace, NULL, NULL, &err));
    CHECK(fake->epilogue == epilogue);
    CHECK(count_wrong(&s) == 0);
    release(&s);
}

enum { DEFAULT = 1, BIAS = 4, GELU_BIAS = 36 };

static void the_library_does_what_it_can(void)
{
    oct_gemm_cuda_call call = {.m = 3,
                               .n = 16,
                               .k = 32,
                               .x.dtype = OCT_F8_E4M3,
                               .w.dtype = OCT_F8_E4M3,
                               .y.dtype = OCT_F16,
                               .bias.dtype = OCT_F16,
                               .has_gelu = true};

    begin(90);
    plan_and_check(call, true, GELU_BIAS);
    end();
    begin(89);  // no GELU with FP8, no outer vectors
    plan_and_check(call, false, BIAS);
    plan_and_check(call, true, DEFAULT);
    end();
    begin_on(90);
    fake->version = 120800;  // before outer vectors
    CHECK(!open_gemm((oct_gemm_cuda_params){0}, NULL));
    plan_and_check(call, true, DEFAULT);
    end();
    begin(90);
    call.bias.dtype = OCT_F32;  // not y's type
    plan_and_check(call, true, DEFAULT);
    call.y.dtype = OCT_F32;
    call.bias.dtype = oct_gemm_cuda_bias_dtype(OCT_F8_E4M3, OCT_F32);
    CHECK(call.bias.dtype == OCT_BF16);
    plan_and_check(call, false, GELU_BIAS);
    end();
}

static void precision_is_given_up_only_on_request(void)
{
    const oct_gemm_cuda_call fp32 = {
        .m = 3, .n = 16, .k = 32, .x.dtype = OCT_F32, .w.dtype = OCT_F32, .y.dtype = OCT_F32};
    const oct_gemm_cuda_call fp8 = {.m = 3,
                                    .n = 16,
                                    .k = 32,
                                    .x.dtype = OCT_F8_E4M3,
                                    .w.dtype = OCT_F8_E4M3,
                                    .y.dtype = OCT_F16};

    begin(90);
    plan_and_check(fp32, false, DEFAULT);
    CHECK(fake->compute_type == 68);
    CHECK(fake->reduction_mask == 2);  // partial sums in binary32
    plan_and_check(fp8, false, DEFAULT);
    CHECK(!fake->was_fast);
    end();
    begin_on(90);
    CHECK(!open_gemm((oct_gemm_cuda_params){.is_tf32 = true, .is_fast_fp8 = true}, NULL));
    plan_and_check(fp32, false, DEFAULT);
    CHECK(fake->compute_type == 77);
    plan_and_check(fp8, false, DEFAULT);
    CHECK(fake->was_fast);
    end();
}

// ---- Graphs and streams.

static void launches_may_be_captured(void)
{
    cudaStream_t stream = NULL;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;

    for (size_t t = 0; t < COUNT(all_types); t++) {
        begin(90);
        CHECK(!cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        oct_gemm_cuda_call call = simple();
        call.x.dtype = all_types[t].x;
        call.w.dtype = all_types[t].w;
        call.y.dtype = all_types[t].y;
        sample s = make_sample(call, true);
        CHECK(!oct_gemm_cuda_plan(gemm, &s.call, workspace, stream, NULL));
        CHECK(!cudaMemsetAsync(s.call.y.data, 0xff, 2 * s.call.m * s.call.n, stream));
        CHECK(!cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        CHECK(!oct_gemm_cuda_plan(gemm, &s.call, workspace, stream, NULL));  // is planned already
        CHECK(!oct_gemm_cuda_run(gemm, &s.call, workspace, stream, NULL, NULL));
        CHECK(!cudaStreamEndCapture(stream, &graph));
        CHECK(!cudaGraphInstantiate(&exec, graph, 0));
        for (int i = 0; i < 2; i++) {
            CHECK(!cudaGraphLaunch(exec, stream));
            CHECK(!cudaStreamSynchronize(stream));
            CHECK(count_wrong(&s) == 0);
        }
        CHECK(!cudaGraphExecDestroy(exec));
        CHECK(!cudaGraphDestroy(graph));
        release(&s);
        end();
    }
}

static void streams_with_a_workspace_each_do_not_meet(void)
{
    cudaStream_t streams[2];
    oct_gemm_cuda_call call = simple();

    call.w.dtype = OCT_F8_E4M3;  // widened into the workspace
    for (int order = 0; order < EMULATED_ORDERS; order++) {
        begin(90);
        emulated_set_order((emulated_order)order);
        sample samples[2] = {make_sample(call, false), make_sample(call, false)};
        void *other = empty(oct_gemm_cuda_bytes(gemm, &call));
        CHECK(!oct_gemm_cuda_plan(gemm, &samples[0].call, workspace, NULL, NULL));
        for (int i = 0; i < 2; i++) {
            CHECK(!cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking));
            CHECK(!oct_gemm_cuda_run(gemm, &samples[i].call, i ? other : workspace, streams[i],
                                     NULL, NULL));
        }
        CHECK(!cudaDeviceSynchronize());
        for (int i = 0; i < 2; i++) {
            CHECK(count_wrong(&samples[i]) == 0);
            release(&samples[i]);
        }
        cudaFree(other);
        end();
    }
}

// ---- The file of plans.

static char *folder;

static void begin_with_file(void)
{
    folder = oct_scratch_make();
    snprintf(cache, sizeof cache, "%s/deep/plans.json", folder);
    begin(90);
}

static void end_with_file(void)
{
    end();
    oct_scratch_remove(folder);
    cache[0] = '\0';
}

static void slow_first(void)
{
    const float ms[FAKE_ALGORITHMS] = {4, 3, 1, 2};
    memcpy(fake->ms, ms, sizeof ms);
}

static void plan_once(oct_gemm_cuda_call call)
{
    sample s = make_sample(call, false);
    run_sample(&s, OCT_GEMM_16BIT);
    CHECK(count_wrong(&s) == 0);
    release(&s);
}

static void reopen(void)
{
    oct_gemm_cuda_close(gemm);
    fake->heuristics = fake->launches = fake->checks = 0;
    CHECK(!open_gemm((oct_gemm_cuda_params){0}, NULL));
}

static void the_fastest_candidate_is_taken_and_remembered(void)
{
    begin_with_file();
    slow_first();
    plan_once(simple());
    CHECK(fake->algorithm == 2 && fake->heuristics == 1);
    reopen();
    memset(fake->ms, 0, sizeof fake->ms);  // another day, another measurement
    plan_once(simple());
    CHECK(fake->algorithm == 2 && fake->heuristics == 0 && fake->checks == 1);
    CHECK(fake->launches == 2);  // once to see that it works, once for us
    end_with_file();
}

static void without_a_file_nothing_is_timed(void)
{
    cache[0] = '\0';
    begin(90);
    slow_first();
    plan_once(simple());
    CHECK(fake->algorithm == 0 && fake->launches == 2);
    end();
    snprintf(cache, sizeof cache, "/proc/nowhere/plans.json");  // cannot be written
    begin(90);
    slow_first();
    plan_once(simple());
    CHECK(fake->algorithm == 0 && fake->launches == 2);
    end();
    cache[0] = '\0';
}

static void gelu_is_fused_where_that_is_faster(void)
{
    oct_gemm_cuda_call call = simple();

    call.has_gelu = true;
    begin_with_file();
    fake->gelu_ms = 1;
    plan_once(call);
    CHECK(fake->epilogue == BIAS);
    reopen();
    plan_once(call);
    CHECK(fake->epilogue == BIAS && fake->heuristics == 0);
    end_with_file();
    begin_with_file();
    plan_once(call);
    CHECK(fake->epilogue == GELU_BIAS);
    end_with_file();
}

static char *read_plans(oct_arena *arena, size_t *bytes)
{
    char *text = NULL;
    CHECK(!oct_file_read_text(arena, cache, 1 << 20, &text, bytes, NULL));
    return text;
}

// Put `bytes` of text into the file, open, plan: whether the algorithm had to be found again.
static bool is_planned_anew(const char *text, size_t bytes)
{
    CHECK(!oct_file_write(cache, text, bytes, NULL));
    fake->heuristics = 0;
    CHECK(!open_gemm((oct_gemm_cuda_params){0}, NULL));
    plan_once(simple());
    CHECK(fake->algorithm == 2);
    oct_gemm_cuda_close(gemm);
    return fake->heuristics > 0;
}

static void a_damaged_file_costs_time_and_nothing_else(void)
{
    oct_arena arena = {0};
    size_t bytes = 0;

    begin_with_file();
    slow_first();
    plan_once(simple());
    oct_gemm_cuda_close(gemm);
    char *good = read_plans(&arena, &bytes);
    CHECK(!is_planned_anew(good, bytes));
    for (size_t cut = 0; cut < bytes - 1; cut += 41) CHECK(is_planned_anew(good, cut));
    for (size_t i = 0; i < bytes; i += 7) {
        char *bad = oct_arena_copy_n(&arena, good, bytes);
        bad[i] ^= 1;
        is_planned_anew(bad, bytes);  // the right product, whichever byte it was
    }
    gemm = NULL;
    end_with_file();
    oct_arena_deinit(&arena);
}

static void plans_of_another_library_or_gpu_are_not_used(void)
{
    oct_gemm_cuda_params params = {0};

    for (int i = 0; i < 4; i++) {
        begin_with_file();
        plan_once(simple());
        reopen();
        oct_gemm_cuda_close(gemm);
        params = (oct_gemm_cuda_params){0};
        if (i == 1) fake->version = 130200;
        if (i == 2) params.device_name = "Other GPU";
        if (i == 3) params.sm = fake->sm = 100;
        CHECK(!open_gemm(params, NULL));
        plan_once(simple());
        CHECK((fake->heuristics > 0) == (i > 0));
        end_with_file();
    }
}

static void the_file_is_where_the_cache_belongs(void)
{
    const oct_gemm_cuda_params params = {
        .device_name = "NVIDIA H200 (80GB)", .sm = 90, .multiprocessors = 132};
    char path[256];

    setenv("HOME", "/home/someone", 1);
    setenv("XDG_CACHE_HOME", "/cache", 1);
    unsetenv("OCTAVO_PLANS");
    CHECK(oct_gemm_cuda_cache_path(path, sizeof path, &params));
    CHECK_TEXT(path, "/cache/octavo/gemm-nvidia-h200-80gb-sm90-132.json");
    setenv("XDG_CACHE_HOME", "relative", 1);
    CHECK(oct_gemm_cuda_cache_path(path, sizeof path, &params));
    CHECK_TEXT(path, "/home/someone/.cache/octavo/gemm-nvidia-h200-80gb-sm90-132.json");
    CHECK(!oct_gemm_cuda_cache_path(path, 20, &params));
    setenv("OCTAVO_PLANS", "off", 1);
    CHECK(!oct_gemm_cuda_cache_path(path, sizeof path, &params));
    unsetenv("OCTAVO_PLANS");
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    CHECK(!oct_gemm_cuda_cache_path(path, sizeof path, &params));
}

int main(int argc, char **argv)
{
    library = argc > 1 ? argv[1] : "";
    void *handle = dlopen(library, RTLD_NOW);
    fake_cublaslt_state_fn *get_state = NULL;
    if (handle) *(void **)&get_state = dlsym(handle, FAKE_CUBLASLT_STATE);
    if (!get_state) {
        printf("Bail out! %s\n", dlerror());
        return 3;
    }
    fake = get_state();
    oct_log_init("test", OCT_LOG_QUIET);

    RUN(every_combination_agrees_with_the_cpu);
    RUN(a_null_scale_is_one);
    RUN(combinations_without_a_path_are_refused);
    RUN(fp8_wants_its_hardware_and_multiples_of_16);
    RUN(a_launch_without_a_plan_is_an_error);
    RUN(candidates_that_fail_when_launched_are_passed_over);
    RUN(a_library_that_is_missing_or_broken_is_one_sentence);
    RUN(the_library_does_what_it_can);
    RUN(precision_is_given_up_only_on_request);
    RUN(launches_may_be_captured);
    RUN(streams_with_a_workspace_each_do_not_meet);
    RUN(the_fastest_candidate_is_taken_and_remembered);
    RUN(without_a_file_nothing_is_timed);
    RUN(gelu_is_fused_where_that_is_faster);
    RUN(a_damaged_file_costs_time_and_nothing_else);
    RUN(plans_of_another_library_or_gpu_are_not_used);
    RUN(the_file_is_where_the_cache_belongs);
    return test_end();
}
