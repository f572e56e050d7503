// The table of kernels that each path fills (body/kernels.cpp).
#pragma once

#include "matrix.h"

#include <cstddef>
#include <cstdint>

namespace growprune {

// Where one gate's sums of the last stage come from, for one sequence:
// addend + sums, or addend + the product of x with the panels of `matrix` from `panel` on.
struct Gate {
    const float *addend; // (hidden, readable to whole panels)
    const float *sums;   // likewise; null if there is a matrix
    const Matrix *matrix;
    int panel;
    const float *x;
};

// Floats that the product with a matrix needs for itself.
static constexpr size_t scratch_floats(const Matrix &W) {
    if (W.layout == Layout::csr) return static_cast<size_t>(PANEL) * W.columns;
    return W.layout == Layout::blocks ? W.columns + padded(W.rows) : 0;
}

struct Kernels {
    const char *name;

    // y[i] = x[i] W^T + bias for i < n; bias may be null. `scratch` has scratch_floats(W).
    void (*product)(const Matrix &W, const float *const *x, int n, float *y, ptrdiff_t y_stride,
                    const float *bias, float *scratch);
    // Whether product() would skip the zeros of x, when it is alone.
    bool (*skips_zeros)(const Matrix &W, const float *x);
    // y = leaky_relu(a + b)
    void (*rectify_sum)(const float *a, const float *b, float slope, float *y, int n);
    // The cell of an LSTM with gates i, f, g, o; new_c may be c.
    void (*lstm)(const Gate *gates, int hidden, const float *c, float *new_h, float *new_c);
    // The cell of a GRU with gates r, z, n, the last's sums without `input`, its input's part.
    void (*gru)(const Gate *gates, const float *input, int hidden, const float *h, float *new_h);

    void (*sigmoid)(const float *x, float *y, int64_t n);
    void (*tanh)(const float *x, float *y, int64_t n);
    void (*leaky_relu)(const float *x, float slope, float *y, int64_t n);
    void (*layer_norm)(const float *x, const float *weight, const float *bias, float eps, float *y,
                       int64_t rows, int width);
    void (*log_softmax)(const float *x, float *y, int64_t rows, int width);
};

} // namespace growprune
