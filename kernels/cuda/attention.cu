// SPDX-License-Identifier: Apache-2.0
//
// Joint attention in the manner of FlashAttention-2: a block keeps 128 queries of one head in
// registers and goes over the keys, 64 at a time; per query it keeps the largest score, the sum of
// exponentials and the weighted sum of values, and scales the sums down when the largest score
// grows. The order of all sums follows from the sizes.
//
// Four warps of 32 queries. With 16 a warp would read each key and value twice as often, and shared
// memory (128 bytes a clock) would keep pace with the tensor cores of sm_80 only just. 32 rows take
// 64 registers for scores, 64 for sums of values, 32 for queries: under 255 in all, so two blocks
// share a multiprocessor, and while a warp of one computes exponentials the other's multiplies.
// Shared memory holds the queries and two tiles of keys and of values, one read while the other is
// on its way: 48 KiB, the most that needs no opting in, and twice that is there on every sm_8x too.
//
// Limits: per tile of 128 by 64 the tensor cores of sm_80 need 1024 clocks at their peak, the
// exponentials 512 clocks of a unit that runs beside them. On sm_90 mma.sync reaches less than two
// thirds of what wgmma does: cuDNN is faster there (attention_plan.h).
//
// In E4M3 queries and keys take half the room, and a product half the instructions. Values come
// transposed, and their keys in the order in which a lane has their exponentials: encode_heads.cu.
// Exponentials are encoded times 2^LIFT, to lose none above 2^-18. The sums of a tile begin at 0
// and are added in binary32, because tensor cores cut the sums of such products to 14 bits.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/mma.cuh"

constexpr unsigned HEAD = OCT_HEAD_CUDA;
constexpr unsigned BLOCK_WARPS = 4, BLOCK = BLOCK_WARPS * LANES;
constexpr unsigned TILE_Q = 128, TILE_K = 64;
constexpr unsigned WARP_ROWS = TILE_Q / BLOCK_WARPS;
constexpr unsigned ROW_TILES = WARP_ROWS / 16;  // of a fragment
constexpr unsigned KEY_TILES = TILE_K / 8, HEAD_TILES = HEAD / 8;
constexpr float SCALE = 0.125f * 1.44269504f;  // 1 / sqrt(64), and exponentials to base 2

// A fragment is two chunks wide; tiles are as long one way as the other.
template <typename T> constexpr unsigned STEPS = CHUNKS<T> / 2;
static_assert(HEAD == 64 && TILE_K == HEAD, "a row of a tile is one head, or a tile of keys");
template <typename T> constexpr float LIFT = sizeof(T) == sizeof(e4m3) ? 8 : 0;

constexpr unsigned Q_CHUNKS = TILE_Q * CHUNKS<__half>, K_CHUNKS = TILE_K * CHUNKS<__half>;

// At the end the same memory takes the answers, F32, on their way from fragments to rows: padded so
// that four rows lie in different banks.
constexpr unsigned STAGED = HEAD + 8;
static_assert(TILE_Q * STAGED * sizeof(float) <= (Q_CHUNKS + 4 * K_CHUNKS) * sizeof(uint4),
              "the answers fit");

__device__ static uint4 *shared_memory()
{
    __shared__ uint4 memory[Q_CHUNKS + 4 * K_CHUNKS];
    return memory;
}

__device__ static inline uint4 *keys_of(uint4 *memory, unsigned stage)
{
    return memory + Q_CHUNKS + 2 * stage * K_CHUNKS;
}

__device__ static inline uint4 *values_of(uint4 *memory, unsigned stage)
{
    return keys_of(memory, stage) + K_CHUNKS;
}

// Rows first to first + rows of [n][64]; zeros behind the end. Offsets of 32 bits save registers.
template <typename T>
__device__ static inline void begin_tile(uint4 *tile, const T *from, unsigned rows, unsigned first,
                                         unsigned n)
{
#pragma unroll
    for (unsigned i = threadIdx.x; i < rows * CHUNKS<T>; i += BLOCK) {
        const unsigned row = i / CHUNKS<T>, chunk = i % CHUNKS<T>;
        const bool is_there = first + row < n;
        const unsigned offset = (is_there ? first + row : 0) * HEAD + chunk * (16 / sizeof(T));
        begin_copy(chunk_of<T>(tile, row, chunk), from + offset, is_there);
    }
}

template <typename T>
__device__ static inline void begin_values(uint4 *tile, const T *from, unsigned first, unsigned n)
{
    begin_tile(tile, from, TILE_K, first, n);
}

