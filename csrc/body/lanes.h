// Vectors of the path's width, and packs of them that are worked on together: the operations of
// a pack are independent, so that none waits for another.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace growprune::KERNEL_PATH {

#if defined(__AVX512F__)
constexpr int WIDTH = 16;
#elif defined(__AVX2__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif

typedef float Vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t IntVec __attribute__((vector_size(4 * WIDTH)));
typedef float LooseVec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int8_t ByteVec __attribute__((vector_size(WIDTH), aligned(1), may_alias));

// Calls would pass packs through memory.
#define INLINE inline __attribute__((always_inline))

template <int N> struct Pack {
    Vec part[N];
};

// 16 floats, one for each row of a panel.
using Lanes = Pack<PANEL / WIDTH>;

#define UNROLL _Pragma("GCC unroll 16")
#define EACH_PART _Pragma("GCC unroll 8") for (int q = 0; q < N; ++q)

template <int N> INLINE Pack<N> load(const float *from) {
    Pack<N> pack;
    EACH_PART pack.part[q] = *reinterpret_cast<const LooseVec *>(from + WIDTH * q);
    return pack;
}

// The smaller and the larger of two vectors' elements; b where one of them is NaN. The compilers make
// two instructions of the comparison: a step of the layer in docs/kernels.md then took 4% longer.
INLINE Vec smaller(Vec a, Vec b) {
#if defined(__AVX512F__)
    return _mm512_maskz_min_ps(0xffff, a, b);
#elif defined(__AVX2__)
    return _mm256_min_ps(a, b);
#elif defined(__SSE2__)
    return _mm_min_ps(a, b);
#else
    return a < b ? a : b;
#endif
}

INLINE Vec larger(Vec a, Vec b) {
#if defined(__AVX512F__)
    return _mm512_maskz_max_ps(0xffff, a, b);
#elif defined(__AVX2__)
    return _mm256_max_ps(a, b);
#elif defined(__SSE2__)
    return _mm_max_ps(a, b);
#else
    return a > b ? a : b;
#endif
}

// The first `live` floats; zeros for the rest.
template <int N> INLINE Pack<N> load(const float *from, int live) {
    if (live >= WIDTH * N) return load<N>(from);
    float whole[WIDTH * N] = {};
    __builtin_memcpy(whole, from, sizeof(float) * live);
    return load<N>(whole);
}

template <int N> INLINE void store(Pack<N> pack, float *to) {
    EACH_PART *reinterpret_cast<LooseVec *>(to + WIDTH * q) = pack.part[q];
}

// The first `live` floats only.
template <int N> INLINE void store(Pack<N> pack, float *to, int live) {
    if (live >= WIDTH * N) return store(pack, to);
    float whole[WIDTH * N];
    store(pack, whole);
    __builtin_memcpy(to, whole, sizeof(float) * live);
}

template <int N> INLINE Pack<N> operator+(Pack<N> a, Pack<N> b) {
    EACH_PART a.part[q] += b.part[q];
    return a;
}

template <int N> INLINE Pack<N> operator+(Pack<N> a, float b) {
    EACH_PART a.part[q] += b;
    return a;
}

template <int N> INLINE Pack<N> operator-(Pack<N> a, Pack<N> b) {
    EACH_PART a.part[q] -= b.part[q];
    return a;
}

template <int N> INLINE Pack<N> operator*(Pack<N> a, Pack<N> b) {
    EACH_PART a.part[q] *= b.part[q];
    return a;
}

template <int N> INLINE Pack<N> operator*(Pack<N> a, float b) {
    EACH_PART a.part[q] *= b;
    return a;
}

template <int N> INLINE Pack<N> operator/(Pack<N> a, Pack<N> b) {
    EACH_PART a.part[q] /= b.part[q];
    return a;
}

template <int N> INLINE void add_product(Pack<N> &sum, Pack<N> a, float b) {
    EACH_PART sum.part[q] += a.part[q] * b;
}

// Part `which` of a pack of such parts.
template <int N, int M> INLINE Pack<N> part_of(const Pack<M> &all, int which) {
    Pack<N> pack;
    EACH_PART pack.part[q] = all.part[N * which + q];
    return pack;
}

template <int N, int M> INLINE void place(const Pack<N> &pack, Pack<M> &all, int which) {
    EACH_PART all.part[N * which + q] = pack.part[q];
}

// A vector of bytes as floats. Left to __builtin_convertvector, GCC 12 goes byte by byte: products
// with int8 weights then took four times as long.
INLINE Vec widened(const int8_t *from) {
#if defined(__AVX512F__)
    // All lanes are wanted; the form without a mask makes GCC 12 warn of its own header.
    const IntVec whole = reinterpret_cast<IntVec>(_mm512_maskz_cvtepi8_epi32(
        0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i *>(from))));
    return __builtin_convertvector(whole, Vec);
#elif defined(__AVX2__)
    const IntVec whole = reinterpret_cast<IntVec>(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(from))));
    return __builtin_convertvector(whole, Vec);
#else
    return __builtin_convertvector(*reinterpret_cast<const ByteVec *>(from), Vec);
#endif
}

// 16 weights of a panel.
INLINE Lanes load_weights(const float *from) { return load<PANEL / WIDTH>(from); }

INLINE Lanes load_weights(const int8_t *from) {
    constexpr int N = PANEL / WIDTH;
    Lanes lanes;
    EACH_PART lanes.part[q] = widened(from + WIDTH * q);
    return lanes;
}

// x at 16 places. Written out, because the compilers make less of a loop.
INLINE Lanes gather(const float *x, const int32_t *at) {
    Lanes lanes;
#if defined(__AVX512F__)
    lanes.part[0] = Vec{x[at[0]],  x[at[1]],  x[at[2]],  x[at[3]],  x[at[4]],  x[at[5]],
                        x[at[6]],  x[at[7]],  x[at[8]],  x[at[9]],  x[at[10]], x[at[11]],
                        x[at[12]], x[at[13]], x[at[14]], x[at[15]]};
#elif defined(__AVX2__)
    for (int q = 0; q < PANEL / WIDTH; ++q, at += WIDTH)
        lanes.part[q] = Vec{x[at[0]], x[at[1]], x[at[2]], x[at[3]],
                            x[at[4]], x[at[5]], x[at[6]], x[at[7]]};
#else
    for (int q = 0; q < PANEL / WIDTH; ++q, at += WIDTH)
        lanes.part[q] = Vec{x[at[0]], x[at[1]], x[at[2]], x[at[3]]};
#endif
    return lanes;
}

INLINE Lanes load_lanes(const float *from) { return load<PANEL / WIDTH>(from); }

} // namespace growprune::KERNEL_PATH
