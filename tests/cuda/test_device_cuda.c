// SPDX-License-Identifier: Apache-2.0
//
// device_cuda on an emulated GPU: every operation of the table against the CPU's, and what the
// device adds to them: order, replay, streaming, budget, observers, errors.
#include "tests/cuda/device_check.h"

#include <math.h>
#include <stdlib.h>

#include "tests/test.h"

#define ROWS 24
#define COLS 64
#define OUT 96
#define N ((size_t)ROWS * COLS)
#define F16_BOUND 1e-3  // of the largest: one rounding to 11 bits, some sums in another order
#define FP8_BOUND 4e-3  // and inputs that another rounding moved to the next code

static oct_device *gpu;

// There is one GPU at a time.
static void reopen(int sm, const oct_device_request *request)
{
    if (gpu) gpu_close(gpu);
    gpu = gpu_open(sm, request);
}

// ---- Rows.

static oct_operand new_operand(oct_device *d, size_t n)
{
    return d->ops->plain(d, room(d, n));
}

static void convert(oct_device *d, float *out)
{
    const oct_operand y = new_operand(d, N);
    d->ops->convert(d, y, put_f32(d, numbers(1, N, 3), N), N);
    get_operand(d, out, y, N);
}

static void layer_norm(oct_device *d, float *out)
{
    const oct_operand y = new_operand(d, N), bare = new_operand(d, N);
    const float *x = put_f32(d, numbers(1, N, 3), N);
    d->ops->layer_norm(d, y, x, put_f32(d, numbers(2, COLS, 1), COLS),
                       put_f32(d, numbers(3, COLS, 1), COLS), 1e-5f, ROWS, COLS);
    d->ops->layer_norm(d, bare, x, NULL, NULL, 1e-5f, ROWS, COLS);
    get_operand(d, out, y, N);
    get_operand(d, out + N, bare, N);
}

static void layer_norm_modulate(oct_device *d, float *out)
{
    const oct_operand y = new_operand(d, N);
    d->ops->layer_norm_modulate(d, y, put_f32(d, numbers(1, N, 3), N),
                                put_f32(d, numbers(2, COLS, 1), COLS),
                                put_f32(d, numbers(3, COLS, 1), COLS), ROWS, COLS);
    get_operand(d, out, y, N);
}

static void rms_norm(oct_device *d, float *out)
{
    const oct_operand y = new_operand(d, N);
    d->ops->rms_norm(d, y, put_f32(d, numbers(1, N, 3), N), put_f32(d, numbers(2, COLS, 1), COLS),
                     1e-6f, ROWS, COLS);
    get_operand(d, out, y, N);
}

static void add_gated(oct_device *d, float *out)
{
    float *x = put_f32(d, numbers(1, N, 3), N);
    d->ops->add_gated(d, x, put_activation(d, numbers(2, N, 1), N), false,
                      put_f32(d, numbers(3, COLS, 1), COLS), ROWS, COLS);
    d->ops->add_gated(d, x, put_f32(d, numbers(4, N, 1), N), true, NULL, ROWS, COLS);
    get_f32(d, out, x, N);
}

static void activate(oct_device *d, float *out)
{
    for (int a = OCT_GELU_TANH; a <= OCT_SILU; a++) {
        const oct_operand y = new_operand(d, N);
        d->ops->activate(d, y, (oct_activation)a, put_f32(d, numbers(1, N, 5), N), N);
        get_operand(d, out + (size_t)a * N, y, N);
    }
}

static void activate_gated(oct_device *d, float *out)
{
    const oct_operand y = new_operand(d, N);
    d->ops->activate_gated(d, y, OCT_GELU_TANH, put_activation(d, numbers(1, N, 3), N),
                           put_activation(d, numbers(2, N, 3), N), N);
    get_operand(d, out, y, N);
}

static void operations_on_rows_agree_with_the_cpu(void)
{
    CHECK_WORK(gpu, convert, N, F16_BOUND);
    CHECK_WORK(gpu, layer_norm, 2 * N, F16_BOUND);
    CHECK_WORK(gpu, layer_norm_modulate, N, F16_BOUND);
    CHECK_WORK(gpu, rms_norm, N, F16_BOUND);
    CHECK_WORK(gpu, add_gated, N, 1e-6);
    CHECK_WORK(gpu, activate, 4 * N, F16_BOUND);
    CHECK_WORK(gpu, activate_gated, N, F16_BOUND);
}

// ---- Layers.

static layer_kind kind;
static oct_precision precision;

