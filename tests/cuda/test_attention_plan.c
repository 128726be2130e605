// SPDX-License-Identifier: Apache-2.0
//
// The choice of attention, with a stand-in for cuDNN (argument: its path) and the emulation in the
// place of a GPU.
#include "kernels/cuda/attention_plan.h"

#include <dlfcn.h>

#include "common/number.h"
#include "kernels/cuda/sdpa.h"
#include "tests/cuda/fake_cudnn.h"
#include "tests/test.h"

#define HEADS ((size_t)2)
#define IMAGE ((size_t)70)
#define TEXT ((size_t)9)
#define JOINT (IMAGE + TEXT)
#define WIDTH (HEADS * OCT_HEAD_CUDA)
#define N (JOINT * WIDTH)

static const char *fake_path;
static fake_cudnn_state *fake;

// Device memory is the host's.
static _Alignas(256) uint16_t q[N], k[N], v[N], out[N], own[N];
static _Alignas(256) uint8_t codes[N], workspace[65536];

static void fill(uint16_t *x, unsigned seed)
{
    for (size_t i = 0; i < N; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = oct_f32_to_f16((float)(int32_t)seed * 0x1p-30f);
    }
}

static oct_joint_attention_args new_args(bool has_text)
{
    oct_joint_attention_args args = {
        .q = q,
        .k = k,
        .v = v,
        .dtype = OCT_F16,
        .heads = HEADS,
        .joint = JOINT,
        .image_tokens = IMAGE,
        .image = {.data = out, .dtype = OCT_F16},
    };
    if (has_text) args.text = (oct_sink){.data = out + IMAGE * WIDTH, .dtype = OCT_F16};
    memset(out, 0xff, sizeof out);
    return args;
}

static void reset(void)
{
    const int live = fake->live_descriptors;
    *fake = (fake_cudnn_state){.version = 91900, .workspace_bytes = 1000};
    fake->live_descriptors = live;
}

