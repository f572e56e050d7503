// Products of a matrix with one vector or several.
#pragma once

namespace growprune::KERNEL_PATH {

// Vectors multiplied at once: their sums must fit into the registers.
#if defined(__aarch64__)
constexpr int TILE = 4;
#else
constexpr int TILE = WIDTH / 2;
#endif
// Separate sums of a single vector's product, so that additions need not wait for each other.
constexpr int SPLIT = WIDTH == 4 ? 2 : 4;
// Vectors whose products with one panel follow each other while its weights are in the cache.
constexpr int CHUNK = 64;

template <class Value> inline const Value *values(Values v) {
    return static_cast<const Value *>(v.data);
}

struct Span {
    int64_t first;
    int count;
};

// Where a panel's entries are.
inline Span entries(const Matrix &W, int panel) {
    if (!W.panels.starts) return {static_cast<int64_t>(panel) * W.columns, W.columns};
    const int first = W.panels.starts[panel];
    return {first, W.panels.starts[panel + 1] - first};
}

// One panel times one vector, without scales.
template <class Value, bool ALL_COLUMNS>
inline Lanes panel_sums(const Matrix &W, int panel, const float *x) {
    const Span span = entries(W, panel);
    const Value *w = values<Value>(W.panels.values) + PANEL * span.first;
    const int32_t *columns = ALL_COLUMNS ? nullptr : W.panels.columns + span.first;
    Lanes sums[SPLIT] = {};
    int e = 0;
    for (; e + SPLIT <= span.count; e += SPLIT)
#pragma GCC unroll 4
        for (int s = 0; s < SPLIT; ++s)
            add_product(sums[s], load(w + PANEL * (e + s)), x[ALL_COLUMNS ? e + s : columns[e + s]]);
    for (; e < span.count; ++e)
        add_product(sums[0], load(w + PANEL * e), x[ALL_COLUMNS ? e : columns[e]]);
    if (SPLIT == 4) return (sums[0] + sums[1]) + (sums[SPLIT - 2] + sums[SPLIT - 1]);
    return sums[0] + sums[1];
}

inline Lanes panel_product(const Matrix &W, int panel, const float *x) {
    if (!W.panels.values.quantized)
        return W.panels.starts ? panel_sums<float, false>(W, panel, x)
                               : panel_sums<float, true>(W, panel, x);
    const Lanes sums = W.panels.starts ? panel_sums<int8_t, false>(W, panel, x)
                                       : panel_sums<int8_t, true>(W, panel, x);
    return sums * load(W.scales + PANEL * panel);
}

// One panel times N vectors, without scales.
template <class Value, bool ALL_COLUMNS, int N>
inline void tile_sums(const Matrix &W, int panel, const float *const *x, Lanes *results) {
    const Span span = entries(W, panel);
    const Value *w = values<Value>(W.panels.values) + PANEL * span.first;
    const int32_t *columns = ALL_COLUMNS ? nullptr : W.panels.columns + span.first;
    const float *rows[N];
    Lanes sums[N] = {};
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) rows[i] = x[i];
    for (int e = 0; e < span.count; ++e) {
        const int64_t column = ALL_COLUMNS ? e : columns[e];
        const Lanes weights = load(w + PANEL * e);
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) add_product(sums[i], weights, rows[i][column]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) results[i] = sums[i];
}

// What is added to and multiplied with a panel's sums before they are stored.
struct Finish {
    const Matrix &W;
    const float *bias;

    inline void operator()(Lanes sums, int panel, float *y) const {
        const int live = W.rows - PANEL * panel;
        if (W.scales) sums = sums * load(W.scales + PANEL * panel);
        if (bias) sums = sums + load(bias + PANEL * panel, live);
        store(sums, y + PANEL * panel, live);
    }
};

template <class Value, bool ALL_COLUMNS>
void product_by_panels(const Matrix &W, const float *const *x, int n, float *y, ptrdiff_t y_stride,
                       const float *bias) {
    const Finish finish{W, bias};
    for (int chunk = 0; chunk < n; chunk += CHUNK) {
        const int end = chunk + CHUNK < n ? chunk + CHUNK : n;
        for (int p = 0; p < panels_of(W.rows); ++p) {
            int i = chunk;
            for (; i + TILE <= end; i += TILE) {
                Lanes sums[TILE];
                tile_sums<Value, ALL_COLUMNS, TILE>(W, p, x + i, sums);
#pragma GCC unroll 8
                for (int j = 0; j < TILE; ++j) finish(sums[j], p, y + (i + j) * y_stride);
            }
            for (; i < end; ++i)
                finish(panel_sums<Value, ALL_COLUMNS>(W, p, x[i]), p, y + i * y_stride);
        }
    }
}

