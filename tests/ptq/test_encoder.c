// SPDX-License-Identifier: Apache-2.0
//
// Encoding by every method, against references in binary64 that share no code with it: a code is
// the nearest of the 127 magnitudes of its format.
#include <omp.h>
#include <stdlib.h>

#include "common/number.h"
#include "kernels/kernels.h"
#include "ptq/encoder.h"
#include "tests/ptq/denoiser.h"

#define ROWS 1152
#define COLUMNS 128
#define N ((size_t)ROWS * COLUMNS)
#define MX_SCALES (N / 32)

// ---- A weight, a policy, what comes out.

static uint32_t random_state = 1;

static double uniform(void)  // 0..1
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) / 16777216.0;
}

static double gaussian(void)
{
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += uniform();
    return sum;
}

static const oct_dtype dtypes[] = {OCT_F16, OCT_BF16, OCT_F32};

// What the calibration says of the input of the layer; all of it 0: there is none.
static double energies[COLUMNS];

typedef struct encoding {
    opened_denoiser model;
    oct_policy policy;
    oct_calibration calibration;
    oct_calibration_layer calibrated;
    oct_channels channels;
    oct_energy sums[COLUMNS];
    oct_plan_params params;
    oct_plan plan;
    const oct_layer *layer;  // [ROWS][COLUMNS]
    oct_dtype dtype;
    void *x;         // [N] of dtype
    double *value;   // [N], the same
    uint8_t *codes;  // [N]
    float scales[ROWS];
    uint8_t mx_scales[MX_SCALES];
} encoding;