// Into F32, into an activation, and by an activation function into the next layer's operand.
static void run_layer(oct_device *d, float *out)
{
    const size_t n = (size_t)ROWS * OUT;
    oct_linear first = new_layer(kind, 10, OUT, COLS), next = new_layer(kind, 20, COLS, OUT);
    oct_err err;

    CHECK(!d->ops->adopt(d, &first, precision, -1, &err));
    CHECK(!d->ops->adopt(d, &next, precision, -1, &err));
    const oct_operand x = d->ops->operand(d, &first, room(d, N));
    d->ops->convert(d, x, put_f32(d, numbers(1, N, 1), N), N);
    float *wide = room(d, n);
    void *narrow = room(d, n), *scratch = room(d, n);
    d->ops->linear(d, &first, wide, true, x, ROWS);
    d->ops->linear(d, &first, narrow, false, x, ROWS);
    const oct_operand y = d->ops->operand(d, &next, room(d, n));
    d->ops->linear_activate(d, &first, y, OCT_GELU_TANH, scratch, x, ROWS);
    void *last = room(d, N);
    d->ops->linear(d, &next, last, false, y, ROWS);
    get_f32(d, out, wide, n);
    get_activation(d, out + n, narrow, n);
    get_activation(d, out + 2 * n, last, N);
    CHECK(first.runs == 3 && next.runs == 1);
    drop_layer(d, &first);
    drop_layer(d, &next);
}

#define LAYER_N (2 * (size_t)ROWS * OUT + N)

static void layers_of_all_types_agree_with_the_cpu(void)
{
    for (precision = OCT_PRECISION_AUTO; precision <= OCT_PRECISION_F32; precision++) {
        for (kind = 0; kind < LAYER_KINDS; kind++) {
            const bool is_static = kind == LAYER_E4M3_STATIC || kind == LAYER_E4M3_ROWS_STATIC;
            if (is_static && precision == OCT_PRECISION_F32) continue;  // the CPU encodes inputs
            printf("# kind %d, precision %d\n", kind, precision);
            CHECK_WORK(gpu, run_layer, LAYER_N, is_static ? 4 * FP8_BOUND : 2 * F16_BOUND);
        }
    }
    precision = OCT_PRECISION_AUTO;
}

static oct_path path_of(oct_device *d, layer_kind of, oct_precision with, size_t out)
{
    oct_linear linear = new_layer(of, 10, out, COLS);
    oct_err err;

    CHECK(!d->ops->adopt(d, &linear, with, -1, &err));
    CHECK(!linear.weight && !linear.bias && !linear.row_scales && !linear.block_scales);
    const oct_operand x = d->ops->operand(d, &linear, room(d, N));
    d->ops->convert(d, x, put_f32(d, numbers(1, N, 1), N), N);
    d->ops->linear(d, &linear, room(d, ROWS * out), true, x, ROWS);
    CHECK(!d->ops->sync(d, &err));
    const oct_path path = linear.path;
    drop_layer(d, &linear);
    release_all(d);
    return path;
}

static void paths_tell_what_was_launched(void)
{
    CHECK(path_of(gpu, LAYER_F16, OCT_PRECISION_AUTO, OUT) == OCT_PATH_16BIT);
    CHECK(path_of(gpu, LAYER_F16, OCT_PRECISION_F32, OUT) == OCT_PATH_F32);
    CHECK(path_of(gpu, LAYER_E4M3, OCT_PRECISION_AUTO, OUT) == OCT_PATH_FP8_WIDENED);
    CHECK(path_of(gpu, LAYER_E4M3_STATIC, OCT_PRECISION_AUTO, OUT) == OCT_PATH_FP8);
    CHECK(path_of(gpu, LAYER_E4M3_STATIC, OCT_PRECISION_AUTO, 40) == OCT_PATH_FP8_WIDENED);
    CHECK(path_of(gpu, LAYER_MX, OCT_PRECISION_AUTO, OUT) == OCT_PATH_16BIT);

    CHECK(gpu->has_fp8);

    reopen(80, NULL);
    CHECK(!gpu->has_fp8);
    CHECK(path_of(gpu, LAYER_E4M3_STATIC, OCT_PRECISION_AUTO, OUT) == OCT_PATH_FP8_WIDENED);
    reopen(90, NULL);
}

// ---- Attention.

#define HEADS 2
#define TEXT 9
#define WIDE (HEADS * OCT_HEAD)

static void attend_jointly(oct_device *d, float *out, bool is_fp8)
{
    const size_t tokens = ROWS + TEXT;
    oct_joint_attention args = {
        .qkv = put_activation(d, numbers(1, tokens * 3 * WIDE, 2), tokens * 3 * WIDE),
        .heads = HEADS,
        .n_streams = 2,
        .is_fp8 = is_fp8,
    };
    for (unsigned i = 0; i < 2; i++) {
        args.streams[i].tokens = i == 0 ? ROWS : TEXT;
        args.streams[i].norm_q = put_f32(d, numbers(2 + i, OCT_HEAD, 1), OCT_HEAD);
        args.streams[i].norm_k = put_f32(d, numbers(4 + i, OCT_HEAD, 1), OCT_HEAD);
        args.streams[i].out = new_operand(d, args.streams[i].tokens * WIDE);
    }
    d->ops->joint_attention(d, &args);
    get_operand(d, out, args.streams[0].out, ROWS * WIDE);
    get_operand(d, out + ROWS * WIDE, args.streams[1].out, TEXT * WIDE);
}

static void joint_attention(oct_device *d, float *out)
{
    attend_jointly(d, out, false);
}