// Of [64][n], the numbers behind the last key zeros already.
__device__ static inline void begin_values(uint4 *tile, const e4m3 *from, unsigned first,
                                           unsigned n)
{
#pragma unroll
    for (unsigned i = threadIdx.x; i < HEAD * CHUNKS<e4m3>; i += BLOCK) {
        const unsigned row = i / CHUNKS<e4m3>, chunk = i % CHUNKS<e4m3>;
        begin_copy(chunk_of<e4m3>(tile, row, chunk), from + row * n + first + chunk * 16, true);
    }
}

// What a warp knows of its 32 queries. A lane has four of their rows in part: of fragment r, g and
// g + 8, where g = lane / 4; the other three lanes of its quad have the rest.
template <typename T> struct rows {
    uint32_t q[ROW_TILES][STEPS<T>][4];  // fragments a
    float scores[ROW_TILES][KEY_TILES][4];
    float sums[ROW_TILES][HEAD_TILES][4];  // of values
    float max[ROW_TILES][2];               // of the scores so far
    float total[ROW_TILES][2];             // of the exponentials so far, this lane's share

    __device__ void begin(uint4 *queries, unsigned first);
    __device__ void multiply_keys(uint4 *keys);
    __device__ void mask(unsigned keys_left);
    __device__ void soften(float scale);
    __device__ void add_values(uint4 *values);
    __device__ void end(float *staged, float scale);
};

template <typename T> __device__ inline void rows<T>::begin(uint4 *queries, unsigned first)
{
    const unsigned lane = threadIdx.x % LANES, matrix = lane / 8;
#pragma unroll
    for (unsigned r = 0; r < ROW_TILES; r++) {
#pragma unroll
        for (unsigned step = 0; step < STEPS<T>; step++) {
            const unsigned row = first + r * 16 + matrix % 2 * 8 + lane % 8;
            load_matrices(q[r][step], chunk_of<T>(queries, row, step * 2 + matrix / 2));
        }
#pragma unroll
        for (unsigned i = 0; i < HEAD_TILES * 4; i++) sums[r][i / 4][i % 4] = 0;
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            max[r][half] = -INFINITY;
            total[r][half] = 0;
        }
    }
}

// scores = q k^T. Keys lie as rows, so fragment b needs no transposition.
template <typename T> __device__ inline void rows<T>::multiply_keys(uint4 *keys)
{
    const unsigned lane = threadIdx.x % LANES, matrix = lane / 8;
#pragma unroll
    for (unsigned i = 0; i < ROW_TILES * KEY_TILES * 4; i++)
        scores[i / 4 / KEY_TILES][i / 4 % KEY_TILES][i % 4] = 0;
#pragma unroll
    for (unsigned step = 0; step < STEPS<T>; step++) {
#pragma unroll
        for (unsigned tile = 0; tile < KEY_TILES; tile += 2) {
            const unsigned key = tile * 8 + matrix / 2 * 8 + lane % 8;
            uint32_t b[4];
            load_matrices(b, chunk_of<T>(keys, key, step * 2 + matrix % 2));
#pragma unroll
            for (unsigned r = 0; r < ROW_TILES; r++) {
                multiply_add(scores[r][tile], q[r][step], b[0], b[1], T());
                multiply_add(scores[r][tile + 1], q[r][step], b[2], b[3], T());
            }
        }
    }
}

// Take back the scores of keys behind the end.
template <typename T> __device__ inline void rows<T>::mask(unsigned keys_left)
{
    const unsigned first = threadIdx.x % 4 * 2;
#pragma unroll
    for (unsigned i = 0; i < ROW_TILES * KEY_TILES * 4; i++) {
        const unsigned tile = i / 4 % KEY_TILES;
        if (tile * 8 + first + i % 2 >= keys_left)
            scores[i / 4 / KEY_TILES][tile][i % 4] = -INFINITY;
    }
}

__device__ static inline float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

__device__ static inline float quad_sum(float x)
{
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

// Turn scores times `scale` into exponentials and bring the sums to the new maximum.
template <typename T> __device__ inline void rows<T>::soften(float scale)
{
#pragma unroll
    for (unsigned r = 0; r < ROW_TILES; r++) {
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            float largest = max[r][half], sum = 0;
#pragma unroll
            for (unsigned i = 0; i < KEY_TILES * 2; i++)
                largest = fmaxf(largest, scores[r][i / 2][half * 2 + i % 2]);
            largest = quad_max(largest);

            const float origin = largest * scale;
            const float shrink = fast_exp2(fmaf(max[r][half], scale, -origin));
#pragma unroll
            for (unsigned i = 0; i < KEY_TILES * 2; i++) {
                float *score = &scores[r][i / 2][half * 2 + i % 2];
                *score = fast_exp2(fmaf(*score, scale, LIFT<T> - origin));
                sum += *score;
            }
#pragma unroll
            for (unsigned i = 0; i < HEAD_TILES * 2; i++)
                sums[r][i / 2][half * 2 + i % 2] *= shrink;
            max[r][half] = largest;
            total[r][half] = fmaf(total[r][half], shrink, sum);
        }
    }
}

