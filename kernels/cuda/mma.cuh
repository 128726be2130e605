// SPDX-License-Identifier: Apache-2.0
//
// What has no name in CUDA C++: tensor cores and copies to shared memory, sm_80 and above.
//
// The functions of the first part are single instructions; tests/cuda/emulate.h has their twins.
// In the layouts of PTX, lane `l` of a warp, with g = l / 4 and t = l % 4, holds of
//
//   a[16][16]  {a[g][2t], a[g][2t+1]}, the same of rows g + 8, then both of columns 8 and up
//   b[16][8]   {b[2t][g], b[2t+1][g]}, then rows 8 and up
//   c[16][8]   c[g][2t], c[g][2t+1], c[g+8][2t], c[g+8][2t+1]
//
// two 16-bit numbers in a register. Of E4M3 a register has four: a is [16][32], b [32][8], and 2t,
// 2t+1 become 4t .. 4t+3.
#pragma once

#include "kernels/cuda/device.cuh"

#ifdef __CUDACC__

// Four matrices of 8 by 8 numbers of 16 bits from shared memory: lane l gives the address of row
// l % 8 of matrix l / 8, and receives of each matrix m[g][2t], m[g][2t+1].
__device__ static inline void load_matrices(uint32_t (&to)[4], const void *row)
{
    const unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address));
}

// The same, but m[2t][g], m[2t+1][g].
__device__ static inline void load_transposed(uint32_t (&to)[4], const void *row)
{
    const unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address));
}

// c += a b, a warp's matrices together. The last argument says what the numbers are.
__device__ static inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b_low,
                                           uint32_t b_high, __half)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
}

__device__ static inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b_low,
                                           uint32_t b_high, bf16)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
}

// sm_89 and above. Tensor cores keep no more than 14 bits of these sums.
__device__ static inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b_low,
                                           uint32_t b_high, e4m3)
{
#if __CUDA_ARCH__ >= 890
    asm("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
#else
    __trap();
#endif
}

// Begin to copy 16 bytes from global to shared memory, or zeros; done after wait_for_copies() of
// the same thread.
__device__ static inline void begin_copy(void *to, const void *from, bool is_there)
{
    const unsigned address = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(address), "l"(__cvta_generic_to_global(from)), "r"(is_there ? 16 : 0)
                 : "memory");
}

__device__ static inline void wait_for_copies()
{
    asm volatile("cp.async.wait_all;" : : : "memory");
}

// 2^x with a relative error of 2^-22; 0 below 2^-126.
__device__ static inline float fast_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif  // otherwise the includer has defined them

// Two numbers as one register of a fragment.
__device__ static inline uint32_t pack(float low, float high, __half)
{
    const __half2 both = __floats2half2_rn(low, high);
    uint32_t bits;
    memcpy(&bits, (const void *)&both, sizeof bits);
    return bits;
}

__device__ static inline uint32_t pack(float low, float high, bf16)
{
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, (const void *)&both, sizeof bits);
    return bits;
}

// Four numbers, from the lowest byte up.
__device__ static inline uint32_t pack(const float *low, const float *high, e4m3)
{
    const __nv_fp8x2_storage_t first =
        __nv_cvt_float2_to_fp8x2(make_float2(low[0], low[1]), __NV_SATFINITE, __NV_E4M3);
    const __nv_fp8x2_storage_t second =
        __nv_cvt_float2_to_fp8x2(make_float2(high[0], high[1]), __NV_SATFINITE, __NV_E4M3);
    return (uint32_t)second << 16 | first;
}

// A tile in shared memory: rows of 64 numbers, in chunks of 16 bytes. Chunks are exchanged within a
// row, so that the same chunk of eight consecutive rows, one matrix of load_matrices(), lies in all
// 32 banks: 16-bit rows fill the banks once, each is exchanged in another way; of E4M3 two do.
template <typename T> constexpr unsigned CHUNKS = 64 * sizeof(T) / 16;

template <typename T>
__device__ static inline uint4 *chunk_of(uint4 *tile, unsigned row, unsigned chunk)
{
    return tile + row * CHUNKS<T> + (chunk ^ row * CHUNKS<T> / 8 % CHUNKS<T>);
}
