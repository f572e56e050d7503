// Products of a matrix with one vector or several.
#pragma once

namespace growprune::KERNEL_PATH {

// How many panels' sums fit into the registers, beside what is added to them.
constexpr int SUMS = REGISTERS * 3 / 4 * WIDTH / PANEL;
// Vectors multiplied by a dense panel at once.
constexpr int TILE = SUMS >= 8 ? 8 : SUMS > 4 ? 4 : SUMS;
// Panels of a bundle that are multiplied at once, by one vector or by BUNDLE_TILE.
constexpr int PANELS_FOR_ONE = SUMS >= BUNDLE ? BUNDLE : 2;
constexpr int PANELS_FOR_TILE = SUMS >= 6 * BUNDLE ? BUNDLE : SUMS >= 6 ? 2 : 1;
constexpr int BUNDLE_TILE = SUMS / PANELS_FOR_TILE;
// Vectors whose products with one panel follow each other while its weights are in the cache.
constexpr int CHUNK = 64;

#define UNROLL _Pragma("GCC unroll 16")

template <class Value> INLINE const Value *values(Values v) {
    return static_cast<const Value *>(v.data);
}

// What y[i] starts from: addend[i], or nothing.
struct Addend {
    const float *data;
    ptrdiff_t stride;

    INLINE Addend from(ptrdiff_t i) const { return {data ? data + i * stride : data, stride}; }
};

// A row's result, with what is multiplied and added last.
INLINE float finished(const Matrix &W, float sum, int row, Addend addend) {
    return (W.scales ? W.scales[row] : 1.0f) * sum + (addend.data ? addend.data[row] : 0.0f);
}

// The end of a product with the last panel, where it sticks out of the matrix.
template <int N>
__attribute__((noinline)) void finish_cut(const Matrix &W, const Lanes *sums, int panel,
                                          Addend addend, float *y, ptrdiff_t y_stride) {
    const int at = PANEL * panel;
    for (int i = 0; i < N; ++i) {
        float rows[PANEL];
        store(sums[i], rows);
        for (int r = 0; at + r < W.rows; ++r)
            y[i * y_stride + at + r] = finished(W, rows[r], at + r, addend.from(i));
    }
}

// Stores the sums of a panel and N vectors, with what is multiplied and added last.
template <int N>
INLINE void finish(const Matrix &W, const Lanes (&sums)[N], int panel, Addend addend, float *y,
                   ptrdiff_t y_stride) {
    const int at = PANEL * panel;
    if (__builtin_expect(at + PANEL > W.rows, 0)) {
        Lanes in_memory[N]; // a copy, which leaves the sums themselves in registers
        UNROLL for (int i = 0; i < N; ++i) in_memory[i] = sums[i];
        return finish_cut<N>(W, in_memory, panel, addend, y, y_stride);
    }
    UNROLL for (int i = 0; i < N; ++i) {
        Lanes result = sums[i];
        if (W.scales) result = result * load_lanes(W.scales + at);
        if (addend.data) result = result + load_lanes(addend.from(i).data + at);
        store(result, y + i * y_stride + at);
    }
}

// One dense panel times N vectors.
template <int N, class Value>
INLINE void dense_tile(const Matrix &W, int panel, const float *const *x, Addend addend, float *y,
                       ptrdiff_t y_stride) {
    const Value *weights =
        values<Value>(W.panels.values) + static_cast<int64_t>(panel) * W.columns * PANEL;
    const float *rows[N];
    Lanes sums[N] = {};
    UNROLL for (int i = 0; i < N; ++i) rows[i] = x[i];
    for (int c = 0; c < W.columns; ++c, weights += PANEL) {
        const Lanes column = load_weights(weights);
        UNROLL for (int i = 0; i < N; ++i) add_product(sums[i], column, rows[i][c]);
    }
    finish(W, sums, panel, addend, y, y_stride);
}

// One dense panel times one vector: its columns in separate sums, which need not wait for each
// other.
template <class Value>
INLINE void dense_tile_of_one(const Matrix &W, int panel, const float *x, Addend addend, float *y) {
    constexpr int SPLIT = SUMS >= 4 ? 4 : 2;
    const Value *weights =
        values<Value>(W.panels.values) + static_cast<int64_t>(panel) * W.columns * PANEL;
    Lanes sums[SPLIT] = {};
    int c = 0;
    for (; c + SPLIT <= W.columns; c += SPLIT, weights += SPLIT * PANEL)
        UNROLL for (int s = 0; s < SPLIT; ++s)
            add_product(sums[s], load_weights(weights + PANEL * s), x[c + s]);
    for (; c < W.columns; ++c, weights += PANEL)
        add_product(sums[0], load_weights(weights), x[c]);
    Lanes total[1] = {sums[0]};
    UNROLL for (int s = 1; s < SPLIT; ++s) total[0] = total[0] + sums[s];
    finish(W, total, panel, addend, y, 0);
}

template <class Value>
void dense_product(const Matrix &W, const float *const *x, int n, Addend addend, float *y,
                   ptrdiff_t y_stride) {
    for (int panel = 0; panel < panels_of(W.rows); ++panel) {
        int i = 0;
        for (; i + TILE <= n; i += TILE)
            dense_tile<TILE, Value>(W, panel, x + i, addend.from(i), y + i * y_stride, y_stride);
        for (; i + 2 <= n; i += 2)
            dense_tile<2, Value>(W, panel, x + i, addend.from(i), y + i * y_stride, y_stride);
        if (i < n) dense_tile_of_one<Value>(W, panel, x[i], addend.from(i), y + i * y_stride);
    }
}

// Some panels of a bundle, from `place` on, times N vectors.
template <int PANELS, int N, class Value>
INLINE void bundle_tile(const Matrix &W, int place, const float *const *x, Addend addend, float *y,
                        ptrdiff_t y_stride) {
    const int32_t *starts = W.bundles.starts + place / BUNDLE;
    const int64_t first = static_cast<int64_t>(BUNDLE) * starts[0] + place % BUNDLE;
    const Value *weights = values<Value>(W.bundles.values) + PANEL * first;
    const int32_t *columns = W.bundles.columns + first;
    const float *rows[N];
    Lanes sums[PANELS][N] = {};
    UNROLL for (int i = 0; i < N; ++i) rows[i] = x[i];
    for (int e = starts[1] - starts[0]; e > 0; --e, weights += BUNDLE * PANEL, columns += BUNDLE)
        UNROLL for (int p = 0; p < PANELS; ++p) {
            const Lanes block = load_weights(weights + PANEL * p);
            const int64_t column = columns[p];
            UNROLL for (int i = 0; i < N; ++i) add_product(sums[p][i], block, rows[i][column]);
        }
    UNROLL for (int p = 0; p < PANELS; ++p) {
        const int panel = W.bundles.panels[place + p];
        if (panel < 0) break;
        finish(W, sums[p], panel, addend, y, y_stride);
    }
}

template <int PANELS, int N, class Value>
__attribute__((noinline)) void bundle_tiles(const Matrix &W, const float *const *x, Addend addend,
                                            float *y, ptrdiff_t y_stride) {
    for (int place = 0; place < W.bundles.places; place += PANELS)
        bundle_tile<PANELS, N, Value>(W, place, x, addend, y, y_stride);
}

// Blocks times one vector, column by column, those of its zeros left out.
template <class Value>
void columns_times_vector(const Matrix &W, const float *x, Addend addend, float *y,
                          float *scratch) {
    float *sums = scratch; // of whole panels: the last one is cut to the matrix afterwards
    int32_t *active = reinterpret_cast<int32_t *>(scratch + padded(W.rows));
    int count = 0;
    for (int c = 0; c < W.columns; ++c) {
        active[count] = c;
        count += x[c] != 0.0f;
    }
    const Value *weights = values<Value>(W.by_column.values);
    __builtin_memset(sums, 0, sizeof(float) * padded(W.rows));
    for (int a = 0; a < count; ++a) {
        const int c = active[a];
        for (int e = W.by_column.starts[c]; e < W.by_column.starts[c + 1]; ++e) {
            float *panel = sums + PANEL * W.by_column.panels[e];
            Lanes sum = load_lanes(panel);
            add_product(sum, load_weights(weights + static_cast<int64_t>(PANEL) * e), x[c]);
            store(sum, panel);
        }
    }
    for (int p = 0; p < panels_of(W.rows); ++p) {
        const Lanes total[1] = {load_lanes(sums + PANEL * p)};
        finish(W, total, p, addend, y, 0);
    }
}

// Whether so many of x are zeros that going by columns, which stores every sum again and again,
// beats going by panels, which reads every weight.
INLINE bool mostly_zeros(const float *x, int n) {
    int active = 0;
    for (int i = 0; i < n; ++i) active += x[i] != 0.0f;
    return 2 * active < n;
}

template <class Value>
void blocks_product(const Matrix &W, const float *const *x, int n, Addend addend, float *y,
                    ptrdiff_t y_stride, float *scratch) {
    if (n == 1 && mostly_zeros(x[0], W.columns))
        return columns_times_vector<Value>(W, x[0], addend, y, scratch);
    int i = 0;
    for (; i + BUNDLE_TILE <= n; i += BUNDLE_TILE)
        bundle_tiles<PANELS_FOR_TILE, BUNDLE_TILE, Value>(W, x + i, addend.from(i),
                                                          y + i * y_stride, y_stride);
    for (; i + 2 <= n; i += 2)
        bundle_tiles<PANELS_FOR_TILE, 2, Value>(W, x + i, addend.from(i), y + i * y_stride,
                                                y_stride);
    if (i < n)
        bundle_tiles<PANELS_FOR_ONE, 1, Value>(W, x + i, addend.from(i), y + i * y_stride,
                                               y_stride);
}

// CSR times one vector: 16 rows side by side.
template <class Value>
void slices_times_vector(const Matrix &W, const float *x, Addend addend, float *y) {
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
            y[rows[l]] = finished(W, sums.part[l / WIDTH][l % WIDTH], rows[l], addend);
    }
}

