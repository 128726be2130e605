// SPDX-License-Identifier: Apache-2.0
//
// Element types, as safetensors spells them, and the letters used for dimensions everywhere:
// B batch, T tokens, C channels, H heads.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define OCT_RANK_MAX 8

typedef enum oct_dtype {  // in the order in which a safetensors writer sorts them
    OCT_BOOL, OCT_F4, OCT_F6_E2M3, OCT_F6_E3M2, OCT_U8, OCT_I8,
    OCT_F8_E5M2, OCT_F8_E4M3, OCT_F8_E8M0, OCT_F8_E4M3FNUZ, OCT_F8_E5M2FNUZ,
    OCT_I16, OCT_U16, OCT_F16, OCT_BF16, OCT_I32, OCT_U32, OCT_F32,
    OCT_C64, OCT_F64, OCT_I64, OCT_U64,
    OCT_DTYPE_COUNT
} oct_dtype;

const char *oct_dtype_name(oct_dtype dtype);                         // "F8_E4M3"
bool oct_dtype_parse(const char *name, oct_dtype *dtype);            // exact upper-case spelling
unsigned oct_dtype_bits(oct_dtype dtype);                            // 4, 6, 8, 16, 32 or 64
bool oct_dtype_is_float16(oct_dtype dtype);                          // F16 or BF16
