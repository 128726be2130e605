// SPDX-License-Identifier: Apache-2.0
//
// What the kernels share: element types, eight numbers at a time, warp reductions, sinks, launches.
//
// Eight numbers are the unit of work: 16 bytes of a 16-bit type, twice 16 of binary32, 8 of E4M3.
#pragma once

#include <cassert>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/cuda/cuda_kernels.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

template <typename... Params, typename... Args>
static void launch(void (*kernel)(Params...), size_t grid, unsigned block, oct_stream stream,
                   Args... args)
{
    if (grid > 0) kernel<<<(unsigned)grid, block, 0, stream>>>(args...);
}
#endif  // otherwise the includer has defined launch() and the rest of CUDA: tests/cuda/emulate.h

constexpr unsigned LANES = 32, THREADS = 256, WARPS = THREADS / LANES;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr unsigned PIECE = 8;  // numbers per thread

typedef __nv_bfloat16 bf16;
typedef __nv_fp8_storage_t e4m3;  // a code; uint8_t
enum class e5m2 : uint8_t {};

struct piece {
    float x[PIECE];
};

// ---- Elements.

__device__ static inline float widen(float x)
{
    return x;
}

__device__ static inline float widen(__half x)
{
    return __half2float(x);
}

__device__ static inline float widen(bf16 x)
{
    return __bfloat162float(x);
}

__device__ static inline float widen(e4m3 code)
{
    return __half2float(__half(__nv_cvt_fp8_to_halfraw(code, __NV_E4M3)));
}

// E5M2 is the upper byte of binary16.
__device__ static inline float widen(e5m2 code)
{
    __half_raw half;
    half.x = (unsigned short)((unsigned)code << 8);
    return __half2float(__half(half));
}

__device__ static inline uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

__device__ static inline float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

// Conversions to binary32 may lose a NaN's sign, so it is asked of the number as stored.
template <typename T> __device__ static inline uint8_t sign_of(T x)
{
    uint8_t bytes[sizeof x];
    memcpy(bytes, &x, sizeof x);
    return bytes[sizeof x - 1] & 0x80;
}

__device__ static inline e4m3 encode(float x, float scale, uint8_t sign)
{
    return (e4m3)(__nv_cvt_float_to_fp8(fabsf(x) / scale, __NV_SATFINITE, __NV_E4M3) | sign);
}

// ---- Eight at a time; the last piece of n numbers may be short. Loops run to eight all the same,
// so that they are unrolled and the numbers stay in registers.

template <typename T> __device__ static inline void load(T *values, const T *from, size_t count)
{
    if (count < PIECE) {
        for (unsigned i = 0; i < PIECE; i++) values[i] = i < count ? from[i] : T(0.0f);
        return;
    }
    constexpr size_t bytes = sizeof(T) * PIECE;
    typedef typename std::conditional<bytes == 8, uint2, uint4>::type word;
    word words[bytes / sizeof(word)];
    for (unsigned i = 0; i < bytes / sizeof(word); i++) words[i] = ((const word *)from)[i];
    memcpy((void *)values, words, bytes);
}

template <typename T> __device__ static inline void store(T *to, const T *values, size_t count)
{
    if (count < PIECE) {
        for (unsigned i = 0; i < PIECE; i++)
            if (i < count) to[i] = values[i];
        return;
    }
    constexpr size_t bytes = sizeof(T) * PIECE;
    typedef typename std::conditional<bytes == 8, uint2, uint4>::type word;
    word words[bytes / sizeof(word)];
    memcpy(words, (const void *)values, bytes);
    for (unsigned i = 0; i < bytes / sizeof(word); i++) ((word *)to)[i] = words[i];
}

template <typename T> __device__ static inline piece load_piece(const T *from, size_t count)
{
    T stored[PIECE];
    piece p;
    load(stored, from, count);
    for (unsigned i = 0; i < PIECE; i++) p.x[i] = widen(stored[i]);
    return p;
}

// ---- Warps. Butterflies: every lane ends with the same bits.

__device__ static inline float warp_sum(float x)
{
    for (unsigned lane = LANES / 2; lane > 0; lane /= 2) x += __shfl_xor_sync(ALL_LANES, x, lane);
    return x;
}

__device__ static inline uint32_t warp_max(uint32_t x)
{
    for (unsigned lane = LANES / 2; lane > 0; lane /= 2) {
        const uint32_t other = __shfl_xor_sync(ALL_LANES, x, lane);
        x = other > x ? other : x;
    }
    return x;
}

// Atomics on one address queue up, and all but a few would change nothing.
__device__ static inline void raise(uint32_t *peak, uint32_t bits)
{
    if (bits > *(volatile uint32_t *)peak) atomicMax(peak, bits);
}