static void fp8_attention(oct_device *d, float *out)
{
    attend_jointly(d, out, true);
}

static void image_attention(oct_device *d, float *out)
{
    for (size_t n_streams = 1; n_streams <= 2; n_streams++) {
        const size_t tokens = ROWS + TEXT;
        oct_joint_attention args = {
            .qkv = put_activation(d, numbers(1, tokens * 3 * WIDE, 2), tokens * 3 * WIDE),
            .heads = HEADS,
            .n_streams = n_streams,
            .streams = {{.tokens = ROWS, .out = new_operand(d, ROWS * WIDE)}, {.tokens = TEXT}},
        };
        d->ops->joint_attention(d, &args);
        get_operand(d, out, args.streams[0].out, ROWS * WIDE);
        out += ROWS * WIDE;
    }
}

static void plain_attention(oct_device *d, float *out)
{
    for (int i = 0; i < 2; i++) {
        const oct_plain_attention args = {
            .out = new_operand(d, ROWS * WIDE),
            .q = put_activation(d, numbers(1, ROWS * WIDE, 2), ROWS * WIDE),
            .k = put_activation(d, numbers(2, ROWS * WIDE, 2), ROWS * WIDE),
            .v = put_activation(d, numbers(3, ROWS * WIDE, 2), ROWS * WIDE),
            .tokens = ROWS,
            .heads = HEADS,
            .head_dim = OCT_HEAD,
            .scale = 0.125f,
            .is_causal = i == 0,
            .bias =
                i == 0 ? NULL : put_f32(d, numbers(4, HEADS * ROWS * ROWS, 1), HEADS * ROWS * ROWS),
        };
        d->ops->plain_attention(d, &args);
        get_operand(d, out + (size_t)i * ROWS * WIDE, args.out, ROWS * WIDE);
    }
}

static void attention_agrees_with_the_cpu(void)
{
    CHECK_WORK(gpu, joint_attention, (ROWS + TEXT) * WIDE, 2 * F16_BOUND);
    CHECK_WORK(gpu, image_attention, 2 * ROWS * WIDE, 2 * F16_BOUND);
    CHECK_WORK(gpu, plain_attention, 2 * ROWS * WIDE, F16_BOUND);
}

// Where F16 and F32 fall on two sides of a boundary, a code is another one, an eighth away: few do,
// and less than 2^-5 of the largest answer is left of it. Against 16-bit attention the
// difference is larger.
static void fp8_attention_agrees_with_the_cpu(void)
{
    const size_t n = (ROWS + TEXT) * WIDE;
    float *exact = malloc(n * sizeof *exact), *rounded = malloc(n * sizeof *rounded);
    CHECK_WORK(gpu, fp8_attention, n, 0x1p-5);
    joint_attention(gpu, exact);
    fp8_attention(gpu, rounded);
    release_all(gpu);
    CHECK(distance(rounded, exact, n) > 0x1p-5);
    free(exact), free(rounded);
}

static void fp8_attention_is_refused_where_nothing_multiplies_fp8(void)
{
    oct_err err = {{0}};
    CHECK(oct_device_check_fp8_attention(gpu, &err) == OCT_OK);
    CHECK(oct_device_check_fp8_attention(oct_device_cpu(), &err) == OCT_OK);
    reopen(80, NULL);
    CHECK(oct_device_check_fp8_attention(gpu, &err) == OCT_EUNSUPPORTED);
    CHECK(strstr(err.text, "FP8 attention needs a GPU that multiplies FP8"));
    reopen(90, NULL);
}

static void embed(oct_device *d, float *out)
{
    static const int32_t ids[] = {0, 5, OUT - 1, 5};
    static const layer_kind kinds[] = {LAYER_F16, LAYER_E4M3};
    oct_err err;

    for (size_t i = 0; i < 2; i++) {
        oct_linear table = new_layer(kinds[i], 10, OUT, COLS);
        float *y = room(d, 4 * COLS);
        CHECK(!d->ops->adopt(d, &table, OCT_PRECISION_AUTO, -1, &err));
        d->ops->embed(d, y, &table, i == 0 ? NULL : put_f32(d, numbers(2, 4 * COLS, 1), 4 * COLS),
                      ids, 4);
        get_f32(d, out + i * 4 * COLS, y, 4 * COLS);
        drop_layer(d, &table);
    }
}

static void embeddings_agree_with_the_cpu(void)
{
    CHECK_WORK(gpu, embed, 2 * 4 * COLS, 1e-6);
}

// ---- Latents and maps.

static const oct_map_shape map = {.channels = 16, .height = 8, .width = 12};
#define MAP ((size_t)16 * 8 * 12)

static void patches(oct_device *d, float *out)
{
    const oct_operand y = new_operand(d, MAP);
    float *latent = room(d, MAP);
    d->ops->patchify(d, y, put_f32(d, numbers(1, MAP, 3), MAP), map, 2);
    d->ops->unpatchify(d, latent, put_activation(d, numbers(2, MAP, 3), MAP), map, 2);
    get_operand(d, out, y, MAP);
    get_f32(d, out + MAP, latent, MAP);
}

