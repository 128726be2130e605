// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/device.c and of the CPU as a device: its operations are those of kernels/ops.h,
// bit for bit.
#include "runtime/device.h"

#include <stdlib.h>

#include "kernels/kernels.h"
#include "tests/test.h"
#include "tests/tools/formula.h"

#define TOKENS 5
#define TEXT 3
#define HEADS 2
#define H (HEADS * OCT_HEAD)
#define OUT 24

// A sanitizer must not end the test where memory is asked for that cannot be had.
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

// Numbers from -1 to 1, where activations bend.
static void fill(float *values, const char *name, size_t n)
{
    oct_formula_fill(values, name, 1, (uint64_t[]){n});
}

// ---- Opening.

static void check_refusal(const oct_device_request *request, oct_status status, const char *text)
{
    oct_device *device = NULL;
    oct_err err = {0};
    CHECK(oct_device_open(&device, request, &err) == status);
    CHECK_TEXT(err.text, text);
}

static void the_cpu_always_opens(void)
{
    oct_device *device = NULL;
    CHECK(oct_device_open(&device, &(oct_device_request){.name = "cpu"}, NULL) == OCT_OK);
    CHECK(device == oct_device_cpu() && !device->is_gpu && !device->has_fp8);
    CHECK(device->activation == OCT_F32 && device->peak_bytes == 0);
    CHECK_TEXT(device->name, "the CPU");
    oct_device_close(device);
    oct_device_close(NULL);
    CHECK(oct_device_open(&device, &(oct_device_request){.name = "cpu"}, NULL) == OCT_OK);
}

static void what_is_for_a_gpu_is_refused_on_the_cpu(void)
{
    check_refusal(&(oct_device_request){.name = "cpu", .needs_gpu = true}, OCT_EUNSUPPORTED,
                  "option '--require gpu' is not met: the CPU was asked for");
    check_refusal(&(oct_device_request){.name = "cpu", .needs_fp8 = true}, OCT_EUNSUPPORTED,
                  "option '--require fp8' is not met: the CPU was asked for");
    check_refusal(&(oct_device_request){.name = "cpu", .budget = 1}, OCT_EUSAGE,
                  "option '--vram' is for a GPU: the CPU was asked for");
    check_refusal(&(oct_device_request){.name = "cpu", .is_low_vram = true}, OCT_EUSAGE,
                  "option '--low-vram' is for a GPU: the CPU was asked for");
}

// Which it is depends on the machine.
static void auto_finds_a_device(void)
{
    oct_device *device = NULL;
    CHECK(oct_device_open(&device, &(oct_device_request){.name = "auto"}, NULL) == OCT_OK);
    CHECK(device && (device->is_gpu || device == oct_device_cpu()));
    oct_device_close(device);
}

// ---- Memory and order.

static void memory_is_written_copied_and_read(void)
{
    oct_device *device = oct_device_cpu();
    float from[4] = {1, -2, 3, -4}, to[4] = {0};
    void *a = NULL, *b = NULL;

    CHECK(device->ops->alloc(device, &a, sizeof from, "a", NULL) == OCT_OK);
    CHECK(device->ops->alloc(device, &b, sizeof from, "b", NULL) == OCT_OK);
    device->ops->write(device, a, from, sizeof from);
    from[0] = 9;  // may change: it has been written
    device->ops->copy(device, b, a, sizeof from);
    CHECK(device->ops->read(device, to, b, sizeof to, NULL) == OCT_OK);
    CHECK(to[0] == 1 && to[1] == -2 && to[2] == 3 && to[3] == -4);
    CHECK(device->ops->sync(device, NULL) == OCT_OK);
    device->ops->release(device, a);
    device->ops->release(device, b);
    device->ops->release(device, NULL);
}

static void what_there_is_no_memory_for_is_named(void)
{
    oct_device *device = oct_device_cpu();
    oct_err err = {0};
    void *p = NULL;

    CHECK(device->ops->alloc(device, &p, SIZE_MAX / 4, "the moon", &err) == OCT_ENOMEM);
    CHECK_TEXT(err.text, "out of memory for the moon");
    CHECK(p == NULL);
}

static void numbers_of_the_host_move(void)
{
    oct_device *device = oct_device_cpu();
    float *values = malloc(2 * sizeof *values), *none = NULL, got[2];

    values[0] = 1;
    values[1] = 2;
    CHECK(oct_device_adopt_f32(device, &values, 2, "two", NULL) == OCT_OK);
    CHECK(device->ops->read(device, got, values, sizeof got, NULL) == OCT_OK);
    CHECK(got[0] == 1 && got[1] == 2);
    device->ops->release(device, values);
    CHECK(oct_device_adopt_f32(device, &none, 2, "none", NULL) == OCT_OK && !none);
}

