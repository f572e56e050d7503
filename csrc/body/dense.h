// Products of dense matrices.
#pragma once

namespace growprune::KERNEL_PATH {

// Vectors multiplied by a panel at once.
constexpr int DENSE_TILE = SUMS >= 8 ? 8 : SUMS > 4 ? 4 : SUMS;

// Columns from what is multiplied to what is fetched from afar: a page of float weights, where the
// processor's own fetching ahead stops. It may lie behind the matrix; fetching it does no harm.
constexpr int AHEAD = 64;

template <class Value> INLINE const Value *panel_weights(const Matrix &W, int panel) {
    return values<Value>(W.panels.values) + static_cast<int64_t>(panel) * W.columns * PANEL;
}

// One panel times N vectors; of few, the columns are in separate sums, which need not wait for each
// other.
template <int N, class Value>
INLINE void dense_tile(const Matrix &W, int panel, const float *const *x, Ending ending, float *y,
                       ptrdiff_t y_stride) {
    constexpr int SPLIT = N * PARTS >= 8 ? 1 : 8 / (N * PARTS);
    const Value *weights = panel_weights<Value>(W, panel);
    const float *rows[N];
    Lanes sums[SPLIT][N] = {};
    UNROLL for (int i = 0; i < N; ++i) rows[i] = x[i];
    const auto add = [&](Lanes *sum, int c) {
        __builtin_prefetch(weights + PANEL * (c + AHEAD));
        const Lanes column = load_weights(weights + PANEL * c);
        UNROLL for (int i = 0; i < N; ++i) add_product(sum[i], column, rows[i][c]);
    };
    int c = 0;
    for (; c + SPLIT <= W.columns; c += SPLIT)
        UNROLL for (int s = 0; s < SPLIT; ++s) add(sums[s], c + s);
    for (; c < W.columns; ++c) add(sums[0], c);
    UNROLL for (int s = 1; s < SPLIT; ++s)
        UNROLL for (int i = 0; i < N; ++i) sums[0][i] = sums[0][i] + sums[s][i];
    if (panel < W.rows / PANEL) return finish_tile<Value>(W, sums[0], panel, ending, y, y_stride);
    for (int i = 0; i < N; ++i) {
        const Lanes in_memory = sums[0][i];
        finish_last<Value>(W, &in_memory, panel, ending.from(i), y + i * y_stride);
    }
}

// One panel times n vectors, at most N.
template <int N, class Value>
INLINE void dense_rest(const Matrix &W, int panel, const float *const *x, int n, Ending ending,
                       float *y, ptrdiff_t y_stride) {
    if (n == N) return dense_tile<N, Value>(W, panel, x, ending, y, y_stride);
    if constexpr (N > 1) dense_rest<N - 1, Value>(W, panel, x, n, ending, y, y_stride);
}

// One panel times one vector: `count` columns, of which column(j) is the j-th, in separate sums,
// which need not wait for each other.
template <class Value, class Column>
INLINE void dense_vector(const Matrix &W, int panel, const float *x, Column column, int count,
                         Ending ending, float *y) {
    constexpr int SPLIT = SUMS >= 4 ? 4 : 2;
    const Value *weights = panel_weights<Value>(W, panel);
    Lanes sums[SPLIT] = {};
    int j = 0;
    for (; j + SPLIT <= count; j += SPLIT)
        UNROLL for (int s = 0; s < SPLIT; ++s) {
            const int64_t c = column(j + s);
            __builtin_prefetch(weights + PANEL * (c + AHEAD));
            add_product(sums[s], load_weights(weights + PANEL * c), x[c]);
        }
    for (; j < count; ++j) {
        const int64_t c = column(j);
        add_product(sums[0], load_weights(weights + PANEL * c), x[c]);
    }
    Lanes total = sums[0];
    UNROLL for (int s = 1; s < SPLIT; ++s) total = total + sums[s];
    finish_last<Value>(W, &total, panel, ending, y);
}

// One vector, those of its columns left out that are zero, if they are many.
template <class Value>
void dense_times_vector(const Matrix &W, const float *x, Ending ending, float *y, int32_t *active,
                        bool backwards) {
    const int panels = panels_of(W.rows);
    const auto panel = [=](int i) { return backwards ? panels - 1 - i : i; };
    if (5 * count_active(x, W.columns) < 4 * W.columns) {
        const int count = list_active(x, W.columns, active);
        const auto listed = [active](int j) { return active[j]; };
        for (int i = 0; i < panels; ++i)
            dense_vector<Value>(W, panel(i), x, listed, count, ending, y);
    } else {
        const auto every = [](int j) { return j; };
        for (int i = 0; i < panels; ++i)
            dense_vector<Value>(W, panel(i), x, every, W.columns, ending, y);
    }
}

template <class Value>
void dense_product(const Matrix &W, const float *const *x, int n, Ending ending, float *y,
                   ptrdiff_t y_stride, float *scratch, bool backwards) {
    if (n == 1)
        return dense_times_vector<Value>(W, x[0], ending, y, reinterpret_cast<int32_t *>(scratch),
                                         backwards);
    for (int panel = 0; panel < panels_of(W.rows); ++panel) {
        int i = 0;
        for (; i + DENSE_TILE <= n; i += DENSE_TILE)
            dense_tile<DENSE_TILE, Value>(W, panel, x + i, ending.from(i), y + i * y_stride,
                                          y_stride);
        dense_rest<DENSE_TILE - 1, Value>(W, panel, x + i, n - i, ending.from(i),
                                          y + i * y_stride, y_stride);
    }
}

} // namespace growprune::KERNEL_PATH
