// Zeros among a product's inputs, as a ReLU leaves them: their columns can be skipped.
#pragma once

namespace growprune::KERNEL_PATH {

INLINE int count_active(const float *x, int n) {
    int count = 0;
    for (int i = 0; i < n; ++i) count += x[i] != 0.0f;
    return count;
}

// Whether three quarters are zeros; looks no further once there are too many others.
INLINE bool is_mostly_zero(const float *x, int n) {
    constexpr int PART = 64;
    int count = 0;
    for (int i = 0; i < n; i += PART) {
        count += count_active(x + i, n - i < PART ? n - i : PART);
        if (4 * count >= n) return false;
    }
    return true;
}

// The places of what is not zero, in order; returns how many. `active` has room for n.
INLINE int list_active(const float *x, int n, int32_t *active) {
    int count = 0;
    for (int i = 0; i < n; ++i) {
        active[count] = i;
        count += x[i] != 0.0f;
    }
    return count;
}

} // namespace growprune::KERNEL_PATH