static void a_block_is_laid_out_as_it_was_counted(void)
{
    oct_device *device = oct_device_cpu();
    static char block[4096];
    oct_carver counter = {.device = device}, carver = {.device = device, .block = block};

    CHECK(!oct_carve_f32(&counter, 3) && !oct_carve_activation(&counter, 100));
    CHECK(!oct_carve_scratch(&counter, 100));
    CHECK((char *)oct_carve_f32(&carver, 3) == block);
    CHECK((char *)oct_carve_activation(&carver, 100) == block + 256);
    CHECK(!oct_carve_scratch(&carver, 100));  // the CPU needs none
    CHECK(carver.used == counter.used && carver.used == 256 + 512);
}

static void append(void *context)
{
    char *text = context;
    text[strlen(text)] = 'x';
}

// The body is run where run() stands, every time, whatever the slot has seen before.
static void run_calls_the_body_each_time(void)
{
    oct_device *device = oct_device_cpu();
    char text[8] = "";

    device->ops->run(device, 0, append, text);
    CHECK_TEXT(text, "x");
    device->ops->run(device, 0, append, text);
    device->ops->forget(device);
    device->ops->run(device, OCT_SLOTS - 1, append, text);
    CHECK_TEXT(text, "xxx");
}

// Streams and groups are a GPU's: here everything is done when the call returns.
static void operations_are_done_when_they_return(void)
{
    oct_device *device = oct_device_cpu();
    float x[2] = {1, 2}, y[2] = {10, 20};

    device->ops->fork(device);
    device->ops->use(device, OCT_STREAM_SIDE);
    device->ops->add(device, x, y, 2);
    CHECK(x[0] == 11 && x[1] == 22);
    device->ops->use(device, OCT_STREAM_MAIN);
    device->ops->copy(device, y, x, sizeof y);
    device->ops->join(device);
    device->ops->enter_group(device, 3);
    CHECK(y[0] == 11 && y[1] == 22);
}

// ---- Layers.

static oct_linear make_linear(float input_scale)
{
    oct_linear linear = {.name = "l", .out = OUT, .in = H, .weight_scale = 1, .layer = 1};

    linear.input_scale = input_scale;
    linear.dtype = input_scale > 0 ? OCT_F8_E4M3 : OCT_F32;
    linear.bias = malloc(OUT * sizeof *linear.bias);
    fill(linear.bias, "input.bias", OUT);
    float *wide = malloc(OUT * H * sizeof *wide);
    fill(wide, "input.weight", OUT * H);
    linear.weight = wide;
    if (input_scale > 0) {
        linear.weight = malloc(OUT * H);
        oct_encode_e4m3(linear.weight, OCT_F32, wide, OUT * H, 0.01f);
        linear.weight_scale = 0.01f;
        free(wide);
    }
    return linear;
}

static void check_layer(float input_scale)
{
    oct_device *device = oct_device_cpu();
    oct_linear linear = make_linear(input_scale), same = make_linear(input_scale);
    float x[TOKENS * H], buffer[TOKENS * H], y[TOKENS * OUT], want[TOKENS * OUT];

    fill(x, "input.x", TOKENS * H);
    oct_linear_run(&same, want, x, TOKENS, NULL);
    CHECK(device->ops->adopt(device, &linear, OCT_PRECISION_AUTO, 0, NULL) == OCT_OK);
    const oct_operand input = device->ops->operand(device, &linear, buffer);
    CHECK(input.data == buffer && input.dtype == OCT_F32 && !input.peak);
    device->ops->convert(device, input, x, TOKENS * H);
    device->ops->linear(device, &linear, y, true, input, TOKENS);
    CHECK(memcmp(y, want, sizeof y) == 0);
    CHECK(linear.runs == 1 && linear.path == OCT_PATH_F32);

    oct_activate(want, OCT_GELU_TANH, TOKENS * OUT);
    device->ops->linear_activate(device, &linear, device->ops->plain(device, y), OCT_GELU_TANH,
                                 NULL, input, TOKENS);
    CHECK(memcmp(y, want, sizeof y) == 0);
    CHECK(linear.runs == 2);

    device->ops->drop(device, &linear);
    CHECK(!linear.weight && !linear.bias);
    CHECK(linear.runs == 2 && linear.out == OUT && linear.input_scale == input_scale);
    device->ops->drop(device, &linear);
    device->ops->drop(device, &(oct_linear){0});
    oct_linear_deinit(&linear);
    oct_linear_deinit(&same);
}

static void a_layer_is_the_linear_layer(void)
{
    check_layer(0);
    check_layer(0.02f);
}

