// 16 floats, one for each row of a panel, in as many registers as the path needs.
#pragma once

namespace growprune::KERNEL_PATH {

#if defined(__AVX512F__)
constexpr int WIDTH = 16;
#elif defined(__AVX2__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif
constexpr int PARTS = PANEL / WIDTH;

typedef float Vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t IntVec __attribute__((vector_size(4 * WIDTH)));
typedef float LooseVec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int8_t ByteVec __attribute__((vector_size(WIDTH), aligned(1), may_alias));

struct Lanes {
    Vec part[PARTS];
};

#define EACH_PART _Pragma("GCC unroll 4") for (int q = 0; q < PARTS; ++q)

inline Lanes all(float value) {
    Lanes lanes;
    EACH_PART lanes.part[q] = value - Vec{};
    return lanes;
}

inline Lanes load(const float *from) {
    Lanes lanes;
    EACH_PART lanes.part[q] = *reinterpret_cast<const LooseVec *>(from + WIDTH * q);
    return lanes;
}

inline Lanes load(const int8_t *from) {
    Lanes lanes;
    EACH_PART lanes.part[q] = __builtin_convertvector(
        *reinterpret_cast<const ByteVec *>(from + WIDTH * q), Vec);
    return lanes;
}

inline void store(Lanes lanes, float *to) {
    EACH_PART *reinterpret_cast<LooseVec *>(to + WIDTH * q) = lanes.part[q];
}

// The first `live` of the 16 only.
inline Lanes load(const float *from, int live) {
    if (live >= PANEL) return load(from);
    float whole[PANEL] = {};
    __builtin_memcpy(whole, from, sizeof(float) * live);
    return load(whole);
}

inline void store(Lanes lanes, float *to, int live) {
    if (live >= PANEL) return store(lanes, to);
    float whole[PANEL];
    store(lanes, whole);
    __builtin_memcpy(to, whole, sizeof(float) * live);
}

inline Lanes operator+(Lanes a, Lanes b) {
    EACH_PART a.part[q] += b.part[q];
    return a;
}

inline Lanes operator*(Lanes a, Lanes b) {
    EACH_PART a.part[q] *= b.part[q];
    return a;
}

inline void add_product(Lanes &sum, Lanes a, float b) {
    EACH_PART sum.part[q] += a.part[q] * b;
}

template <class Function> inline Lanes map(Function function, Lanes x) {
    EACH_PART x.part[q] = function(x.part[q]);
    return x;
}

} // namespace growprune::KERNEL_PATH