// ---- Sinks, by the type that they hold.

__device__ static inline void narrow(float *to, float x, float, uint8_t)
{
    *to = x;
}

__device__ static inline void narrow(__half *to, float x, float, uint8_t)
{
    *to = __float2half_rn(x);
}

__device__ static inline void narrow(bf16 *to, float x, float, uint8_t)
{
    *to = __float2bfloat16_rn(x);
}

__device__ static inline void narrow(e4m3 *to, float x, float scale, uint8_t sign)
{
    *to = encode(x, scale, sign);
}

// All lanes of a warp must come here together.
__device__ static inline void observe(uint32_t *peak, uint32_t bits)
{
    if (!peak) return;  // uniform
    bits = warp_max(bits);
    if (threadIdx.x % LANES == 0) raise(peak, bits);
}

template <typename T> struct sink {
    typedef T type;

    T *data;
    const float *scale;
    uint32_t *peak;

    // Numbers `first` to `first + count` (at most 8), a multiple of 8 from the start.
    __device__ void put(size_t first, const piece &p, const uint8_t *signs, size_t count) const
    {
        const float divisor = sizeof(T) == sizeof(e4m3) ? *scale : 1.0f;
        T stored[PIECE];
        for (unsigned i = 0; i < PIECE; i++) narrow(&stored[i], p.x[i], divisor, signs[i]);
        store(data + first, stored, count);
    }

    __device__ void put(size_t first, const piece &p, size_t count) const
    {
        uint8_t signs[PIECE];
        for (unsigned i = 0; i < PIECE; i++) signs[i] = sign_of(p.x[i]);
        put(first, p, signs, count);
    }

    __device__ void observe(uint32_t bits) const
    {
        ::observe(peak, bits);
    }
};

__device__ static inline uint32_t peak_of(const piece &p, size_t count)
{
    uint32_t max = 0;
    for (unsigned i = 0; i < PIECE; i++) {
        const uint32_t bits = bits_of(p.x[i]) & 0x7fffffffu;
        if (i < count && bits > max) max = bits;
    }
    return max;
}

// Eight numbers for a sink whose type is asked for here: for kernels that spend their time
// elsewhere, so that they are compiled once and not for every type.
__device__ static inline void put(oct_sink y, size_t first, const piece &p)
{
    if (y.dtype == OCT_F32)
        sink<float>{(float *)y.data, y.scale, y.peak}.put(first, p, PIECE);
    else if (y.dtype == OCT_F16)
        sink<__half>{(__half *)y.data, y.scale, y.peak}.put(first, p, PIECE);
    else if (y.dtype == OCT_BF16)
        sink<bf16>{(bf16 *)y.data, y.scale, y.peak}.put(first, p, PIECE);
    else
        sink<e4m3>{(e4m3 *)y.data, y.scale, y.peak}.put(first, p, PIECE);
}

// The piece of this thread in a flat array of n numbers: where it begins, how much of it is there.
struct place {
    size_t first, count;
};

__device__ static inline place flat_place(size_t n)
{
    const size_t first = ((size_t)blockIdx.x * THREADS + threadIdx.x) * PIECE;
    if (first >= n) return place{0, 0};
    return place{first, n - first < PIECE ? n - first : PIECE};
}

// ---- Launchers.

static inline size_t divide_up(size_t n, size_t by)
{
    return (n + by - 1) / by;
}

static inline size_t flat_grid(size_t n)
{
    return divide_up(n, (size_t)THREADS * PIECE);
}

template <typename T> struct type_tag {
    typedef T type;
};

// Call `f` with the element type of a dtype.
template <typename F> static void with_float(oct_dtype dtype, F f)
{
    assert(dtype == OCT_F32 || dtype == OCT_F16 || dtype == OCT_BF16);
    if (dtype == OCT_F32) f(type_tag<float>());
    if (dtype == OCT_F16) f(type_tag<__half>());
    if (dtype == OCT_BF16) f(type_tag<bf16>());
}

template <typename F> static void with_stored(oct_dtype dtype, F f)
{
    if (dtype == OCT_F8_E4M3)
        f(type_tag<e4m3>());
    else
        with_float(dtype, f);
}

static inline void check_sink(oct_sink y)
{
    assert(y.dtype != OCT_F8_E4M3 || y.scale);
    assert((uintptr_t)y.data % 16 == 0);
}

// Call `f` with the sink<T> of a sink.
template <typename F> static void with_sink(oct_sink y, F f)
{
    check_sink(y);
    with_stored(y.dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        f(sink<T>{(T *)y.data, y.scale, y.peak});
    });
}