// CSR times up to WIDTH vectors. They are turned, so that the vectors' values of a column lie side
// by side; then every weight serves all of them at once.
template <class Value>
void slices_times_vectors(const Matrix &W, const float *const *x, int n, Addend addend, float *y,
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
                y[i * y_stride + rows[l]] = finished(W, sums[l].part[0][i], rows[l], addend.from(i));
    }
}

template <class Value>
void csr_product(const Matrix &W, const float *const *x, int n, Addend addend, float *y,
                 ptrdiff_t y_stride, float *scratch) {
    int i = 0;
    for (; n - i > 1; i += n - i < WIDTH ? n - i : WIDTH)
        slices_times_vectors<Value>(W, x + i, n - i < WIDTH ? n - i : WIDTH, addend.from(i),
                                    y + i * y_stride, y_stride, scratch);
    if (i < n) slices_times_vector<Value>(W, x[i], addend.from(i), y + i * y_stride);
}

template <class Value>
void product_of(const Matrix &W, const float *const *x, int n, Addend addend, float *y,
                ptrdiff_t y_stride, float *scratch) {
    if (W.layout == Layout::dense) return dense_product<Value>(W, x, n, addend, y, y_stride);
    if (W.layout == Layout::csr) return csr_product<Value>(W, x, n, addend, y, y_stride, scratch);
    return blocks_product<Value>(W, x, n, addend, y, y_stride, scratch);
}

void product(const Matrix &W, const float *const *x, int n, const float *addend,
             ptrdiff_t addend_stride, float *y, ptrdiff_t y_stride, float *scratch) {
    for (int i = 0; i < n; i += CHUNK) {
        const int count = n - i < CHUNK ? n - i : CHUNK;
        const Addend part = Addend{addend, addend_stride}.from(i);
        if (W.scales)
            product_of<int8_t>(W, x + i, count, part, y + i * y_stride, y_stride, scratch);
        else
            product_of<float>(W, x + i, count, part, y + i * y_stride, y_stride, scratch);
    }
}

} // namespace growprune::KERNEL_PATH