static void sampler_steps(oct_device *d, float *out)
{
    static const oct_step_factors factors = {4.5f, 2.5f, -0.1f, 0.7f, 0.8f, 0.3f};
    float *moved = room(d, sizeof factors / sizeof(float)), *denoised = room(d, MAP);
    d->ops->write(d, moved, &factors, sizeof factors);
    oct_sampler_args args = {
        .x = put_f32(d, numbers(1, MAP, 3), MAP),
        .cond = put_f32(d, numbers(2, MAP, 3), MAP),
        .factors = (const oct_step_factors *)(void *)moved,
        .n = MAP,
    };
    d->ops->sampler_step(d, &args);
    args.uncond = put_f32(d, numbers(3, MAP, 3), MAP);
    args.skipped = put_f32(d, numbers(4, MAP, 3), MAP);
    args.denoised = denoised;
    args.previous = put_f32(d, numbers(5, MAP, 3), MAP);
    d->ops->sampler_step(d, &args);
    get_f32(d, out, args.x, MAP);
    get_f32(d, out + MAP, denoised, MAP);
}

static oct_conv new_conv(oct_device *d, unsigned seed, size_t out, size_t in, size_t kernel)
{
    const size_t n = out * in * kernel * kernel;
    oct_conv conv = {.dtype = OCT_F32, .out = out, .in = in, .kernel = kernel};
    oct_err err;

    conv.weight = malloc(n * sizeof(float));
    conv.bias = malloc(out * sizeof(float));
    memcpy(conv.weight, numbers(seed, n, 0.25f), n * sizeof(float));
    memcpy(conv.bias, numbers(seed + 1, out, 1), out * sizeof(float));
    CHECK(!d->ops->adopt_conv(d, &conv, &err));
    return conv;
}

static void convolutions(oct_device *d, float *out)
{
    oct_conv three = new_conv(d, 1, 24, 16, 3), one = new_conv(d, 3, 16, 24, 1);
    void *x = put_activation(d, numbers(5, MAP, 1), MAP);
    void *wide = room(d, 24 * 96), *narrow = room(d, MAP), *half = room(d, 24 * 24);
    d->ops->conv2d(d, wide, x, &three, 8, 12);
    d->ops->conv2d(d, narrow, wide, &one, 8, 12);
    d->ops->conv2d_down2(d, half, narrow, &three, 8, 12);
    get_activation(d, out, wide, 24 * 96);
    get_activation(d, out + 24 * 96, narrow, MAP);
    get_activation(d, out + 24 * 96 + MAP, half, 24 * 24);
    d->ops->drop_conv(d, &three);
    d->ops->drop_conv(d, &one);
}

static void maps(oct_device *d, float *out)
{
    float *wide = room(d, MAP);
    void *x = room(d, MAP), *normal = room(d, MAP), *turned = room(d, MAP);
    void *large = room(d, 4 * MAP);
    d->ops->to_map(d, x, put_f32(d, numbers(1, MAP, 3), MAP), MAP);
    d->ops->group_norm(d, normal, x, put_f32(d, numbers(2, 16, 1), 16),
                       put_f32(d, numbers(3, 16, 1), 16), 1e-6f, 4, map, true);
    d->ops->group_norm(d, x, x, put_f32(d, numbers(4, 16, 1), 16),
                       put_f32(d, numbers(5, 16, 1), 16), 1e-6f, 2, map, false);
    d->ops->add(d, x, normal, MAP);
    d->ops->transpose(d, turned, x, 16, 96);
    d->ops->upsample2(d, large, x, map);
    d->ops->from_map(d, wide, turned, MAP);
    get_f32(d, out, wide, MAP);
    get_activation(d, out + MAP, large, 4 * MAP);
}

static void latents_and_maps_agree_with_the_cpu(void)
{
    CHECK_WORK(gpu, patches, 2 * MAP, F16_BOUND);
    CHECK_WORK(gpu, sampler_steps, 2 * MAP, 1e-6);
    CHECK_WORK(gpu, convolutions, 24 * 96 + MAP + 24 * 24, 2 * F16_BOUND);
    CHECK_WORK(gpu, maps, 5 * MAP, 2 * F16_BOUND);
}

static void copies_reach_the_buffers_that_they_are_for(void)
{
    float out[COLS];
    const float *x = numbers(1, COLS, 3);
    float *from = put_f32(gpu, x, COLS), *to = room(gpu, COLS);

    gpu->ops->copy(gpu, to, from, COLS * sizeof *x);
    get_f32(gpu, out, to, COLS);
    CHECK(memcmp(out, x, sizeof out) == 0);
    release_all(gpu);
}

// ---- Order: two layers side by side, then what needs both, as a block of the model does.

typedef struct block {
    oct_device *device;
    oct_linear image, text, after;
    float *x;
    void *buffers[6];
    bool has_fork, has_join;
} block;