// One vector, column by column, those of its zeros left out.
template <class Value>
void product_by_columns(const Matrix &W, const float *x, float *y, const float *bias,
                        float *scratch) {
    float *sums = scratch; // of whole panels: the last one is cut to the matrix afterwards
    int32_t *active = reinterpret_cast<int32_t *>(scratch + padded(W.rows));
    int count = 0;
    for (int c = 0; c < W.columns; ++c) {
        active[count] = c;
        count += x[c] != 0.0f;
    }
    const Value *w = values<Value>(W.by_column.values);
    __builtin_memset(sums, 0, sizeof(float) * padded(W.rows));
    for (int a = 0; a < count; ++a) {
        const int c = active[a];
        for (int e = W.by_column.starts[c]; e < W.by_column.starts[c + 1]; ++e) {
            float *panel = sums + PANEL * W.by_column.panels[e];
            Lanes sum = load(panel);
            add_product(sum, load(w + PANEL * e), x[c]);
            store(sum, panel);
        }
    }
    const Finish finish{W, bias};
    for (int p = 0; p < panels_of(W.rows); ++p) finish(load(sums + PANEL * p), p, y);
}

// Whether so many of x are zeros that going by columns, which stores every sum again and again,
// beats going by panels, which reads every weight.
bool skips_zeros(const Matrix &W, const float *x) {
    if (W.layout != Layout::blocks) return false;
    int active = 0;
    for (int c = 0; c < W.columns; ++c) active += x[c] != 0.0f;
    return 2 * active < W.columns;
}

// One vector times CSR: 16 rows side by side.
template <class Value>
void product_by_slices(const Matrix &W, const float *x, float *y, const float *bias) {
    const Value *w = values<Value>(W.slices.values);
    for (int s = 0; s < W.slices.count; ++s) {
        float sums[PANEL] = {};
        for (int e = W.slices.starts[s]; e < W.slices.starts[s + 1]; ++e)
            for (int l = 0; l < PANEL; ++l)
                sums[l] += w[PANEL * e + l] * x[W.slices.columns[PANEL * e + l]];
        for (int l = 0; l < PANEL; ++l) {
            const int row = W.slices.order[PANEL * s + l];
            if (row < 0) break;
            y[row] = (W.scales ? W.scales[row] : 1.0f) * sums[l] + (bias ? bias[row] : 0.0f);
        }
    }
}

// Several vectors times CSR. They are turned so that WIDTH of them lie side by side for each
// column; then every weight serves all of them at once.
template <class Value>
void product_by_slices(const Matrix &W, const float *const *x, int n, float *y, ptrdiff_t y_stride,
                       const float *bias, float *turned) {
    const Value *w = values<Value>(W.slices.values);
    for (int c = 0; c < W.columns; ++c)
        for (int i = 0; i < WIDTH; ++i) turned[WIDTH * c + i] = i < n ? x[i][c] : 0.0f;
    for (int s = 0; s < W.slices.count; ++s) {
        // As many rows at once as a register has lanes: no more sums than registers.
        for (int part = 0; part < PANEL; part += WIDTH) {
            Vec sums[WIDTH] = {};
            for (int e = W.slices.starts[s]; e < W.slices.starts[s + 1]; ++e) {
                const int64_t at = static_cast<int64_t>(PANEL) * e + part;
#pragma GCC unroll 16
                for (int l = 0; l < WIDTH; ++l) {
                    const float *column = turned + WIDTH * W.slices.columns[at + l];
                    sums[l] += *reinterpret_cast<const LooseVec *>(column) *
                               static_cast<float>(w[at + l]);
                }
            }
#pragma GCC unroll 16
            for (int l = 0; l < WIDTH; ++l) {
                const int row = W.slices.order[PANEL * s + part + l];
                if (row < 0) break;
                const float scale = W.scales ? W.scales[row] : 1.0f;
                for (int i = 0; i < WIDTH && i < n; ++i)
                    y[i * y_stride + row] = scale * sums[l][i] + (bias ? bias[row] : 0.0f);
            }
        }
    }
}

template <class Value>
void product_of(const Matrix &W, const float *const *x, int n, float *y, ptrdiff_t y_stride,
                const float *bias, float *scratch) {
    if (W.layout == Layout::dense)
        return product_by_panels<Value, true>(W, x, n, y, y_stride, bias);
    if (W.layout == Layout::blocks) {
        if (n == 1 && skips_zeros(W, x[0]))
            return product_by_columns<Value>(W, x[0], y, bias, scratch);
        return product_by_panels<Value, false>(W, x, n, y, y_stride, bias);
    }
    for (; n > 1; n -= WIDTH, x += WIDTH, y += WIDTH * y_stride)
        product_by_slices<Value>(W, x, n, y, y_stride, bias, scratch);
    if (n == 1) product_by_slices<Value>(W, x[0], y, bias);
}

void product(const Matrix &W, const float *const *x, int n, float *y, ptrdiff_t y_stride,
             const float *bias, float *scratch) {
    const bool quantized = W.scales != nullptr;
    (quantized ? product_of<int8_t> : product_of<float>)(W, x, n, y, y_stride, bias, scratch);
}

} // namespace growprune::KERNEL_PATH