static void an_observer_sees_what_enters_a_layer(void)
{
    oct_device *device = oct_device_cpu();
    oct_linear linear = make_linear(0);
    oct_observer observer = {0};
    float x[H] = {0}, y[OUT];

    x[7] = -3.5f;
    oct_observer_init(&observer, 2, 4);
    observer.branch = 1;
    observer.step = 2;
    device->observer = &observer;
    device->ops->linear(device, &linear, y, true, device->ops->operand(device, &linear, x), 1);
    device->observer = NULL;
    CHECK(observer.amax[(1 * 2 + 1) * 4 + 2] == 3.5f);
    CHECK(oct_observer_amax(&observer, 0) == 0);
    oct_observer_deinit(&observer);
    oct_linear_deinit(&linear);
}

// ---- Rows and attention.

static void rows_are_those_of_the_kernels(void)
{
    oct_device *device = oct_device_cpu();
    float x[TOKENS * H], weight[H], bias[H], y[TOKENS * H], want[TOKENS * H];

    fill(x, "input.x", TOKENS * H);
    fill(weight, "input.weight", H);
    fill(bias, "input.bias", H);
    oct_layer_norm(want, x, weight, bias, 1e-5f, TOKENS, H);
    device->ops->layer_norm(device, oct_operand_f32(y), x, weight, bias, 1e-5f, TOKENS, H);
    CHECK(memcmp(y, want, sizeof y) == 0);
    oct_layer_norm_modulate(want, x, bias, weight, TOKENS, H);
    device->ops->layer_norm_modulate(device, oct_operand_f32(y), x, bias, weight, TOKENS, H);
    CHECK(memcmp(y, want, sizeof y) == 0);
    memcpy(want, x, sizeof want);
    oct_rms_norm(want, weight, 1e-6f, TOKENS, H, H);
    device->ops->rms_norm(device, oct_operand_f32(y), x, weight, 1e-6f, TOKENS, H);
    CHECK(memcmp(y, want, sizeof y) == 0);
    memcpy(want, x, sizeof want);
    oct_add_gated(want, y, weight, TOKENS, H);
    device->ops->add_gated(device, x, y, false, weight, TOKENS, H);
    CHECK(memcmp(x, want, sizeof x) == 0);

    memcpy(want, x, sizeof want);
    oct_activate(want, OCT_GELU_TANH, TOKENS * H);
    for (size_t i = 0; i < TOKENS * H; i++) want[i] *= bias[i % H];
    float up[TOKENS * H], hidden[TOKENS * H];
    for (size_t i = 0; i < TOKENS * H; i++) up[i] = bias[i % H];
    device->ops->activate_gated(device, oct_operand_f32(hidden), OCT_GELU_TANH, x, up, TOKENS * H);
    CHECK(memcmp(hidden, want, sizeof hidden) == 0);
}

// One sequence of both streams: queries and keys normed head by head, then attention.
static void check_joint(bool keeps_text, bool has_norms)
{
    oct_device *device = oct_device_cpu();
    const size_t n = TOKENS + TEXT;
    float norms[4][OCT_HEAD];
    static float qkv[(TOKENS + TEXT) * 3 * H], same[(TOKENS + TEXT) * 3 * H];
    static float want[(TOKENS + TEXT) * H], image[TOKENS * H], text[TEXT * H];

    fill(qkv, "input.qkv", n * 3 * H);
    memcpy(same, qkv, sizeof same);
    fill(norms[0], "input.norms", 4 * OCT_HEAD);
    for (size_t token = 0; token < n && has_norms; token++)
        for (size_t head = 0; head < 2 * HEADS; head++)
            oct_rms_norm(same + token * 3 * H + head * OCT_HEAD,
                         norms[(token < TOKENS ? 0 : 2) + head / HEADS], OCT_HEAD_NORM_EPS, 1,
                         OCT_HEAD, OCT_HEAD);
    oct_attention(&(oct_attention_args){.out = want,
                                        .q = same,
                                        .k = same + H,
                                        .v = same + 2 * H,
                                        .out_stride = H,
                                        .q_stride = 3 * H,
                                        .k_stride = 3 * H,
                                        .v_stride = 3 * H,
                                        .tokens_q = keeps_text ? n : TOKENS,
                                        .tokens_k = n,
                                        .heads = HEADS,
                                        .head_dim = OCT_HEAD,
                                        .scale = 0.125f});
    oct_joint_attention args = {
        .qkv = qkv,
        .heads = HEADS,
        .n_streams = 2,
        .streams = {{TOKENS, norms[0], norms[1], oct_operand_f32(image)},
                    {TEXT, norms[2], norms[3], oct_operand_f32(keeps_text ? text : NULL)}},
    };
    for (int i = 0; i < 2 && !has_norms; i++)
        args.streams[i].norm_q = args.streams[i].norm_k = NULL;
    device->ops->joint_attention(device, &args);
    CHECK(memcmp(image, want, sizeof image) == 0);
    if (keeps_text) CHECK(memcmp(text, want + TOKENS * H, sizeof text) == 0);
}