static void open_block(block *b, oct_device *d, layer_kind of)
{
    oct_err err;
    *b = (block){.device = d, .has_fork = true, .has_join = true};
    b->image = new_layer(of, 10, COLS, COLS);
    b->text = new_layer(of, 20, COLS, COLS);
    b->after = new_layer(of, 30, COLS, COLS);
    CHECK(!d->ops->adopt(d, &b->image, OCT_PRECISION_AUTO, 0, &err));
    CHECK(!d->ops->adopt(d, &b->text, OCT_PRECISION_AUTO, 0, &err));
    CHECK(!d->ops->adopt(d, &b->after, OCT_PRECISION_AUTO, 1, &err));
    b->x = put_f32(d, numbers(1, N, 1), N);
    for (int i = 0; i < 6; i++) b->buffers[i] = room(d, N);
}

static void close_block(block *b)
{
    b->device->ops->forget(b->device);
    drop_layer(b->device, &b->image);
    drop_layer(b->device, &b->text);
    drop_layer(b->device, &b->after);
    release_all(b->device);
}

static void run_block(void *context)
{
    block *b = context;
    oct_device *d = b->device;
    const oct_device_ops *ops = d->ops;

    ops->enter_group(d, 0);
    const oct_operand x = ops->operand(d, &b->image, b->buffers[0]);
    const oct_operand c = ops->operand(d, &b->text, b->buffers[1]);
    ops->convert(d, c, b->x, N);
    if (b->has_fork) ops->fork(d);
    ops->use(d, OCT_STREAM_SIDE);
    ops->linear(d, &b->text, b->buffers[2], true, c, ROWS);
    ops->use(d, OCT_STREAM_MAIN);
    ops->layer_norm(d, x, b->x, NULL, NULL, 1e-6f, ROWS, COLS);
    ops->linear(d, &b->image, b->buffers[3], true, x, ROWS);
    if (b->has_join) ops->join(d);
    ops->add_gated(d, b->buffers[3], b->buffers[2], true, NULL, ROWS, COLS);
    ops->enter_group(d, 1);
    const oct_operand y = ops->operand(d, &b->after, b->buffers[4]);
    ops->convert(d, y, b->buffers[3], N);
    ops->linear(d, &b->after, b->buffers[5], true, y, ROWS);
    ops->add_gated(d, b->x, b->buffers[5], true, NULL, ROWS, COLS);
}

#define RUNS 4

static void run_block_often(oct_device *d, float *out)
{
    block b;
    open_block(&b, d, kind);
    for (int i = 0; i < RUNS; i++) d->ops->run(d, 3, run_block, &b);
    get_f32(d, out, b.x, N);
    close_block(&b);
}

static void replays_on_two_streams_agree_with_the_cpu(void)
{
    static const layer_kind kinds[] = {LAYER_F16, LAYER_E4M3, LAYER_E4M3_STATIC};

    for (size_t i = 0; i < 3; i++) {
        const size_t before = emulated_graph_launches();
        kind = kinds[i];
        CHECK_WORK(gpu, run_block_often, N, kind == LAYER_E4M3_STATIC ? 2e-2 : 4e-3);
        CHECK(emulated_graph_launches() - before == (RUNS - 1) * EMULATED_ORDERS);
    }
}

// Whether the orders agree when a fork or a join is left out.
static bool is_ordered(bool has_fork, bool has_join)
{
    static float first[N], got[N];
    bool is_same = true;

    for (int order = 0; order < EMULATED_ORDERS; order++) {
        block b;
        oct_err err;
        emulated_set_order((emulated_order)order);
        open_block(&b, gpu, LAYER_F16);
        b.has_fork = has_fork;
        b.has_join = has_join;
        CHECK(!gpu->ops->sync(gpu, &err));
        run_block(&b);
        get_f32(gpu, order == 0 ? first : got, b.x, N);
        if (order > 0 && memcmp(first, got, sizeof got) != 0) is_same = false;
        CHECK(!gpu->ops->sync(gpu, &err));
        close_block(&b);
    }
    emulated_set_order(EMULATED_AS_ISSUED);
    return is_same;
}

static void a_missing_fork_or_join_shows(void)
{
    CHECK(is_ordered(true, true));
    CHECK(!is_ordered(false, true));
    CHECK(!is_ordered(true, false));
}

static void a_run_that_is_not_joined_is_refused(void)
{
    block b;
    oct_err err;

    open_block(&b, gpu, LAYER_F16);
    b.has_join = false;
    for (int i = 0; i < 2; i++) gpu->ops->run(gpu, 0, run_block, &b);
    CHECK(gpu->ops->sync(gpu, &err) == OCT_EDEVICE);
    CHECK_TEXT(err.text, "emulated GPU: capture: capture sequence contains an unjoined stream");
    CHECK(!gpu->ops->sync(gpu, &err));
    close_block(&b);
}

// ---- Streaming and budget.

#define BLOCKS 5

typedef struct stack {  // layers one behind the other, each a group
    oct_device *device;
    oct_linear layers[BLOCKS];
    float *x;
    void *buffers[2];
    int skipped;
} stack;

