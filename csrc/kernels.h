// The table of kernels that each path fills (body/kernels.cpp).
#pragma once

#include "matrix.h"

#include <cstddef>
#include <cstdint>

namespace growprune {

// Floats that must be readable beyond a gate's last sum.
constexpr int MARGIN = 32;

// Floats that the product with a matrix needs for itself.
static constexpr size_t scratch_floats(const Matrix &W) {
    if (W.layout == Layout::csr) return static_cast<size_t>(PANEL) * W.columns;
    return W.layout == Layout::blocks ? W.columns + padded(W.rows) : 0;
}

struct Kernels {
    const char *name;

    // y[i] = x[i] W^T + addend[i] for i < n; addend may be null, its stride 0 for the same each
    // time. `scratch` has scratch_floats(W).
    void (*product)(const Matrix &W, const float *const *x, int n, const float *addend,
                    ptrdiff_t addend_stride, float *y, ptrdiff_t y_stride, float *scratch);
    // The cell of an LSTM, from the sums of the gates i, f, g, o; new_c may be c.
    void (*lstm)(const float *const *gates, int hidden, const float *c, float *new_h, float *new_c);
    // The cell of a GRU, from the sums of the gates r, z, n over the input and the hidden state.
    void (*gru)(const float *const *from_x, const float *const *from_h, int hidden, const float *h,
                float *new_h);

    // Elementwise; y may be x.
    void (*sigmoid)(const float *x, float *y, int64_t n);
    void (*tanh)(const float *x, float *y, int64_t n);
    void (*leaky_relu)(const float *x, float slope, float *y, int64_t n);
    void (*layer_norm)(const float *x, const float *weight, const float *bias, float eps, float *y,
                       int64_t rows, int width);
    void (*log_softmax)(const float *x, float *y, int64_t rows, int width);
};

} // namespace growprune