static void joint_attention_is_that_of_one_sequence(void)
{
    check_joint(true, true);
    check_joint(false, true);
    check_joint(true, false);
}

static void a_table_gives_rows_and_positions(void)
{
    oct_device *device = oct_device_cpu();
    float table[3 * 2] = {1, 2, 3, 4, 5, 6}, position[4] = {10, 20, 30, 40}, y[4];
    const oct_linear linear = {
        .dtype = OCT_F32, .weight = table, .out = 3, .in = 2, .weight_scale = 1};
    const int32_t ids[2] = {2, 0};

    device->ops->embed(device, y, &linear, position, ids, 2);
    CHECK(y[0] == 15 && y[1] == 26 && y[2] == 31 && y[3] == 42);
    device->ops->embed(device, y, &linear, NULL, ids, 2);
    CHECK(y[0] == 5 && y[1] == 6 && y[2] == 1 && y[3] == 2);
}

// ---- Latents and maps.

// The first layer reads channels outermost, the last writes them innermost.
static void patches_have_their_two_orders(void)
{
    oct_device *device = oct_device_cpu();
    const oct_map_shape shape = {2, 2, 4};
    float latent[16], patches[16], back[16];

    for (int i = 0; i < 16; i++) latent[i] = (float)i;
    device->ops->patchify(device, oct_operand_f32(patches), latent, shape, 2);
    const float want[16] = {0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15};
    CHECK(memcmp(patches, want, sizeof want) == 0);
    const float channels_last[16] = {0, 8, 1, 9, 4, 12, 5, 13, 2, 10, 3, 11, 6, 14, 7, 15};
    device->ops->unpatchify(device, back, channels_last, shape, 2);
    CHECK(memcmp(back, latent, sizeof latent) == 0);
}

static void a_step_guides_and_remembers(void)
{
    oct_device *device = oct_device_cpu();
    float x[1] = {2}, cond[1] = {3}, uncond[1] = {1}, skipped[1] = {2}, denoised[1],
          previous[1] = {4};
    const oct_step_factors factors = {
        .cfg = 4, .slg = 0.5f, .dt = -0.25f, .sigma = 0.5f, .keep = 0.75f, .extra = 2};
    oct_sampler_args args = {.x = x,
                             .cond = cond,
                             .uncond = uncond,
                             .skipped = skipped,
                             .previous = previous,
                             .factors = &factors,
                             .n = 1};

    device->ops->sampler_step(device, &args);  // v = 1 + 4 * 2 + 0.5 * 1 = 9.5
    CHECK(x[0] == 2 - 0.25f * 9.5f);
    x[0] = 2;
    args.denoised = denoised;
    args.skipped = NULL;
    device->ops->sampler_step(device, &args);  // v = 9, d = -2.5, towards d + 2 (d - 4) = -15.5
    CHECK(denoised[0] == -2.5f && x[0] == 0.75f * 2 + 0.25f * -15.5f);
    x[0] = 2;
    args.denoised = NULL;
    args.uncond = NULL;
    device->ops->sampler_step(device, &args);
    CHECK(x[0] == 2 - 0.25f * 3);
}

static void maps_are_turned_and_widened(void)
{
    oct_device *device = oct_device_cpu();
    const float x[6] = {1, 2, 3, 4, 5, 6}, turned[6] = {1, 4, 2, 5, 3, 6};
    float y[24], back[6];

    device->ops->to_map(device, back, x, 6);
    device->ops->transpose(device, y, back, 2, 3);
    CHECK(memcmp(y, turned, sizeof turned) == 0);
    device->ops->upsample2(device, y, x, (oct_map_shape){1, 2, 3});
    CHECK(y[0] == 1 && y[1] == 1 && y[6] == 1 && y[5] == 3 && y[12] == 4 && y[23] == 6);
    device->ops->from_map(device, back, y, 6);
    CHECK(back[0] == 1 && back[5] == 3);
}

int main(void)
{
    RUN(the_cpu_always_opens);
    RUN(what_is_for_a_gpu_is_refused_on_the_cpu);
    RUN(auto_finds_a_device);
    RUN(memory_is_written_copied_and_read);
    RUN(what_there_is_no_memory_for_is_named);
    RUN(numbers_of_the_host_move);
    RUN(a_block_is_laid_out_as_it_was_counted);
    RUN(run_calls_the_body_each_time);
    RUN(operations_are_done_when_they_return);
    RUN(a_layer_is_the_linear_layer);
    RUN(an_observer_sees_what_enters_a_layer);
    RUN(rows_are_those_of_the_kernels);
    RUN(joint_attention_is_that_of_one_sequence);
    RUN(a_table_gives_rows_and_positions);
    RUN(patches_have_their_two_orders);
    RUN(a_step_guides_and_remembers);
    RUN(maps_are_turned_and_widened);
    return test_end();
}