static oct_status open_stack(stack *s, oct_device *d, layer_kind of, oct_err *err)
{
    *s = (stack){.device = d, .skipped = -1};
    oct_status st = OCT_OK;
    for (unsigned i = 0; i < BLOCKS; i++) s->layers[i] = new_layer(of, 10 * i, COLS, COLS);
    for (int i = 0; i < BLOCKS && !st; i++)
        st = d->ops->adopt(d, &s->layers[i], OCT_PRECISION_AUTO, i, err);
    return st;
}

static void close_stack(stack *s)
{
    for (int i = 0; i < BLOCKS; i++) drop_layer(s->device, &s->layers[i]);
    release_all(s->device);
}

static void run_stack(void *context)
{
    stack *s = context;
    oct_device *d = s->device;

    for (int i = 0; i < BLOCKS; i++) {
        if (i == s->skipped) continue;
        d->ops->enter_group(d, i);
        const oct_operand y = d->ops->operand(d, &s->layers[i], s->buffers[0]);
        d->ops->layer_norm(d, y, s->x, NULL, NULL, 1e-6f, ROWS, COLS);
        d->ops->linear(d, &s->layers[i], s->buffers[1], true, y, ROWS);
        d->ops->add_gated(d, s->x, s->buffers[1], true, NULL, ROWS, COLS);
    }
}

// Twice through all, once with a group left out, once again.
static void run_stack_often(oct_device *d, float *out)
{
    stack s;
    oct_err err;

    CHECK(!open_stack(&s, d, kind, &err));
    s.x = put_f32(d, numbers(1, N, 1), N);
    for (int i = 0; i < 2; i++) s.buffers[i] = room(d, N);
    for (int i = 0; i < 4; i++) {
        s.skipped = i == 2 ? 3 : -1;
        run_stack(&s);
    }
    get_f32(d, out, s.x, N);
    close_stack(&s);
}

static void streamed_weights_give_the_same_bits(void)
{
    static float resident[N], streamed[N];
    static const layer_kind kinds[] = {LAYER_F16, LAYER_E4M3_STATIC, LAYER_E4M3_ROWS, LAYER_MX};

    for (size_t i = 0; i < 4; i++) {
        kind = kinds[i];
        run_stack_often(gpu, resident);
        reopen(90, &(oct_device_request){.name = "cuda", .is_low_vram = true});
        for (int order = 0; order < EMULATED_ORDERS; order++) {
            emulated_set_order((emulated_order)order);
            run_stack_often(gpu, streamed);
            CHECK(memcmp(resident, streamed, sizeof resident) == 0);
        }
        reopen(90, NULL);
    }
}

// Two MiB each.
static oct_status adopt_large(oct_device *d, oct_linear layers[3], oct_err *err)
{
    oct_status st = OCT_OK;
    for (int i = 0; i < 3; i++) {
        layers[i] = new_layer(LAYER_F16, 1, 1024, 1024);
        if (!st) st = d->ops->adopt(d, &layers[i], OCT_PRECISION_AUTO, i, err);
    }
    return st;
}

static void drop_large(oct_device *d, oct_linear layers[3])
{
    for (int i = 0; i < 3; i++) drop_layer(d, &layers[i]);
}

static void a_budget_is_refused_with_the_number_that_is_needed(void)
{
    const oct_device_request request = {.name = "cuda", .budget = 5 << 20};
    oct_linear layers[3];
    void *p = NULL;
    oct_err err;

    reopen(90, &request);
    CHECK(!adopt_large(gpu, layers, &err));  // more than there is, and it knows how much
    CHECK(gpu->ops->alloc(gpu, &p, 2 << 20, "activations", &err) == OCT_ENOMEM);
    CHECK_TEXT(err.text, "out of memory for activations: 0.00783 GiB are needed on the GPU, "
                         "--vram allows 0.00488 GiB; --low-vram would need 0.00587 GiB");
    CHECK(gpu->peak_bytes <= request.budget);
    drop_large(gpu, layers);
    CHECK(!gpu->ops->alloc(gpu, &p, 2 << 20, "activations", &err));
    gpu->ops->release(gpu, p);
    reopen(90, NULL);
}

static void a_layer_without_room_fails_when_it_is_used(void)
{
    oct_linear layers[3];
    oct_err err;

    reopen(90, &(oct_device_request){.name = "cuda", .budget = 5 << 20});
    CHECK(!adopt_large(gpu, layers, &err));
    const oct_operand x = gpu->ops->operand(gpu, &layers[2], room(gpu, 1024));
    gpu->ops->convert(gpu, x, put_f32(gpu, numbers(1, 1024, 1), 1024), 1024);
    gpu->ops->linear(gpu, &layers[2], room(gpu, 1024), true, x, 1);
    CHECK(gpu->ops->sync(gpu, &err) == OCT_ENOMEM);
    CHECK(strstr(err.text, "out of memory for made up: "));
    CHECK(!gpu->ops->sync(gpu, &err));
    release_all(gpu);
    drop_large(gpu, layers);
    reopen(90, NULL);
}