static oct_attention_cuda *open_for(int sm)
{
    oct_attention_cuda *attention = NULL;
    oct_err err = {0};
    const oct_attention_cuda_params params = {.sm = sm, .library = fake_path};
    CHECK(oct_attention_cuda_open(&attention, &params, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    return attention;
}

static void run_own(bool has_text)
{
    oct_joint_attention_args args = new_args(has_text);
    args.image.data = own;
    if (has_text) args.text.data = own + IMAGE * WIDTH;
    oct_joint_attention_cuda(&args, NULL);
}

// Two correct answers: weights of the own kernel are rounded to F16.
static size_t count_far(const uint16_t *a, const uint16_t *b, size_t n)
{
    size_t far = 0;
    for (size_t i = 0; i < n; i++)
        far += !(fabsf(oct_f16_to_f32(a[i]) - oct_f16_to_f32(b[i])) < 0x1p-9f);
    return far;
}

static void gpus_without_an_advantage_use_the_own_kernel(void)
{
    static const int sm[] = {80, 86, 89, 120};
    for (size_t i = 0; i < sizeof sm / sizeof *sm; i++) {
        reset();
        oct_attention_cuda *attention = open_for(sm[i]);
        CHECK_TEXT(oct_attention_cuda_library(attention, NULL), "own kernel");
        CHECK(fake->live_handles == 0);
        oct_attention_cuda_close(attention);
    }
}

static void a_missing_library_leaves_the_own_kernel(void)
{
    const oct_joint_attention_args args = new_args(true);
    oct_attention_cuda *attention = NULL;
    size_t bytes = 1;
    const oct_attention_cuda_params params = {.sm = 90, .library = "/nowhere/libcudnn.so.9"};
    CHECK(oct_attention_cuda_open(&attention, &params, NULL) == OCT_OK);
    CHECK_TEXT(oct_attention_cuda_library(attention, NULL), "own kernel");
    CHECK(oct_attention_cuda_plan(attention, &args, &bytes, NULL) == OCT_OK);
    CHECK(bytes == 0);
    run_own(true);
    CHECK(oct_attention_cuda_run(attention, &args, NULL, NULL, NULL) == OCT_OK);
    CHECK(memcmp(out, own, sizeof out) == 0);
    oct_attention_cuda_close(attention);
}

static void a_library_from_before_the_operation_is_not_used(void)
{
    reset();
    fake->version = 91300;
    oct_attention_cuda *attention = open_for(90);
    CHECK_TEXT(oct_attention_cuda_library(attention, NULL), "own kernel");
    CHECK(fake->live_handles == 0);
    oct_attention_cuda_close(attention);
}

static void a_library_that_gives_no_handle_is_an_error(void)
{
    oct_attention_cuda *attention = NULL;
    oct_err err = {0};
    const oct_attention_cuda_params params = {.sm = 90, .library = fake_path};
    reset();
    fake->handle_status = 1001;
    CHECK(oct_attention_cuda_open(&attention, &params, &err) == OCT_EDEVICE);
    CHECK_TEXT(err.text, "cuDNN: a handle: FAKE_STATUS (status 1001)");
    CHECK(attention == NULL);
}

static void both_streams_in_one_array_are_written_by_the_library(void)
{
    static const int sm[] = {90, 100};
    run_own(true);
    for (size_t i = 0; i < 2; i++) {
        const oct_joint_attention_args args = new_args(true);
        size_t bytes = 0;
        reset();
        oct_attention_cuda *attention = open_for(sm[i]);
        CHECK_TEXT(oct_attention_cuda_library(attention, NULL), "cuDNN 9.19.0");
        CHECK(oct_attention_cuda_plan(attention, &args, &bytes, NULL) == OCT_OK);
        CHECK(bytes == 1024);
        CHECK_TEXT(oct_attention_cuda_library(attention, &args), "cuDNN 9.19.0");
        CHECK(oct_attention_cuda_run(attention, &args, workspace, (oct_stream)workspace, NULL) ==
              OCT_OK);
        CHECK(fake->executions == 1 && fake->stream == workspace);
        CHECK(count_far(out, own, N) == 0);
        oct_attention_cuda_close(attention);
        CHECK(fake->live_handles == 0 && fake->live_descriptors == 0);
    }
}

static void a_dropped_text_asks_nothing(void)
{
    const oct_joint_attention_args args = new_args(false);
    size_t bytes = 0;
    reset();
    run_own(true);
    memset(out, 0xff, sizeof out);
    oct_attention_cuda *attention = open_for(90);
    CHECK(oct_attention_cuda_plan(attention, &args, &bytes, NULL) == OCT_OK);
    CHECK(oct_attention_cuda_run(attention, &args, workspace, NULL, NULL) == OCT_OK);
    CHECK(count_far(out, own, IMAGE * WIDTH) == 0);
    for (size_t i = IMAGE * WIDTH; i < N; i++) CHECK(out[i] == 0xffff);
    oct_attention_cuda_close(attention);
}

static void other_sinks_are_filled_from_the_workspace(void)
{
    static _Alignas(16) uint16_t answers[N];
    const float scale = 0.0123f;
    uint32_t peak = 0;
    float largest = 0;
    oct_joint_attention_args args = new_args(true);
    size_t bytes = 0, direct_bytes = 0;
    reset();
    oct_attention_cuda *attention = open_for(90);
    CHECK(oct_attention_cuda_plan(attention, &args, &direct_bytes, NULL) == OCT_OK);
    CHECK(oct_attention_cuda_run(attention, &args, workspace, NULL, NULL) == OCT_OK);
    memcpy(answers, out, sizeof answers);

    memset(out, 0xff, sizeof out);
    args.image = (oct_sink){.data = codes, .dtype = OCT_F8_E4M3, .scale = &scale, .peak = &peak};
    CHECK(oct_attention_cuda_plan(attention, &args, &bytes, NULL) == OCT_OK);
    CHECK(bytes == direct_bytes + sizeof answers && bytes <= sizeof workspace);
    CHECK(oct_attention_cuda_run(attention, &args, workspace, NULL, NULL) == OCT_OK);
    for (size_t i = 0; i < IMAGE * WIDTH; i++) {
        const float x = oct_f16_to_f32(answers[i]);
        CHECK(codes[i] == oct_f32_to_e4m3(x / scale));
        largest = fmaxf(largest, fabsf(x));
    }
    CHECK(peak == oct_f32_bits(largest));
    CHECK(memcmp(out + IMAGE * WIDTH, answers + IMAGE * WIDTH, TEXT * WIDTH * sizeof *out) == 0);
    oct_attention_cuda_close(attention);
}

// The types agree, but somebody watches, or the rows of the text lie elsewhere.
static void sinks_of_the_same_type_may_still_need_the_workspace(void)
{
    static _Alignas(16) uint16_t elsewhere[TEXT * WIDTH];
    oct_attention_cuda *attention = NULL;
    reset();
    run_own(true);
    attention = open_for(90);
    for (int which = 0; which < 3; which++) {
        oct_joint_attention_args args = new_args(true);
        uint32_t peak = 0;
        size_t bytes = 0;
        if (which == 0) args.image.peak = &peak;
        if (which == 1) args.text.peak = &peak;
        if (which == 2) args.text.data = elsewhere;
        CHECK(oct_attention_cuda_plan(attention, &args, &bytes, NULL) == OCT_OK);
        CHECK(bytes == 1024 + sizeof out);
        CHECK(oct_attention_cuda_run(attention, &args, workspace, NULL, NULL) == OCT_OK);
        CHECK(count_far(out, own, IMAGE * WIDTH) == 0);
        CHECK(count_far(args.text.data, own + IMAGE * WIDTH, TEXT * WIDTH) == 0);
        CHECK((peak > 0) == (which < 2));
    }
    oct_attention_cuda_close(attention);
}

static void engines_that_refuse_are_passed_over(void)
{
    oct_joint_attention_args args = new_args(true);
    size_t bytes = 0;
    run_own(true);
    for (int refused = 2; refused <= 3; refused++) {
        reset();
        fake->refused_engines = refused;
        memset(out, 0xff, sizeof out);
        oct_attention_cuda *attention = open_for(90);
        CHECK(oct_attention_cuda_plan(attention, &args, &bytes, NULL) == OCT_OK);
        CHECK(bytes == (refused == 2 ? 1024 : 0));
        CHECK_TEXT(oct_attention_cuda_library(attention, &args),
                   refused == 2 ? "cuDNN 9.19.0" : "own kernel");
        CHECK(oct_attention_cuda_run(attention, &args, workspace, NULL, NULL) == OCT_OK);
        CHECK(fake->executions == (refused == 2));
        CHECK(count_far(out, own, N) == 0);
        oct_attention_cuda_close(attention);
        CHECK(fake->live_descriptors == 0);
    }
}

// Convolutions are more particular.
static void what_an_engine_notes_does_not_matter(void)
{
    oct_joint_attention_args args = new_args(true);
    size_t bytes = 0;
    reset();
    for (int i = 0; i < FAKE_CUDNN_ENGINES; i++) fake->notes[i] = 2;  // sums of reduced precision
    oct_attention_cuda *attention = open_for(90);
    CHECK(oct_attention_cuda_plan(attention, &args, &bytes, NULL) == OCT_OK);
    CHECK_TEXT(oct_attention_cuda_library(attention, &args), "cuDNN 9.19.0");
    oct_attention_cuda_close(attention);
}

static void a_shape_is_planned_once(void)
{
    oct_joint_attention_args args = new_args(true);
    oct_err err = {0};
    size_t bytes = 0;
    reset();
    oct_attention_cuda *attention = open_for(90);
    CHECK(oct_attention_cuda_run(attention, &args, workspace, NULL, &err) == OCT_EDEVICE);
    CHECK_TEXT(err.text, "no plan for attention of 79 tokens");
    CHECK(oct_attention_cuda_plan(attention, &args, &bytes, NULL) == OCT_OK);
    const int live = fake->live_descriptors;
    CHECK(oct_attention_cuda_plan(attention, &args, &bytes, NULL) == OCT_OK);
    CHECK(fake->live_descriptors == live);
    args.text.data = NULL;
    CHECK(oct_attention_cuda_run(attention, &args, workspace, NULL, NULL) == OCT_EDEVICE);
    CHECK(oct_attention_cuda_plan(attention, &args, &bytes, NULL) == OCT_OK);
    CHECK(fake->live_descriptors > live);
    oct_attention_cuda_close(attention);
    CHECK(fake->live_descriptors == 0);
}

static void a_launch_that_is_refused_is_an_error(void)
{
    const oct_joint_attention_args args = new_args(true);
    oct_err err = {0};
    size_t bytes = 0;
    reset();
    oct_attention_cuda *attention = open_for(90);
    CHECK(oct_attention_cuda_plan(attention, &args, &bytes, NULL) == OCT_OK);
    fake->execute_status = 5000;
    CHECK(oct_attention_cuda_run(attention, &args, workspace, NULL, &err) == OCT_EDEVICE);
    CHECK_TEXT(err.text, "cuDNN: attention: FAKE_STATUS (status 5000)");
    oct_attention_cuda_close(attention);
}

// As far as the library goes without a GPU: descriptors.
static void the_installed_cudnn_takes_the_operation(void)
{
    static const oct_sdpa_shape shapes[] = {
        {OCT_F16, 38, 4429, 4429}, {OCT_BF16, 24, 4096, 4429}, {OCT_BF16, 24, 1024, 1024}};
    oct_cudnn cudnn;
    oct_err err = {0};
    if (oct_cudnn_load(&cudnn, NULL, &err)) SKIP("cuDNN is not installed");
    if (cudnn.version < OCT_SDPA_CUDNN_MIN) {
        oct_cudnn_close(&cudnn);
        SKIP("cuDNN is older than 9.13.1");
    }
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        oct_cudnn_graph graph;
        CHECK(oct_sdpa_describe(&graph, &cudnn, shapes[i]) != NULL);
        CHECK(oct_cudnn_fail(&cudnn, graph.status, graph.what, &err) == OCT_OK);
        CHECK_TEXT(err.text, "");
        oct_cudnn_graph_deinit(&graph);
    }
    oct_cudnn_close(&cudnn);
}

int main(int argc, char **argv)
{
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    fake = library ? dlsym(library, "fake_cudnn") : NULL;
    if (!fake) {
        fputs("usage: test_attention_plan LIBRARY\n", stderr);
        return 2;
    }
    fake_path = argv[1];
    fill(q, 1);
    fill(k, 2);
    fill(v, 3);
    RUN(gpus_without_an_advantage_use_the_own_kernel);
    RUN(a_missing_library_leaves_the_own_kernel);
    RUN(a_library_from_before_the_operation_is_not_used);
    RUN(a_library_that_gives_no_handle_is_an_error);
    RUN(both_streams_in_one_array_are_written_by_the_library);
    RUN(a_dropped_text_asks_nothing);
    RUN(other_sinks_are_filled_from_the_workspace);
    RUN(sinks_of_the_same_type_may_still_need_the_workspace);
    RUN(engines_that_refuse_are_passed_over);
    RUN(what_an_engine_notes_does_not_matter);
    RUN(a_shape_is_planned_once);
    RUN(a_launch_that_is_refused_is_an_error);
    RUN(the_installed_cudnn_takes_the_operation);
    dlclose(library);
    return test_end();
}
