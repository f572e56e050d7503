// Products of dense matrices.
#pragma once

namespace growprune::KERNEL_PATH {

// Vectors multiplied by a panel at once.
constexpr int DENSE_TILE = SUMS >= 8 ? 8 : SUMS > 4 ? 4 : SUMS;

template <class Value> INLINE const Value *panel_weights(const Matrix &W, int panel) {
    return values<Value>(W.panels.values) + static_cast<int64_t>(panel) * W.columns * PANEL;
}

// One panel times N vectors.
template <int N, class Value>
INLINE void dense_tile(const Matrix &W, int panel, const float *const *x, Ending ending, float *y,
                       ptrdiff_t y_stride) {
    const Value *weights = panel_weights<Value>(W, panel);
    const float *rows[N];
    Lanes sums[N] = {};
    UNROLL for (int i = 0; i < N; ++i) rows[i] = x[i];
    for (int c = 0; c < W.columns; ++c, weights += PANEL) {
        const Lanes column = load_weights(weights);
        UNROLL for (int i = 0; i < N; ++i) add_product(sums[i], column, rows[i][c]);
    }
    if (panel < W.rows / PANEL) return finish_tile<Value>(W, sums, panel, ending, y, y_stride);
    for (int i = 0; i < N; ++i) {
        const Lanes in_memory = sums[i];
        finish_last<Value>(W, &in_memory, panel, ending.from(i), y + i * y_stride);
    }
}

// One panel times one vector: columns in separate sums, which need not wait for each other.
template <class Value>
INLINE void dense_vector(const Matrix &W, int panel, const float *x, Ending ending, float *y) {
    constexpr int SPLIT = SUMS >= 4 ? 4 : 2;
    const Value *weights = panel_weights<Value>(W, panel);
    Lanes sums[SPLIT] = {};
    int c = 0;
    for (; c + SPLIT <= W.columns; c += SPLIT, weights += SPLIT * PANEL)
        UNROLL for (int s = 0; s < SPLIT; ++s)
            add_product(sums[s], load_weights(weights + PANEL * s), x[c + s]);
    for (; c < W.columns; ++c, weights += PANEL)
        add_product(sums[0], load_weights(weights), x[c]);
    Lanes total = sums[0];
    UNROLL for (int s = 1; s < SPLIT; ++s) total = total + sums[s];
    finish_last<Value>(W, &total, panel, ending, y);
}

template <class Value>
void dense_product(const Matrix &W, const float *const *x, int n, Ending ending, float *y,
                   ptrdiff_t y_stride) {
    for (int panel = 0; panel < panels_of(W.rows); ++panel) {
        int i = 0;
        for (; i + DENSE_TILE <= n; i += DENSE_TILE)
            dense_tile<DENSE_TILE, Value>(W, panel, x + i, ending.from(i), y + i * y_stride,
                                          y_stride);
        for (; i + 2 <= n; i += 2)
            dense_tile<2, Value>(W, panel, x + i, ending.from(i), y + i * y_stride, y_stride);
        if (i < n) dense_vector<Value>(W, panel, x[i], ending.from(i), y + i * y_stride);
    }
}

} // namespace growprune::KERNEL_PATH