static void a_budget_that_is_enough_is_kept(void)
{
    oct_device_request request = {.name = "cuda", .budget = 100 << 20};
    static float out[N];

    kind = LAYER_E4M3_STATIC;
    for (int is_low_vram = 0; is_low_vram < 2; is_low_vram++) {
        request.is_low_vram = is_low_vram;
        reopen(90, &request);
        run_stack_often(gpu, out);
        CHECK(gpu->peak_bytes > 0 && gpu->peak_bytes == emulated_bytes_peak());
        CHECK(gpu->peak_bytes <= request.budget);
    }
    reopen(90, NULL);
}

// ---- Observers.

#define STEPS 3

static void observe_layers(oct_device *d, oct_observer *observer)
{
    static const layer_kind kinds[] = {LAYER_E4M3_STATIC, LAYER_F16};
    oct_err err;

    d->observer = observer;
    for (int i = 0; i < 2; i++) {
        oct_linear linear = new_layer(kinds[i], 10, OUT, COLS);
        linear.layer = i;
        CHECK(!d->ops->adopt(d, &linear, OCT_PRECISION_AUTO, -1, &err));
        for (int step = -2; step < STEPS; step++) {
            const size_t rows = step == -1 ? STEPS : ROWS;
            const oct_operand x = d->ops->operand(d, &linear, room(d, N));
            observer->step = step;
            observer->branch = (i + step) & 1;
            const oct_operand y = d->ops->operand(d, &linear, x.data);
            d->ops->activate(d, y, OCT_SILU, put_f32(d, numbers((unsigned)(step + 5), N, 3), N),
                             rows * COLS);
            d->ops->linear(d, &linear, room(d, (size_t)ROWS * OUT), true, y, rows);
            if (step == 0) CHECK(!d->ops->sync(d, &err));
        }
        CHECK(!d->ops->sync(d, &err));
        drop_layer(d, &linear);
    }
    d->observer = NULL;
    release_all(d);
}

static void init_observer(oct_observer *observer)
{
    static oct_layer layers[2] = {{.name = "a", .in_features = COLS},
                                  {.name = "b", .in_features = COLS}};
    const oct_denoiser denoiser = {.layers = layers, .n_layers = 2};

    oct_observer_init(observer, 2, STEPS);
    oct_observer_add_channels(observer, &denoiser);
}

// The GPU counts what the layer reads, in 16 bits: a number in a thousand is rounded up into the
// next bin.
static void check_counts(const oct_exponents *got, const oct_exponents *want)
{
    const uint64_t total = oct_exponents_total(want);

    CHECK(total > 0 && oct_exponents_total(got) == total);
    for (int bin = 0; bin < OCT_EXPONENT_BINS; bin++) {
        CHECK_NEAR((double)got->counts[bin], (double)want->counts[bin], 0.002 * (double)total);
    }
}

static void check_channels(const oct_channels *got, const oct_channels *want)
{
    CHECK(want->rows > 0 && got->rows == want->rows);
    for (size_t i = 0; i < want->n && want->rows > 0; i++) {
        const double mean = (double)oct_channels_mean(want, i);
        CHECK_NEAR((double)oct_channels_mean(got, i), mean, 0.001 * mean);
    }
}

static void observers_see_what_the_cpu_sees(void)
{
    oct_observer want, got;

    for (int order = 0; order < EMULATED_ORDERS; order++) {
        emulated_set_order((emulated_order)order);
        init_observer(&want);
        init_observer(&got);
        observe_layers(oct_device_cpu(), &want);
        observe_layers(gpu, &got);
        for (size_t i = 0; i < 2 * 2 * STEPS; i++) {
            CHECK(want.amax[i] > 0);
            CHECK(fabsf(got.amax[i] - want.amax[i]) <= 1e-6f * want.amax[i]);
        }
        check_counts(&got.exponents[1], &want.exponents[1]);
        check_channels(&got.channels[1], &want.channels[1]);
        CHECK(got.channels[0].rows == 0);  // codes
        CHECK(oct_exponents_total(&want.exponents[0]) > 0);
        CHECK(oct_exponents_total(&got.exponents[0]) == 0);  // codes
        oct_observer_deinit(&want);
        oct_observer_deinit(&got);
    }
    emulated_set_order(EMULATED_AS_ISSUED);
}

static void a_new_observer_starts_at_zero(void)
{
    oct_observer first, second;
    oct_err err;

    oct_observer_init(&first, 2, STEPS);
    oct_observer_init(&second, 2, STEPS);
    observe_layers(gpu, &first);
    gpu->observer = &second;
    CHECK(!gpu->ops->sync(gpu, &err));
    gpu->observer = NULL;
    CHECK(oct_observer_amax(&first, 0) > 0 && oct_observer_amax(&second, 0) == 0);
    oct_observer_deinit(&first);
    oct_observer_deinit(&second);
}

