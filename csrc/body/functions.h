// exp, sigmoid and tanh on packs of vectors. None branches; NaN stays NaN.
#pragma once

namespace growprune::KERNEL_PATH {

// e^x = scale (1 + rest), for -87.33 <= x <= 87.33.
template <int N> struct Exp {
    Pack<N> scale;
    Pack<N> rest;
};

// x = k ln 2 + r with k whole and |r| <= ln 2 / 2: scale = 2^k, rest = e^r - 1. ln 2 is taken in
// two parts, so that k times the first is exact (Cody and Waite, 1980). p is the minimax polynomial
// of (e^r - 1 - r) / r^2; with it e^r is off by less than 5e-9 of itself, before rounding.
template <int N> INLINE Exp<N> exp(Pack<N> x) {
    constexpr float ROUND = 12582912.0f; // 1.5 x 2^23: its last place is worth 1
    const Pack<N> shifted = x * 1.44269504f + ROUND;
    const Pack<N> k = shifted + -ROUND;
    Pack<N> r = x + k * -0.693359375f;
    r = r + k * 2.12194440e-4f;
    Pack<N> p = r * 1.3814312e-3f + 8.3688507e-3f;
    p = p * r + 4.16684002e-2f;
    p = p * r + 1.66665196e-1f;
    p = p * r + 4.9999994e-1f;
    Pack<N> scale;
    EACH_PART scale.part[q] = reinterpret_cast<Vec>(
        (reinterpret_cast<IntVec>(shifted.part[q]) << 23) + 0x3f800000);
    return {scale, p * r * r + r};
}

// NaN passes.
template <int N> INLINE Pack<N> at_least(Pack<N> x, float bound) {
    EACH_PART x.part[q] = larger(bound - Vec{}, x.part[q]);
    return x;
}

template <int N> INLINE Pack<N> at_most(Pack<N> x, float bound) {
    EACH_PART x.part[q] = smaller(bound - Vec{}, x.part[q]);
    return x;
}

// 1 / (1 + e^-x); beyond the bound it would be 1, or too small for a normal float.
template <int N> INLINE Pack<N> sigmoid(Pack<N> x) {
    const Exp<N> e = exp(at_most(at_least(x * -1.0f, -87.33f), 87.33f));
    Pack<N> y = e.scale * e.rest + (e.scale + 1.0f);
    EACH_PART y.part[q] = 1.0f / y.part[q];
    return y;
}

// With t = e^2|x| - 1, which keeps its digits where x is small: t / (t + 2), and the sign of x.
template <int N> INLINE Pack<N> tanh(Pack<N> x) {
    constexpr int32_t SIZE = 0x7fffffff;
    Pack<N> size;
    EACH_PART size.part[q] = reinterpret_cast<Vec>(reinterpret_cast<IntVec>(x.part[q]) & SIZE);
    const Exp<N> e = exp(at_most(size + size, 20.0f));
    const Pack<N> t = e.scale * e.rest + (e.scale + -1.0f);
    Pack<N> y = t / (t + 2.0f);
    EACH_PART y.part[q] = reinterpret_cast<Vec>(reinterpret_cast<IntVec>(y.part[q]) |
                                                (reinterpret_cast<IntVec>(x.part[q]) & ~SIZE));
    return y;
}

// tanh(x) as x p(x^2) / q(x^2), the quotient of least relative error where |x| <= 8: 1.6e-7 of
// itself before rounding, off by less than 5e-7 with it, and never above 1. It takes half the
// operations of tanh, and is for the insides of layers, where that is close enough.
template <int N> INLINE Pack<N> near_tanh(Pack<N> x) {
    x = at_most(at_least(x, -8.0f), 8.0f);
    const Pack<N> y = x * x;
    Pack<N> p = y * 1.1483626e-5f + 2.9566924e-3f;
    p = p * y + 1.293121e-1f;
    p = p * y + 1.0f;
    Pack<N> q = y * 2.4757392e-7f + 2.3943401e-4f;
    q = q * y + 2.383951e-2f;
    q = q * y + 4.626446e-1f;
    q = q * y + 1.0f;
    return x * p / q;
}

// tanh(x) where k is 1, and sigmoid(x) where k is 1/2: sigmoid(x) = tanh(x / 2) / 2 + 1 / 2.
template <int N> INLINE Pack<N> squash(Pack<N> x, Pack<N> k) {
    Pack<N> rest;
    EACH_PART rest.part[q] = 1.0f - k.part[q];
    return near_tanh(x * k) * k + rest;
}

template <int N> INLINE Pack<N> leaky_relu(Pack<N> x, float slope) {
    EACH_PART x.part[q] = x.part[q] > 0.0f ? x.part[q] : x.part[q] * slope;
    return x;
}

} // namespace growprune::KERNEL_PATH