static oct_policy parse_policy(const char *set)
{
    oct_policy policy;
    oct_err err = {0};
    char text[1000];

    snprintf(text, sizeof text, "{\"octavo_policy\": 1, \"name\": \"t\", \"default\": {%s}}", set);
    CHECK(oct_policy_parse(&policy, text, strlen(text), &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    return policy;
}

static void put(encoding *e, size_t i, double value)
{
    if (e->dtype == OCT_F16) {
        ((uint16_t *)e->x)[i] = oct_f32_to_f16((float)value);
        e->value[i] = (double)oct_f16_to_f32(((uint16_t *)e->x)[i]);
    } else if (e->dtype == OCT_BF16) {
        ((uint16_t *)e->x)[i] = oct_f32_to_bf16((float)value);
        e->value[i] = (double)oct_bf16_to_f32(((uint16_t *)e->x)[i]);
    } else {
        ((float *)e->x)[i] = (float)value;
        e->value[i] = (double)(float)value;
    }
}

// Like weights: Gaussian rows of different spread, three of them large, one of zeros.
static void fill(encoding *e)
{
    random_state = 1;
    for (size_t row = 0; row < ROWS; row++) {
        double spread = 0.02 * (1 + uniform());
        if (row % 400 == 7) spread *= 1e5;
        if (row == 5) spread = 0;
        for (size_t column = 0; column < COLUMNS; column++) {
            put(e, row * COLUMNS + column, spread * gaussian());
        }
    }
}

static void calibrate(encoding *e)
{
    enum { TOKENS = 5 };

    e->channels = (oct_channels){.rows = TOKENS, .n = COLUMNS, .sums = e->sums};
    for (size_t i = 0; i < COLUMNS; i++) oct_energy_add(&e->sums[i], TOKENS * energies[i]);
    e->calibrated = (oct_calibration_layer){.name = e->layer->name, .channels = &e->channels};
    e->calibration = (oct_calibration){.layers = &e->calibrated, .n_layers = 1};
    e->params.calibration = &e->calibration;
}

static encoding *open_encoding(oct_dtype dtype, const char *set, float qmax, oct_snap snap)
{
    encoding *e = calloc(1, sizeof *e);
    model_spec spec = model_tiny;
    oct_err err = {0};

    spec.dtype = dtype;
    open_denoiser(&e->model, &spec);
    e->policy = parse_policy(set);
    e->params = (oct_plan_params){.policy = &e->policy, .qmax = qmax, .snap_scales = snap};
    e->layer = oct_denoiser_find(&e->model.denoiser, "joint_blocks.0.x_block.adaLN_modulation.1");
    calibrate(e);
    CHECK(oct_plan_init(&e->plan, &e->model.denoiser, &e->params, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(e->layer->out_features == ROWS && e->layer->in_features == COLUMNS);
    e->dtype = dtype;
    e->x = malloc(N * sizeof(float));
    e->value = malloc(N * sizeof *e->value);
    e->codes = malloc(N);
    fill(e);
    return e;
}

static void close_encoding(encoding *e)
{
    oct_plan_deinit(&e->plan);
    oct_policy_deinit(&e->policy);
    close_denoiser(&e->model);
    free(e->x);
    free(e->value);
    free(e->codes);
    free(e);
}

static void run(encoding *e)
{
    const bool is_mx = oct_plan_find(&e->plan, e->layer)->granularity == OCT_PER_MX_BLOCK;
    void *scales = is_mx ? (void *)e->mx_scales : (void *)e->scales;
    oct_err err = {0};

    CHECK(oct_plan_encode(&e->plan, e->layer, e->x, e->codes, scales, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

#define E4M3 "\"weights\": \"e4m3\""
#define E5M2 "\"weights\": \"e5m2\""
#define CHANNEL ", \"granularity\": \"channel\""
#define MX ", \"granularity\": \"mx\""
#define MSE ", \"scale\": \"mse\""
#define PERCENTILE(p) ", \"scale\": \"percentile\", \"percentile\": " #p

// ---- References.

// The magnitude of a code in binary64, by its fields; worked out once.
static double magnitude(int code, bool is_e5m2)
{
    static double table[2][128];

    if (table[is_e5m2][1] == 0) {
        const int bits = is_e5m2 ? 2 : 3, bias = is_e5m2 ? 15 : 7;
        for (int i = 0; i < 128; i++) {
            const int exponent = i >> bits, mantissa = i & ((1 << bits) - 1);
            table[is_e5m2][i] = exponent == 0
                                    ? ldexp(mantissa, 1 - bias - bits)
                                    : ldexp((1 << bits) + mantissa, exponent - bias - bits);
        }
    }
    return table[is_e5m2][code];
}

// The nearest code; in the middle the even one. By bisection: codes ascend.
static uint8_t nearest(double x, bool is_e5m2)
{
    const int max = is_e5m2 ? 0x7b : 0x7e;
    const double m = fabs(x);
    int low = 0, high = max;

    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (magnitude(middle, is_e5m2) <= m) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    if (low < max) {
        const double below = m - magnitude(low, is_e5m2), above = magnitude(low + 1, is_e5m2) - m;
        if (above < below || (above == below && low % 2)) low++;
    }
    return (uint8_t)(low | (signbit(x) ? 0x80 : 0));
}

static double decoded(uint8_t code, double scale, bool is_e5m2)
{
    const double m = (double)(float)(magnitude(code & 0x7f, is_e5m2) * scale);
    return code & 0x80 ? -m : m;
}

// Quotients are binary32 before they become codes.
static uint8_t code_of(double x, float scale, bool is_e5m2)
{
    return nearest((double)((float)x / scale), is_e5m2);
}

static bool is_calibrated;  // whether errors count by the energies

// x begins with column 0.
static double squared_error(const double *x, size_t n, float scale, bool is_e5m2)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = x[i] - decoded(code_of(x[i], scale, is_e5m2), (double)scale, is_e5m2);
        sum += d * d * (is_calibrated ? energies[i % COLUMNS] : 1);
    }
    return sum;
}

static double largest(const double *x, size_t n)
{
    double max = 0;
    for (size_t i = 0; i < n; i++) max = fmax(max, fabs(x[i]));
    return max;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double ranked(const double *x, size_t n, size_t rank)  // from 1
{
    double *sorted = malloc(n * sizeof *sorted);
    for (size_t i = 0; i < n; i++) sorted[i] = fabs(x[i]);
    qsort(sorted, n, sizeof *sorted, compare_doubles);
    const double found = sorted[rank - 1];
    free(sorted);
    return found;
}

static void check_codes(const encoding *e, bool is_per_channel, bool is_e5m2)
{
    size_t wrong = 0;
    for (size_t i = 0; i < N; i++) {
        const float scale = e->scales[is_per_channel ? i / COLUMNS : 0];
        wrong += e->codes[i] != code_of(e->value[i], scale, is_e5m2);
    }
    CHECK(wrong == 0);
}

static float scale_for(double range, double qmax)
{
    return range == 0 ? 1 : (float)range / (float)qmax;
}

// ---- Scales by the largest.

static void channels_have_the_scale_of_their_largest(void)
{
    for (int i = 0; i < 3; i++) {
        encoding *e = open_encoding(dtypes[i], E4M3 CHANNEL, 448, OCT_SNAP_NONE);
        size_t wrong = 0;
        run(e);
        for (size_t row = 0; row < ROWS; row++) {
            wrong += e->scales[row] != scale_for(largest(e->value + row * COLUMNS, COLUMNS), 448);
        }
        CHECK(wrong == 0 && e->scales[5] == 1);
        check_codes(e, true, false);
        close_encoding(e);
    }
}

static void e5m2_reaches_57344(void)
{
    for (int i = 0; i < 6; i++) {
        const float qmax = i < 3 ? 448 : 127;  // the same share of 57344
        encoding *e = open_encoding(dtypes[i % 3], E5M2, qmax, OCT_SNAP_NONE);
        run(e);
        CHECK(e->scales[0] == scale_for(largest(e->value, N), 128 * (double)qmax));
        check_codes(e, false, true);
        close_encoding(e);
    }
    encoding *e = open_encoding(OCT_F16, E5M2 CHANNEL, 448, OCT_SNAP_NONE);
    run(e);
    CHECK(e->scales[7] == scale_for(largest(e->value + 7 * COLUMNS, COLUMNS), 57344));
    check_codes(e, true, true);
    close_encoding(e);
}

static double sqnr_db(const encoding *e, size_t first, size_t n, bool is_per_channel)
{
    double signal = 0, noise = 0;
    for (size_t i = first; i < first + n; i++) {
        const double scale = (double)e->scales[is_per_channel ? i / COLUMNS : 0];
        const double d = e->value[i] - decoded(e->codes[i], scale, false);
        signal += e->value[i] * e->value[i];
        noise += d * d;
    }
    return 10 * log10(signal / noise);
}

// Three rows are a hundred thousand times larger: with their scale the others are subnormal.
static void rows_beside_outliers_gain_from_scales_of_their_own(void)
{
    encoding *tensor = open_encoding(OCT_F16, E4M3, 448, OCT_SNAP_NONE);
    encoding *channel = open_encoding(OCT_F16, E4M3 CHANNEL, 448, OCT_SNAP_NONE);
    double least_gain = INFINITY;

    run(tensor);
    run(channel);
    for (size_t row = 0; row < ROWS; row++) {
        if (row == 5 || row % 400 == 7) continue;
        const double gain = sqnr_db(channel, row * COLUMNS, COLUMNS, true) -
                            sqnr_db(tensor, row * COLUMNS, COLUMNS, false);
        least_gain = fmin(least_gain, gain);
    }
    printf("# rows beside outliers: at least %.1f dB better\n", least_gain);
    CHECK(least_gain > 0);
    CHECK(sqnr_db(channel, 0, N, true) > 28);
    close_encoding(tensor);
    close_encoding(channel);
}

// ---- Percentiles.

static void percentiles_are_exact_ranks(void)
{
    static const struct {
        const char *set;
        size_t rank;  // ceil(p * 147456 / 100)
    } cases[] = {
        {E4M3 PERCENTILE(99.99), 147442},
        {E4M3 PERCENTILE(50), 73728},
        {E4M3 PERCENTILE(100), 147456},
        {E4M3 PERCENTILE(1), 1475},
    };

    for (size_t i = 0; i < 12; i++) {
        encoding *e = open_encoding(dtypes[i / 4], cases[i % 4].set, 448, OCT_SNAP_NONE);
        run(e);
        CHECK(e->scales[0] == scale_for(ranked(e->value, N, cases[i % 4].rank), 448));
        check_codes(e, false, false);
        close_encoding(e);
    }
}

static void channels_have_percentiles_of_their_own(void)
{
    for (int i = 0; i < 3; i++) {
        encoding *e = open_encoding(dtypes[i], E4M3 CHANNEL PERCENTILE(99), 448, OCT_SNAP_NONE);
        size_t wrong = 0;
        run(e);
        for (size_t row = 0; row < ROWS; row++) {
            const double *x = e->value + row * COLUMNS;
            wrong += e->scales[row] != scale_for(ranked(x, COLUMNS, 127), 448);
        }
        CHECK(wrong == 0);
        check_codes(e, true, false);
        close_encoding(e);
    }
}

static void a_percentile_of_zero_gives_way_to_the_largest(void)
{
    encoding *e = open_encoding(OCT_F16, E4M3 PERCENTILE(50), 448, OCT_SNAP_NONE);

    for (size_t i = 0; i < N; i++) put(e, i, i % 3 ? 0 : -0.5);
    run(e);
    CHECK(e->scales[0] == 0.5f / 448);
    CHECK(e->codes[0] == 0xfe && e->codes[1] == 0);
    close_encoding(e);
}

// ---- Least squared error.

// Whether `scale` is of the grid and none of the grid has a smaller error, but for rounding.
static bool is_best(const double *x, size_t n, float scale, double qmax, bool is_e5m2)
{
    const float start = scale_for(largest(x, n), qmax);
    const double error = squared_error(x, n, scale, is_e5m2);
    bool is_in_grid = false, is_least = true;

    for (int i = 24; i <= 64; i++) {
        const float other = (float)((double)start * i / 32);
        if (other == scale) is_in_grid = true;
        if (squared_error(x, n, other, is_e5m2) < error * (1 - 1e-9)) is_least = false;
    }
    return is_in_grid && is_least && error <= squared_error(x, n, start, is_e5m2);
}

static void mse_finds_the_least_error_of_its_grid(void)
{
    for (int i = 0; i < 3; i++) {
        encoding *e = open_encoding(dtypes[i], E4M3 MSE, 448, OCT_SNAP_NONE);
        run(e);
        CHECK(is_best(e->value, N, e->scales[0], 448, false));
        check_codes(e, false, false);
        close_encoding(e);
    }
    encoding *e = open_encoding(OCT_BF16, E5M2 MSE, 448, OCT_SNAP_NONE);
    run(e);
    CHECK(is_best(e->value, N, e->scales[0], 57344, true));
    check_codes(e, false, true);
    close_encoding(e);
}

static void mse_is_searched_for_every_channel(void)
{
    for (int i = 0; i < 3; i++) {
        encoding *e = open_encoding(dtypes[i], E4M3 CHANNEL MSE, 448, OCT_SNAP_NONE);
        double error = 0, error_of_max = 0;
        size_t wrong = 0;
        run(e);
        for (size_t row = 0; row < ROWS; row++) {
            const double *x = e->value + row * COLUMNS;
            const float start = scale_for(largest(x, COLUMNS), 448);
            error += squared_error(x, COLUMNS, e->scales[row], false);
            error_of_max += squared_error(x, COLUMNS, start, false);
            if (row != 5 && row % 8 < 2) wrong += !is_best(x, COLUMNS, e->scales[row], 448, false);
        }
        CHECK(wrong == 0 && e->scales[5] == 1);
        CHECK(error < 0.95 * error_of_max);
        printf("# squared error by mse: %.4f of that by max\n", error / error_of_max);
        check_codes(e, true, false);
        close_encoding(e);
    }
}

static double tensor_sqnr_db(const encoding *e)
{
    double signal = 0;
    for (size_t i = 0; i < N; i++) signal += e->value[i] * e->value[i];
    return 10 * log10(signal / squared_error(e->value, N, e->scales[0], false));
}

static void gaussian_weights_have_31_5_decibels_by_max_and_no_less_by_mse(void)
{
    for (unsigned i = 0; i < 6; i++) {
        encoding *e = open_encoding(dtypes[i % 3], i < 3 ? E4M3 : E4M3 MSE, 448, OCT_SNAP_NONE);
        random_state = 7 + i % 3;
        for (size_t k = 0; k < N; k++) put(e, k, 0.02 * gaussian());
        run(e);
        const double by_max =
            squared_error(e->value, N, scale_for(largest(e->value, N), 448), false);
        CHECK(squared_error(e->value, N, e->scales[0], false) <= by_max);
        CHECK_NEAR(tensor_sqnr_db(e), 31.5, i < 3 ? 0.1 : 0.2);
        close_encoding(e);
    }
}

// Half of the numbers at a point where the scale of the largest rounds badly.
static void mse_moves_off_a_bad_grid(void)
{
    encoding *e = open_encoding(OCT_F16, E4M3 MSE, 448, OCT_SNAP_NONE);

    for (size_t i = 0; i < N; i++) put(e, i, i == 0 ? 448 : 17);  // between 16 and 18
    run(e);
    CHECK(e->scales[0] != 1);
    CHECK(squared_error(e->value, N, e->scales[0], false) <
          0.1 * squared_error(e->value, N, 1, false));
    close_encoding(e);
}

// ---- By least squared error of the outputs.

// Powers of two, whose shares of the largest are exact.
static void set_energies(unsigned seed)
{
    random_state = seed;
    for (size_t i = 0; i < COLUMNS; i++) energies[i] = ldexp(1, -(int)(25 * uniform()));
    energies[seed % COLUMNS] = 16;
    energies[(seed + 1) % COLUMNS] = 0;
    is_calibrated = true;
}

static void clear_energies(void)
{
    memset(energies, 0, sizeof energies);
    is_calibrated = false;
}

static void mse_weighs_by_the_energy_of_input_channels(void)
{
    for (unsigned i = 0; i < 4; i++) {
        set_energies(i);
        encoding *e = open_encoding(dtypes[i % 3], i < 3 ? E4M3 MSE : E5M2 MSE, 448, OCT_SNAP_NONE);
        run(e);
        CHECK(is_best(e->value, N, e->scales[0], i < 3 ? 448 : 57344, i == 3));
        check_codes(e, false, i == 3);
        close_encoding(e);
    }
    clear_energies();
}

static void channels_weigh_by_the_energy_too(void)
{
    for (unsigned i = 0; i < 3; i++) {
        double error = 0, error_of_max = 0, error_unweighted = 0;
        size_t wrong = 0;
        set_energies(40 + i);
        encoding *e = open_encoding(dtypes[i], E4M3 CHANNEL MSE, 448, OCT_SNAP_NONE);
        run(e);
        e->params.calibration = NULL;
        encoding *plain = calloc(1, sizeof *plain);
        *plain = *e;
        CHECK(oct_plan_init(&plain->plan, &e->model.denoiser, &e->params, NULL) == OCT_OK);
        run(plain);
        for (size_t row = 0; row < ROWS; row++) {
            const double *x = e->value + row * COLUMNS;
            const float start = scale_for(largest(x, COLUMNS), 448);
            const double here = squared_error(x, COLUMNS, e->scales[row], false);
            const double of_max = squared_error(x, COLUMNS, start, false);
            wrong += here > of_max;  // never worse than max, on any row
            if (row != 5 && row % 8 < 2) wrong += !is_best(x, COLUMNS, e->scales[row], 448, false);
            error += here;
            error_of_max += of_max;
            error_unweighted += squared_error(x, COLUMNS, plain->scales[row], false);
        }
        CHECK(wrong == 0 && e->scales[5] == 1);
        CHECK(error < 0.5 * error_of_max && error < 0.8 * error_unweighted);
        printf("# squared error of outputs by mse: %.3f of that by max; unweighted %.3f\n",
               error / error_of_max, error_unweighted / error_of_max);
        oct_plan_deinit(&plain->plan);
        free(plain);
        close_encoding(e);
    }
    clear_energies();
}

static void equal_energies_change_nothing(void)
{
    static const char *const sets[] = {E4M3 MSE, E4M3 CHANNEL MSE, E4M3, E4M3 CHANNEL};
    float scales[ROWS];

    for (int i = 0; i < 12; i++) {
        encoding *e = open_encoding(dtypes[i % 3], sets[i / 3], 448, OCT_SNAP_NONE);
        run(e);  // of a calibration in which nothing came in
        memcpy(scales, e->scales, sizeof scales);
        close_encoding(e);
        for (size_t c = 0; c < COLUMNS; c++) energies[c] = 0.3;
        e = open_encoding(dtypes[i % 3], sets[i / 3], 448, OCT_SNAP_NONE);
        run(e);
        CHECK(memcmp(scales, e->scales, sizeof scales) == 0);
        close_encoding(e);
        clear_energies();
    }
}

// ---- Snapping.

static void snapped_scales_are_rounded_up(void)
{
    static const char *const sets[] = {E4M3, E4M3 CHANNEL, E4M3 MSE, E4M3 CHANNEL MSE};

    for (int i = 0; i < 8; i++) {
        const oct_snap snap = i < 4 ? OCT_SNAP_BF16 : OCT_SNAP_POW2;
        const bool is_per_channel = i % 2, is_max = i % 4 < 2;
        encoding *e = open_encoding(OCT_F16, sets[i % 4], 448, snap);
        size_t wrong = 0;
        run(e);
        for (size_t row = 0; row < (is_per_channel ? ROWS : 1); row++) {
            const size_t n = is_per_channel ? COLUMNS : N;
            const float start = scale_for(largest(e->value + row * n, n), 448);
            const float scale = e->scales[row];
            int exponent;
            wrong += snap == OCT_SNAP_POW2 && frexpf(scale, &exponent) != 0.5f;
            wrong += (oct_f32_bits(scale) & 0xffff) != 0;
            if (is_max)
                wrong += scale < start || scale >= start * (snap == OCT_SNAP_POW2 ? 2 : 1.01f);
        }
        CHECK(wrong == 0);
        check_codes(e, is_per_channel, false);
        close_encoding(e);
    }
}

static void snapping_knows_its_edges(void)
{
    CHECK(oct_scale_snap(1, OCT_SNAP_POW2) == 1 && oct_scale_snap(1, OCT_SNAP_BF16) == 1);
    CHECK(oct_scale_snap(0x1.000002p0f, OCT_SNAP_POW2) == 2);
    CHECK(oct_scale_snap(0x1.000002p0f, OCT_SNAP_BF16) == 0x1.02p0f);
    CHECK(oct_scale_snap(0x1.000002p0f, OCT_SNAP_NONE) == 0x1.000002p0f);
    CHECK(oct_scale_snap(0x1p-126f, OCT_SNAP_POW2) == 0x1p-126f);
    CHECK(isinf(oct_scale_snap(0x1.fffffep127f, OCT_SNAP_BF16)));
    CHECK(isinf(oct_scale_snap(0x1.000002p127f, OCT_SNAP_POW2)));
    CHECK(isinf(oct_scale_snap(INFINITY, OCT_SNAP_POW2)));
}

static void snap_names_are_read_back(void)
{
    for (oct_snap snap = OCT_SNAP_NONE; snap <= OCT_SNAP_POW2; snap++) {
        oct_snap read = OCT_SNAP_NONE;
        CHECK(oct_snap_parse(oct_snap_name(snap), &read) && read == snap);
    }
    oct_snap read = OCT_SNAP_BF16;
    CHECK(!oct_snap_parse("fp16", &read) && read == OCT_SNAP_BF16);
}

// ---- MX.

static void mx_blocks_follow_the_specification(void)
{
    for (int i = 0; i < 3; i++) {
        encoding *e = open_encoding(dtypes[i], E4M3 MX, 127, OCT_SNAP_BF16);  // neither has a say
        size_t wrong = 0, saturated = 0;
        run(e);
        for (size_t b = 0; b < MX_SCALES; b++) {
            const double *x = e->value + b * 32, amax = largest(x, 32);
            const int exponent = amax == 0 ? -127 : (int)floor(log2(amax)) - 8;
            wrong += e->mx_scales[b] != exponent + 127;
            for (size_t j = 0; j < 32; j++) {
                const double quotient = ldexp(x[j], -exponent);
                wrong += e->codes[b * 32 + j] != nearest(quotient, false);
                saturated += fabs(quotient) > 448;
            }
        }
        CHECK(wrong == 0 && saturated > 0);
        close_encoding(e);
    }
}

static void mx_scales_end_at_the_smallest(void)
{
    encoding *e = open_encoding(OCT_F32, E4M3 MX, 448, OCT_SNAP_NONE);

    for (size_t i = 0; i < N; i++) put(e, i, 0);
    put(e, 32, 0x1p-119);  // the first whose scale is not clamped
    put(e, 64, 0x1p-120);
    put(e, 96, 0x1p-149);
    put(e, 128, 0x1.fffffep127);
    run(e);
    CHECK(e->mx_scales[0] == 0 && e->codes[0] == 0);
    CHECK(e->mx_scales[1] == 0 && e->codes[32] == nearest(256, false));
    CHECK(e->mx_scales[2] == 0 && e->codes[64] == nearest(128, false));
    CHECK(e->mx_scales[3] == 0 && e->codes[96] == 0);
    CHECK(e->mx_scales[4] == 127 + 119 && e->codes[128] == 0x7e);
    close_encoding(e);
}

static void mx_needs_rows_of_whole_blocks(void)
{
    encoding *e = open_encoding(OCT_F16, E4M3 MX, 448, OCT_SNAP_NONE);
    const oct_layer *odd = oct_denoiser_find(&e->model.denoiser, "y_embedder.mlp.0");

    CHECK(odd->in_features == 48);
    const oct_decision *decision = oct_plan_find(&e->plan, odd);
    CHECK(decision->weights == OCT_WEIGHTS_KEEP && decision->granularity == OCT_PER_TENSOR);
    CHECK_TEXT(decision->reason, "in_features is no multiple of 32: no MX blocks");
    CHECK(decision->bytes_after == decision->bytes_before);
    close_encoding(e);
}

// ---- What a plan says of them.

static void scales_count_in_the_bytes(void)
{
    static const struct {
        const char *set;
        uint64_t scale_bytes;
    } cases[] = {
        {E4M3, 4}, {E5M2, 4}, {E4M3 CHANNEL, 4 * ROWS}, {E4M3 MX, MX_SCALES}, {E4M3 MSE, 4},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        encoding *e = open_encoding(OCT_F16, cases[i].set, 448, OCT_SNAP_NONE);
        const oct_decision *decision = oct_plan_find(&e->plan, e->layer);
        CHECK(oct_decision_scale_bytes(decision) == cases[i].scale_bytes);
        CHECK(decision->bytes_after == N + cases[i].scale_bytes);
        close_encoding(e);
    }
}

static void mx_goes_with_e4m3_and_max_alone(void)
{
    static const struct {
        const char *set, *sentence;
    } cases[] = {
        {E5M2 MX, "'e5m2' and 'max'"},
        {E4M3 MX MSE, "'e4m3' and 'mse'"},
        {E4M3 MX PERCENTILE(99), "'e4m3' and 'percentile'"},
    };
    opened_denoiser model;

    open_denoiser(&model, &model_tiny);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oct_policy policy = parse_policy(cases[i].set);
        oct_plan plan;
        oct_err err = {0};
        CHECK(oct_plan_init(&plan, &model.denoiser,
                            &(oct_plan_params){.policy = &policy, .qmax = 448},
                            &err) == OCT_EFORMAT);
        CHECK(strstr(err.text, "granularity 'mx' goes with weights 'e4m3' and scale 'max', not "));
        CHECK(strstr(err.text, cases[i].sentence));
        oct_policy_deinit(&policy);
    }
    close_denoiser(&model);
}

// ---- The same bytes everywhere.

static const char *const all_sets[] = {
    E4M3,
    E5M2,
    E4M3 CHANNEL,
    E5M2 CHANNEL,
    E4M3 MX,
    E4M3 MSE,
    E4M3 CHANNEL MSE,
    E5M2 MSE,
    E4M3 PERCENTILE(99.9),
    E4M3 CHANNEL PERCENTILE(99.9),
};

#define SETS (sizeof all_sets / sizeof *all_sets)

static bool is_same(const encoding *a, const encoding *b)
{
    return memcmp(a->codes, b->codes, N) == 0 &&
           memcmp(a->scales, b->scales, sizeof a->scales) == 0 &&
           memcmp(a->mx_scales, b->mx_scales, sizeof a->mx_scales) == 0;
}

static void threads_and_processors_change_nothing(void)
{
    static const struct {
        int threads;
        const char *cpu;
    } ways[] = {{2, NULL}, {7, NULL}, {1, "c"}, {2, "avx2"}};

    const int before = omp_get_max_threads();
    for (size_t i = 0; i < 2 * SETS; i++) {
        const oct_dtype dtype = i % 2 ? OCT_F32 : dtypes[i / 2 % 2];
        encoding *e = open_encoding(dtype, all_sets[i / 2], 448, OCT_SNAP_NONE);
        omp_set_num_threads(1);
        run(e);
        encoding first = *e;
        first.codes = malloc(N);
        memcpy(first.codes, e->codes, N);
        for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
            omp_set_num_threads(ways[way].threads);
            oct_kernels_select(ways[way].cpu);
            memset(e->codes, 0x55, N);
            run(e);
            CHECK(is_same(e, &first));
        }
        oct_kernels_select(NULL);
        free(first.codes);
        close_encoding(e);
    }
    omp_set_num_threads(before);
}

// Scan backwards, encode twice, both in chunks of odd sizes.
static void chunks_change_nothing(void)
{
    for (size_t i = 0; i < 3 * SETS; i++) {
        encoding *e = open_encoding(dtypes[i % 3], all_sets[i / 3], 448, OCT_SNAP_NONE);
        const size_t element = oct_dtype_bits(e->dtype) / 8;
        oct_encoder *encoder = NULL;
        uint64_t scale_bytes = 0;
        uint8_t *codes = malloc(N);
        run(e);
        CHECK(oct_encoder_begin(&encoder, &e->plan, oct_plan_find(&e->plan, e->layer), NULL) ==
              OCT_OK);
        const uint64_t grain = oct_encoder_grain(encoder), n = 3 * grain;
        CHECK(N % n == 0);
        for (uint64_t first = N - n; first < N; first -= n) {
            oct_encoder_scan(encoder, (uint8_t *)e->x + first * element, first, n);
        }
        const bool is_rereading = oct_encoder_is_rereading(encoder);
        CHECK(is_rereading == (strstr(all_sets[i / 3], "scale") && grain == 32));
        CHECK(oct_encoder_settle(encoder, is_rereading ? e->x : NULL, NULL) == OCT_OK);
        oct_encoder_encode(encoder, e->x, 0, N, codes);
        for (uint64_t first = 0; first < N; first += N / 2) {
            oct_encoder_encode(encoder, (uint8_t *)e->x + first * element, first, N / 2,
                               codes + first);
        }
        CHECK(memcmp(codes, e->codes, N) == 0);
        const void *scales = oct_encoder_scales(encoder, &scale_bytes);
        CHECK(scale_bytes == oct_decision_scale_bytes(oct_plan_find(&e->plan, e->layer)));
        const bool is_mx = i / 3 == 4;
        CHECK(memcmp(scales, is_mx ? (void *)e->mx_scales : e->scales, scale_bytes) == 0);
        oct_encoder_end(encoder);
        free(codes);
        close_encoding(e);
    }
}

// ---- Refusals.

static void nonfinite_weights_are_named_by_every_method(void)
{
    for (size_t i = 0; i < SETS; i++) {
        encoding *e = open_encoding(OCT_F16, all_sets[i], 448, OCT_SNAP_NONE);
        oct_err err = {0};
        ((uint16_t *)e->x)[140000] = 0x7e00;
        ((uint16_t *)e->x)[777] = 0xfc00;
        CHECK(oct_plan_encode(&e->plan, e->layer, e->x, e->codes, e->scales, &err) == OCT_EFORMAT);
        CHECK(strstr(err.text, "holds infinity at index 777 (row 6, column 9)"));
        close_encoding(e);
    }
}

static void rows_beyond_binary32_are_named(void)
{
    encoding *e = open_encoding(OCT_F32, E4M3 CHANNEL MSE, 0.25f, OCT_SNAP_NONE);
    oct_err err = {0};

    put(e, 9 * COLUMNS + 3, 3e38);
    CHECK(oct_plan_encode(&e->plan, e->layer, e->x, e->codes, e->scales, &err) == OCT_EFORMAT);
    CHECK(strstr(err.text, "the range of row 9 over 0.25 is no finite scale"));
    close_encoding(e);
}

int main(void)
{
    RUN(channels_have_the_scale_of_their_largest);
    RUN(e5m2_reaches_57344);
    RUN(rows_beside_outliers_gain_from_scales_of_their_own);
    RUN(percentiles_are_exact_ranks);
    RUN(channels_have_percentiles_of_their_own);
    RUN(a_percentile_of_zero_gives_way_to_the_largest);
    RUN(mse_finds_the_least_error_of_its_grid);
    RUN(mse_is_searched_for_every_channel);
    RUN(gaussian_weights_have_31_5_decibels_by_max_and_no_less_by_mse);
    RUN(mse_moves_off_a_bad_grid);
    RUN(mse_weighs_by_the_energy_of_input_channels);
    RUN(channels_weigh_by_the_energy_too);
    RUN(equal_energies_change_nothing);
    RUN(snapped_scales_are_rounded_up);
    RUN(snapping_knows_its_edges);
    RUN(snap_names_are_read_back);
    RUN(mx_blocks_follow_the_specification);
    RUN(mx_scales_end_at_the_smallest);
    RUN(mx_needs_rows_of_whole_blocks);
    RUN(scales_count_in_the_bytes);
    RUN(mx_goes_with_e4m3_and_max_alone);
    RUN(threads_and_processors_change_nothing);
    RUN(chunks_change_nothing);
    RUN(nonfinite_weights_are_named_by_every_method);
    RUN(rows_beyond_binary32_are_named);
    return test_end();
}
