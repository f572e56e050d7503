// exp, sigmoid and tanh on vectors. None branches; NaN stays NaN.
#pragma once

namespace growprune::KERNEL_PATH {

// e^x = scale (1 + rest), for -87.33 <= x <= 87.33.
struct Exp {
    Vec scale;
    Vec rest;
};

// x = k ln 2 + r with k whole and |r| <= ln 2 / 2: scale = 2^k, rest = e^r - 1. ln 2 is taken in
// two parts, so that k times the first is exact (Cody and Waite, 1980). The polynomial, the
// minimax one of Cephes' expf, is off by less than 1e-7 of e^r.
inline Exp exp(Vec x) {
    constexpr float ROUND = 12582912.0f; // 1.5 x 2^23: its last place is worth 1
    const Vec shifted = x * 1.44269504f + ROUND;
    const Vec k = shifted - ROUND;
    Vec r = x - k * 0.693359375f;
    r = r + k * 2.12194440e-4f;
    Vec p = r * 1.3814312e-3f + 8.3688507e-3f;
    p = p * r + 4.16684002e-2f;
    p = p * r + 1.66665196e-1f;
    p = p * r + 4.9999994e-1f;
    const IntVec scale = (reinterpret_cast<IntVec>(shifted) << 23) + 0x3f800000;
    return {reinterpret_cast<Vec>(scale), p * r * r + r};
}

// Comparisons with NaN are false, so that it passes.
inline Vec at_least(Vec x, float bound) { return x < bound ? bound - Vec{} : x; }
inline Vec at_most(Vec x, float bound) { return x > bound ? bound - Vec{} : x; }

// 1 / (1 + e^-x); beyond the bound it would be 1, or too small for a normal float.
inline Vec sigmoid(Vec x) {
    const Exp e = exp(at_most(at_least(-x, -87.33f), 87.33f));
    return 1.0f / (e.scale * e.rest + (e.scale + 1.0f));
}

// With t = e^2|x| - 1, which keeps its digits where x is small: t / (t + 2), and the sign of x.
inline Vec tanh(Vec x) {
    const IntVec bits = reinterpret_cast<IntVec>(x);
    const Vec size = reinterpret_cast<Vec>(bits & 0x7fffffff);
    const Exp e = exp(at_most(size + size, 20.0f));
    const Vec t = e.scale * e.rest + (e.scale - 1.0f);
    return reinterpret_cast<Vec>(reinterpret_cast<IntVec>(t / (t + 2.0f)) | (bits & ~0x7fffffff));
}

inline Vec leaky_relu(Vec x, float slope) { return x > 0.0f ? x : x * slope; }

} // namespace growprune::KERNEL_PATH
