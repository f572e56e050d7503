// Products of compressed sparse rows.
#pragma once

namespace growprune::KERNEL_PATH {

// A row's result: all but squashing.
template <class Value> INLINE float finished(const Matrix &W, float sum, int row, Ending ending) {
    return (sizeof(Value) == 1 ? W.scales[row] * sum : sum) + ending.addend[row];
}

// One vector: 16 rows side by side.
template <class Value>
void csr_vector(const Matrix &W, const float *x, Ending ending, float *y) {
    for (int s = 0; s < panels_of(W.rows); ++s) {
        const int64_t first = static_cast<int64_t>(PANEL) * W.slices.starts[s];
        const Value *weights = values<Value>(W.slices.values) + first;
        const int32_t *columns = W.slices.columns + first;
        Lanes sums = {};
        for (int e = W.slices.starts[s]; e < W.slices.starts[s + 1]; ++e) {
            sums = sums + load_weights(weights) * gather(x, columns);
            weights += PANEL;
            columns += PANEL;
        }
        const int32_t *rows = W.slices.rows + PANEL * s;
        for (int l = 0; l < PANEL && rows[l] >= 0; ++l)
            y[rows[l]] = finished<Value>(W, sums.part[l / WIDTH][l % WIDTH], rows[l], ending);
    }
}

// Up to WIDTH vectors. They are turned, so that their values in a column lie side by side; then
// every weight serves all of them at once.
template <class Value>
void csr_tile(const Matrix &W, const float *const *x, int n, Ending ending, float *y,
                          ptrdiff_t y_stride, float *turned) {
    for (int c = 0; c < W.columns; ++c)
        for (int i = 0; i < WIDTH; ++i) turned[WIDTH * c + i] = i < n ? x[i][c] : 0.0f;
    // As many rows at once as a register has lanes: their sums fit into the registers.
    for (int place = 0; place < padded(W.rows); place += WIDTH) {
        const int32_t *starts = W.slices.starts + place / PANEL;
        const int64_t first = static_cast<int64_t>(PANEL) * starts[0] + place % PANEL;
        const Value *weights = values<Value>(W.slices.values) + first;
        const int32_t *columns = W.slices.columns + first;
        Pack<1> sums[WIDTH] = {};
        for (int e = starts[0]; e < starts[1]; ++e, weights += PANEL, columns += PANEL)
            UNROLL for (int l = 0; l < WIDTH; ++l)
                add_product(sums[l], load<1>(turned + WIDTH * columns[l]), weights[l]);
        const int32_t *rows = W.slices.rows + place;
        UNROLL for (int l = 0; l < WIDTH; ++l)
            for (int i = 0; i < n && rows[l] >= 0; ++i)
                y[i * y_stride + rows[l]] =
                    finished<Value>(W, sums[l].part[0][i], rows[l], ending.from(i));
    }
}

template <class Value>
void csr_product(const Matrix &W, const float *const *x, int n, Ending ending, float *y,
                 ptrdiff_t y_stride, float *scratch) {
    int i = 0;
    for (; n - i > 1; i += n - i < WIDTH ? n - i : WIDTH)
        csr_tile<Value>(W, x + i, n - i < WIDTH ? n - i : WIDTH, ending.from(i),
                                    y + i * y_stride, y_stride, scratch);
    if (i < n) csr_vector<Value>(W, x[i], ending.from(i), y + i * y_stride);
}

} // namespace growprune::KERNEL_PATH