// sums += exponentials v. As fragments, c of the scores is a of this product.
template <typename T> __device__ inline void rows<T>::add_values(uint4 *values)
{
    const unsigned lane = threadIdx.x % LANES, matrix = lane / 8;
#pragma unroll
    for (unsigned step = 0; step < STEPS<T>; step++) {
        uint32_t a[ROW_TILES][4];
#pragma unroll
        for (unsigned r = 0; r < ROW_TILES; r++) {
#pragma unroll
            for (unsigned i = 0; i < 4; i++) {
                const float *pair = &scores[r][step * 2 + i / 2][i % 2 * 2];
                a[r][i] = pack(pair[0], pair[1], T());
            }
        }
#pragma unroll
        for (unsigned tile = 0; tile < HEAD_TILES; tile += 2) {
            const unsigned key = step * 16 + matrix % 2 * 8 + lane % 8;
            uint32_t b[4];
            load_transposed(b, chunk_of<T>(values, key, tile + matrix / 2));
#pragma unroll
            for (unsigned r = 0; r < ROW_TILES; r++) {
                multiply_add(sums[r][tile], a[r], b[0], b[1], T());
                multiply_add(sums[r][tile + 1], a[r], b[2], b[3], T());
            }
        }
    }
}

template <> __device__ inline void rows<e4m3>::add_values(uint4 *values)
{
    const unsigned lane = threadIdx.x % LANES, matrix = lane / 8;
    uint32_t a[STEPS<e4m3>][ROW_TILES][4];
#pragma unroll
    for (unsigned i = 0; i < STEPS<e4m3> * ROW_TILES * 4; i++) {
        const unsigned step = i / 4 / ROW_TILES, r = i / 4 % ROW_TILES, half = i % 2;
        const float(*tiles)[4] = &scores[r][step * 4 + i % 4 / 2 * 2];
        a[step][r][i % 4] = pack(&tiles[0][half * 2], &tiles[1][half * 2], e4m3());
    }
#pragma unroll
    for (unsigned tile = 0; tile < HEAD_TILES; tile += 2) {
        float tile_sums[ROW_TILES][2][4] = {};
#pragma unroll
        for (unsigned step = 0; step < STEPS<e4m3>; step++) {
            const unsigned channel = tile * 8 + matrix / 2 * 8 + lane % 8;
            uint32_t b[4];
            load_matrices(b, chunk_of<e4m3>(values, channel, step * 2 + matrix % 2));
#pragma unroll
            for (unsigned r = 0; r < ROW_TILES; r++) {
                multiply_add(tile_sums[r][0], a[step][r], b[0], b[1], e4m3());
                multiply_add(tile_sums[r][1], a[step][r], b[2], b[3], e4m3());
            }
        }
#pragma unroll
        for (unsigned i = 0; i < ROW_TILES * 8; i++)
            sums[i / 8][tile + i / 4 % 2][i % 4] += tile_sums[i / 8][i / 4 % 2][i % 4];
    }
}

// The answers times `scale`, as rows of shared memory.
template <typename T> __device__ inline void rows<T>::end(float *staged, float scale)
{
    const unsigned lane = threadIdx.x % LANES;
#pragma unroll
    for (unsigned r = 0; r < ROW_TILES; r++) {
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            const float inverse = scale / quad_sum(total[r][half]);
            float *row = staged + (r * 16 + half * 8 + lane / 4) * STAGED + lane % 4 * 2;
#pragma unroll
            for (unsigned i = 0; i < HEAD_TILES * 2; i++)
                row[i / 2 * 8 + i % 2] = sums[r][i / 2][half * 2 + i % 2] * inverse;
        }
    }
}

struct queries {
    size_t first;  // of a warp
    size_t head, heads;
};

// The part of a warp's rows that lies in tokens begin to end, the sink's.
__device__ static inline void put_rows(oct_sink y, const float *staged, queries q, size_t begin,
                                       size_t end)
{
    constexpr unsigned ROW_LANES = HEAD / PIECE;
    const unsigned lane = threadIdx.x % LANES, column = lane % ROW_LANES * PIECE;
    uint32_t peak = 0;

    if (q.first >= end || q.first + WARP_ROWS <= begin) return;  // uniform
    for (unsigned row = lane / ROW_LANES; row < WARP_ROWS; row += LANES / ROW_LANES) {
        const size_t token = q.first + row;
        if (token < begin || token >= end) continue;
        const piece p = load_piece(staged + row * STAGED + column, PIECE);
        put(y, ((token - begin) * q.heads + q.head) * HEAD + column, p);
        const uint32_t largest = peak_of(p, PIECE);
        peak = largest > peak ? largest : peak;
    }
    __syncwarp();
    observe(y.peak, peak);
}