static void what_is_observed_is_not_replayed(void)
{
    oct_observer observer;
    block b;
    const size_t before = emulated_graph_launches();
    oct_err err;

    oct_observer_init(&observer, 2, STEPS);
    open_block(&b, gpu, LAYER_F16);
    gpu->observer = &observer;
    for (int i = 0; i < RUNS; i++) gpu->ops->run(gpu, 0, run_block, &b);
    CHECK(!gpu->ops->sync(gpu, &err));
    gpu->observer = NULL;
    CHECK(emulated_graph_launches() == before);
    close_block(&b);
    oct_observer_deinit(&observer);
}

// ---- Opening, and failures.

static void check_refusal(emulated_device with, const char *name, const char *reason)
{
    oct_device *device = NULL;
    oct_err err = {0};

    emulated_reset(with);
    CHECK(oct_cuda_open(&device, &(oct_device_request){.name = name}, &gpu_libraries, &err));
    CHECK(!device);
    CHECK_TEXT(err.text, reason);
    CHECK(emulated_buffers() == 0);
}

static void a_device_that_cannot_be_used_says_why(void)
{
    const emulated_device good = {.n_devices = 2, .major = 9, .bytes = GPU_BYTES};
    static const oct_cuda_libraries missing = {.cublaslt = "/nowhere/libcublasLt.so"};
    oct_device *device = NULL;
    oct_err err = {0};

    gpu_close(gpu);
    gpu = NULL;
    check_refusal((emulated_device){0}, "auto", "no CUDA driver (libcuda.so.1)");
    check_refusal((emulated_device){.n_devices = 1, .major = 7, .minor = 5, .bytes = GPU_BYTES},
                  "cuda", "emulated GPU has compute capability 7.5, not 8.0 or more");
    check_refusal(good, "cuda:2", "there is no GPU 2, only 0 to 1");
    check_refusal(good, "cuda:x", "'x' is not the number of a GPU");
    emulated_reset(good);
    CHECK(oct_cuda_open(&device, &(oct_device_request){.name = "cuda:1"}, &missing, &err) ==
          OCT_EUNSUPPORTED);
    CHECK(strstr(err.text, "cuBLASLt"));
    reopen(90, NULL);
}

// Adopt, run and read while the n-th allocation fails.
static oct_status run_short_of_memory(oct_device *d, unsigned n, oct_err *err)
{
    oct_linear linear = new_layer(LAYER_E4M3_STATIC, 10, OUT, COLS);
    void *x = room(d, N), *y = room(d, ROWS * OUT);
    float *from = put_f32(d, numbers(1, N, 1), N);

    emulated_fail_allocation(n);
    oct_status st = d->ops->adopt(d, &linear, OCT_PRECISION_AUTO, 0, err);
    if (!st) {
        const oct_operand operand = d->ops->operand(d, &linear, x);
        d->ops->convert(d, operand, from, N);
        d->ops->enter_group(d, 0);
        d->ops->linear(d, &linear, y, false, operand, ROWS);
        st = d->ops->sync(d, err);
    }
    emulated_fail_allocation(0);
    drop_layer(d, &linear);
    release_all(d);
    return st;
}

static void every_allocation_may_fail(void)
{
    for (int is_low_vram = 0; is_low_vram < 2; is_low_vram++) {
        const oct_device_request request = {.name = "cuda", .is_low_vram = is_low_vram};
        unsigned failures = 0;
        for (unsigned n = 1;; n++) {
            oct_err err = {0};
            reopen(90, &request);
            const oct_status st = run_short_of_memory(gpu, n, &err);
            if (!st) break;
            CHECK(st == OCT_ENOMEM && strstr(err.text, "out of memory for "));
            failures++;
        }
        CHECK(failures >= 2);
    }
    reopen(90, NULL);
}

int main(int argc, char **argv)
{
    gpu_init(argc, argv);
    reopen(90, NULL);
    RUN(operations_on_rows_agree_with_the_cpu);
    RUN(layers_of_all_types_agree_with_the_cpu);
    RUN(paths_tell_what_was_launched);
    RUN(attention_agrees_with_the_cpu);
    RUN(fp8_attention_agrees_with_the_cpu);
    RUN(fp8_attention_is_refused_where_nothing_multiplies_fp8);
    RUN(embeddings_agree_with_the_cpu);
    RUN(latents_and_maps_agree_with_the_cpu);
    RUN(copies_reach_the_buffers_that_they_are_for);
    RUN(replays_on_two_streams_agree_with_the_cpu);
    RUN(a_missing_fork_or_join_shows);
    RUN(a_run_that_is_not_joined_is_refused);
    RUN(streamed_weights_give_the_same_bits);
    RUN(a_budget_is_refused_with_the_number_that_is_needed);
    RUN(a_layer_without_room_fails_when_it_is_used);
    RUN(a_budget_that_is_enough_is_kept);
    RUN(observers_see_what_the_cpu_sees);
    RUN(a_new_observer_starts_at_zero);
    RUN(what_is_observed_is_not_replayed);
    RUN(a_device_that_cannot_be_used_says_why);
    RUN(every_allocation_may_fail);
    gpu_close(gpu);
    return test_end();
}
