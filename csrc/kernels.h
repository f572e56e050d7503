// The table of kernels that each path fills (body/kernels.cpp).
#pragma once

#include "lanes.h"
#include "matrix.h"

#include <cstddef>
#include <cstdint>

namespace growprune {

// Floats that must be readable beyond a gate's last sum.
constexpr int MARGIN = 64;

// Floats that the product with a matrix needs for itself.
static constexpr size_t scratch_floats(const Matrix &W) {
    const size_t columns = W.columns;
    return 2 * padded(W.rows) + (W.layout == Layout::csr ? PANEL : 1) * columns;
}

struct Kernels {
    const char *name;
    int bundle; // panels of blocks that it multiplies side by side

    // y[i] = squash(x[i] W^T + addend[i], k) for i < n. The addend may be null, and its stride 0
    // for the same each time; it can be read to whole panels. k may be null for no squashing.
    // The sums may take the place of what is added to them: y may be the addend.
    // `scratch` has scratch_floats(W). Backwards, a dense matrix's product with a single vector
    // starts with the last rows: what the call before read last, and still is in a cache.
    void (*product)(const Matrix &W, const float *const *x, int n, const float *addend,
                    ptrdiff_t addend_stride, const float *const *k, float *y, ptrdiff_t y_stride,
                    float *scratch, bool backwards);
    // The cell of an LSTM, from its gates i, f, g, o; new_c may be c.
    void (*lstm)(const float *const *gates, int hidden, const float *c, float *new_h, float *new_c);
    // The cell of a GRU, from the sums of the gates r, z, n over the input and the hidden state.
    void (*gru)(const float *const *from_x, const float *const *from_h, int hidden, const float *h,
                float *new_h);

    // Elementwise; y may be x. squash is sigmoid where k is 1/2, and tanh where it is 1, both off by
    // less than 5e-7; k points to the numbers of each panel, which many may share.
    void (*squash)(const float *x, const float *const *k, float *y, int64_t n);
    void (*sigmoid)(const float *x, float *y, int64_t n);
    void (*tanh)(const float *x, float *y, int64_t n);
    void (*leaky_relu)(const float *x, float slope, float *y, int64_t n);
    void (*layer_norm)(const float *x, const float *weight, const float *bias, float eps, float *y,
                       int64_t rows, int width);
    void (*log_softmax)(const float *x, float *y, int64_t rows, int width);

    LaneKernels lanes; // for training
};

} // namespace growprune
