// SPDX-License-Identifier: Apache-2.0
//
// Every implementation of the operations in kernels.h, by the instruction set it needs. Only the
// table in kernels.c and the kernel check name them; everybody else goes through the table.
#pragma once

#include "kernels/kernels.h"

oct_absmax_f16_fn oct_absmax_f16_c, oct_absmax_f16_avx2, oct_absmax_f16_avx512;
oct_absmax_bf16_fn oct_absmax_bf16_c, oct_absmax_bf16_avx2, oct_absmax_bf16_avx512;
oct_absmax_f32_fn oct_absmax_f32_c, oct_absmax_f32_avx2, oct_absmax_f32_avx512;
oct_encode_f16_fn oct_encode_f16_c, oct_encode_f16_avx2, oct_encode_f16_avx512;
oct_encode_bf16_fn oct_encode_bf16_c, oct_encode_bf16_avx2, oct_encode_bf16_avx512;
oct_encode_f32_fn oct_encode_f32_c, oct_encode_f32_avx2, oct_encode_f32_avx512;
oct_encode_e5m2_fn oct_encode_e5m2_c, oct_encode_e5m2_avx2;
oct_encode_mx_f16_fn oct_encode_mx_f16_c, oct_encode_mx_f16_avx2;
oct_encode_mx_bf16_fn oct_encode_mx_bf16_c, oct_encode_mx_bf16_avx2;
oct_encode_mx_f32_fn oct_encode_mx_f32_c, oct_encode_mx_f32_avx2;
oct_decode_e4m3_fn oct_decode_e4m3_c, oct_decode_e4m3_avx2, oct_decode_e4m3_avx512;
oct_widen_f16_fn oct_widen_f16_c, oct_widen_f16_avx2, oct_widen_f16_avx512;
oct_widen_bf16_fn oct_widen_bf16_c, oct_widen_bf16_avx2, oct_widen_bf16_avx512;