// Of one head. 16-bit numbers are as they are.
struct scales {
    float scores, values;
};

template <typename T>
__device__ static inline scales scales_of(const oct_joint_attention_args &args, unsigned head)
{
    if (sizeof(T) != sizeof(e4m3)) return scales{SCALE, 1};
    const float q = args.scales[head], k = args.scales[args.heads + head];
    return scales{SCALE * q * k, args.scales[2 * args.heads + head]};
}

// blockIdx.x counts tiles of queries, head by head: neighbours read the same keys.
template <typename T>
__global__ void __launch_bounds__(BLOCK, 2)
    attend(oct_joint_attention_args args, unsigned n_queries)
{
    const unsigned tiles = (n_queries + TILE_Q - 1) / TILE_Q, joint = (unsigned)args.joint;
    const unsigned head = blockIdx.x / tiles, first = blockIdx.x % tiles * TILE_Q;
    const size_t before = (size_t)head * joint * HEAD;
    const unsigned warp = threadIdx.x / LANES;
    const unsigned values = sizeof(T) == sizeof(e4m3) ? (unsigned)args.padded : joint;  // of a head
    const T *k = (const T *)args.k + before, *v = (const T *)args.v + (size_t)head * values * HEAD;
    const scales scale = scales_of<T>(args, head);
    uint4 *memory = shared_memory();
    rows<T> mine;

    begin_tile(memory, (const T *)args.q + before, TILE_Q, first, n_queries);
    begin_tile(keys_of(memory, 0), k, TILE_K, 0, joint);
    begin_values(values_of(memory, 0), v, 0, values);
    wait_for_copies();
    __syncthreads();
    mine.begin(memory, warp * WARP_ROWS);

    for (unsigned at = 0; at < joint; at += TILE_K) {
        const unsigned stage = at / TILE_K % 2;
        wait_for_copies();
        __syncthreads();  // this tile is here, and all are done with the other one
        if (at + TILE_K < joint) {
            begin_tile(keys_of(memory, !stage), k, TILE_K, at + TILE_K, joint);
            begin_values(values_of(memory, !stage), v, at + TILE_K, values);
        }
        mine.multiply_keys(keys_of(memory, stage));
        if (joint - at < TILE_K) mine.mask(joint - at);
        mine.soften(scale.scores);
        mine.add_values(values_of(memory, stage));
    }

    float *staged = (float *)memory + warp * WARP_ROWS * STAGED;
    const queries q = {first + warp * WARP_ROWS, head, args.heads};
    __syncthreads();  // all are done with the tiles
    mine.end(staged, scale.values);
    __syncwarp();
    put_rows(args.image, staged, q, 0, args.image_tokens);
    if (args.text.data) put_rows(args.text, staged, q, args.image_tokens, joint);
}

bool oct_has_e4m3_attention_cuda(void)
{
#ifdef __CUDACC__
    cudaFuncAttributes attributes;
    const bool is_known = cudaFuncGetAttributes(&attributes, attend<e4m3>) == cudaSuccess;
    cudaGetLastError();  // a failure is answered here
    return is_known && attributes.binaryVersion >= 89;
#else
    return true;
#endif
}

void oct_joint_attention_cuda(const oct_joint_attention_args *args, oct_stream stream)
{
    const size_t queries = args->text.data ? args->joint : args->image_tokens;
    const size_t grid = divide_up(queries, TILE_Q) * args->heads;

    assert(args->image_tokens > 0 && args->image_tokens <= args->joint);
    assert(args->joint <= UINT32_MAX / HEAD - TILE_K);  // offsets of 32 bits
    assert(args->dtype == OCT_F16 || args->dtype == OCT_BF16 ||
           (args->dtype == OCT_F8_E4M3 && args->scales));
    check_sink(args->image);
    if (args->text.data) check_sink(args->text);
    if (args->dtype == OCT_F16)
        launch(attend<__half>, grid, BLOCK, stream, *args, (unsigned)queries);
    else if (args->dtype == OCT_BF16)
        launch(attend<bf16>, grid, BLOCK, stream, *args, (unsigned)queries);
    else
        launch(attend<e4m3>, grid, BLOCK, stream, *args, (unsigned)queries);
}
