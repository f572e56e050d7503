// Products of any matrix with any number of vectors.
#pragma once

namespace growprune::KERNEL_PATH {

// Vectors multiplied by one panel after the other while its weights are in the nearest cache.
constexpr int CHUNK = 64;

template <class Value>
void product_of(const Matrix &W, const float *const *x, int n, Ending ending, float *y,
                ptrdiff_t y_stride, float *scratch, bool backwards) {
    if (W.layout == Layout::dense)
        return dense_product<Value>(W, x, n, ending, y, y_stride, scratch, backwards);
    const auto of_layout = W.layout == Layout::csr ? csr_product<Value> : blocks_product<Value>;
    of_layout(W, x, n, ending, y, y_stride, scratch);
}

void product(const Matrix &W, const float *const *x, int n, const float *addend,
             ptrdiff_t addend_stride, const float *const *k, float *y, ptrdiff_t y_stride, float *scratch,
             bool backwards) {
    // One vector's sums are squashed by panels while they are in registers.
    const bool squashed_at_once = n == 1 && W.layout != Layout::csr;
    if (!addend) {
        addend = scratch;
        addend_stride = 0;
        __builtin_memset(scratch, 0, sizeof(float) * padded(W.rows));
    }
    scratch += padded(W.rows);
    const Ending ending = {addend, addend_stride, squashed_at_once ? k : nullptr};
    for (int i = 0; i < n; i += CHUNK) {
        const int count = n - i < CHUNK ? n - i : CHUNK;
        float *part = y + i * y_stride;
        if (W.scales)
            product_of<int8_t>(W, x + i, count, ending.from(i), part, y_stride, scratch,
                               backwards);
        else
            product_of<float>(W, x + i, count, ending.from(i), part, y_stride, scratch, backwards);
    }
    if (k && !squashed_at_once)
        for (int i = 0; i < n; ++i) squash_each(y + i * y_stride, k, y + i * y_stride, W.rows);
}

} // namespace growprune::KERNEL_PATH
