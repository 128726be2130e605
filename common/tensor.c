// SPDX-License-Identifier: Apache-2.0
//
// Element types.
#include "common/tensor.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static const struct {
    const char *name;
    unsigned bits;
} dtypes[OCT_DTYPE_COUNT] = {
    // clang-format off
    [OCT_BOOL]        = {"BOOL", 8},         [OCT_F4]          = {"F4", 4},
    [OCT_F6_E2M3]     = {"F6_E2M3", 6},      [OCT_F6_E3M2]     = {"F6_E3M2", 6},
    [OCT_U8]          = {"U8", 8},           [OCT_I8]          = {"I8", 8},
    [OCT_F8_E5M2]     = {"F8_E5M2", 8},      [OCT_F8_E4M3]     = {"F8_E4M3", 8},
    [OCT_F8_E8M0]     = {"F8_E8M0", 8},      [OCT_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8},
    [OCT_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8},
    [OCT_I16]         = {"I16", 16},         [OCT_U16]         = {"U16", 16},
    [OCT_F16]         = {"F16", 16},         [OCT_BF16]        = {"BF16", 16},
    [OCT_I32]         = {"I32", 32},         [OCT_U32]         = {"U32", 32},
    [OCT_F32]         = {"F32", 32},         [OCT_C64]         = {"C64", 64},
    [OCT_F64]         = {"F64", 64},         [OCT_I64]         = {"I64", 64},
    [OCT_U64]         = {"U64", 64},
    // clang-format on
};

const char *oct_dtype_name(oct_dtype dtype)
{
    assert(dtype < OCT_DTYPE_COUNT);
    return dtypes[dtype].name;
}

bool oct_dtype_parse(const char *name, oct_dtype *dtype)
{
    for (size_t i = 0; i < OCT_DTYPE_COUNT; i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            *dtype = (oct_dtype)i;
            return true;
        }
    }
    return false;
}

unsigned oct_dtype_bits(oct_dtype dtype)
{
    assert(dtype < OCT_DTYPE_COUNT);
    return dtypes[dtype].bits;
}

bool oct_dtype_is_float16(oct_dtype dtype)
{
    return dtype == OCT_F16 || dtype == OCT_BF16;
}
