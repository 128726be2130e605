// SPDX-License-Identifier: Apache-2.0
//
// The table, its selection, and the wrappers by element type.
#include "kernels/kernels.h"

#include "common/number.h"
#include "tests/test.h"

static void a_lower_level_has_fewer_features(void)
{
    const unsigned all = oct_cpu_features();
    CHECK(oct_cpu_features_at_most(NULL) == all);
    CHECK(oct_cpu_features_at_most("avx512") == all);
    CHECK(oct_cpu_features_at_most("avx2") == (all & OCT_CPU_AVX2));
    CHECK(oct_cpu_features_at_most("c") == 0);
    if (all & OCT_CPU_AVX512) CHECK(all & OCT_CPU_AVX2);
}

static void selection_changes_the_table_and_null_restores_it(void)
{
    oct_kernels c, best;
    oct_kernels_init(&c, 0);
    oct_kernels_init(&best, oct_cpu_features());

    CHECK(memcmp(oct_kernels_get(), &best, sizeof best) == 0);
    oct_kernels_select("c");
    CHECK(memcmp(oct_kernels_get(), &c, sizeof c) == 0);
    oct_kernels_select(NULL);
    CHECK(memcmp(oct_kernels_get(), &best, sizeof best) == 0);
}

static void absmax_of_every_type_is_a_float(void)
{
    const uint16_t f16[3] = {0x3c00, 0xc000, 0x8001}, bf16[3] = {0x3f80, 0xc000, 0x8001};
    const float f32[3] = {1, -2, 0};
    int is_finite = 0;

    CHECK(oct_absmax(OCT_F16, f16, 3, &is_finite) == 2 && is_finite);
    CHECK(oct_absmax(OCT_BF16, bf16, 3, &is_finite) == 2 && is_finite);
    CHECK(oct_absmax(OCT_F32, f32, 3, &is_finite) == 2 && is_finite);
    CHECK(oct_absmax(OCT_F32, f32, 0, &is_finite) == 0 && is_finite);
}

static void absmax_tells_infinities_and_nans(void)
{
    const uint16_t largest_f16 = 0xfbff, inf_f16 = 0xfc00, largest_bf16 = 0xff7f, inf_bf16 = 0x7f80;
    const float nan = NAN;
    int is_finite = -1;

    CHECK(oct_absmax(OCT_F16, &largest_f16, 1, &is_finite) == 65504 && is_finite);
    CHECK(isinf(oct_absmax(OCT_F16, &inf_f16, 1, &is_finite)) && !is_finite);
    oct_absmax(OCT_BF16, &largest_bf16, 1, &is_finite);
    CHECK(is_finite);
    CHECK(isinf(oct_absmax(OCT_BF16, &inf_bf16, 1, &is_finite)) && !is_finite);
    CHECK(isnan(oct_absmax(OCT_F32, &nan, 1, &is_finite)) && !is_finite);
}

static void encode_of_every_type_divides_and_rounds(void)
{
    const uint16_t f16[3] = {0x3c00, 0xc000, 0xfe00}, bf16[3] = {0x3f80, 0xc000, 0xffc0};
    const float f32[3] = {1, -2, -NAN};
    const uint8_t want[3] = {0x40, 0xc8, 0xff};  // 2, -4, NaN
    uint8_t q[3];

    oct_encode_e4m3(q, OCT_F16, f16, 3, 0.5f);
    CHECK(memcmp(q, want, 3) == 0);
    oct_encode_e4m3(q, OCT_BF16, bf16, 3, 0.5f);
    CHECK(memcmp(q, want, 3) == 0);
    oct_encode_e4m3(q, OCT_F32, f32, 3, 0.5f);
    CHECK(memcmp(q, want, 3) == 0);
}

static void widen_reads_every_stored_type(void)
{
    const uint16_t f16[2] = {0x3c00, 0xc000}, bf16[2] = {0x3f80, 0xc000};
    const uint8_t e4m3[2] = {0x38, 0xc0};
    const float f32[2] = {1, -2};
    const void *stored[] = {f32, f16, bf16, e4m3};
    const oct_dtype dtypes[] = {OCT_F32, OCT_F16, OCT_BF16, OCT_F8_E4M3};

    for (int i = 0; i < 4; i++) {
        float y[3] = {0, 0, 7};
        oct_widen(y, dtypes[i], stored[i], 2);
        CHECK(y[0] == 1 && y[1] == -2 && y[2] == 7);
    }
}

static void widen_reads_every_code_of_e5m2(void)
{
    enum { N = 1500 };  // more than one piece
    uint8_t x[N];
    float y[N];

    for (int i = 0; i < N; i++) x[i] = (uint8_t)(i * 7);
    oct_widen(y, OCT_F8_E5M2, x, N);
    for (int i = 0; i < N; i++) {
        const float want = oct_e5m2_to_f32(x[i]);
        CHECK(oct_f32_bits(y[i]) == oct_f32_bits(want) || (isnan(y[i]) && isnan(want)));
    }
}

int main(void)
{
    RUN(a_lower_level_has_fewer_features);
    RUN(selection_changes_the_table_and_null_restores_it);
    RUN(absmax_of_every_type_is_a_float);
    RUN(absmax_tells_infinities_and_nans);
    RUN(encode_of_every_type_divides_and_rounds);
    RUN(widen_reads_every_stored_type);
    RUN(widen_reads_every_code_of_e5m2);
    return test_end();
}
