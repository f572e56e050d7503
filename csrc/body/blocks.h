// Products of matrices of 16x1 blocks.
#pragma once

namespace growprune::KERNEL_PATH {

// Panels of a bundle: enough sums that none waits for itself, but no more, so that a processor has
// the next bundle's weights in sight while it squashes these. A step on AVX2 took 6% longer with 4.
constexpr int BUNDLE = PARTS == 2 || SUMS < 4 ? 2 : 4;

// Panels of a bundle that are multiplied at once by BLOCKS_TILE vectors.
constexpr int PANELS_FOR_TILE = SUMS >= 6 * BUNDLE ? BUNDLE : 1;
constexpr int BLOCKS_TILE = SUMS / PANELS_FOR_TILE;

// What is left of the bundles. It is read on from bundle to bundle: where the next one begins is
// known before this one ends, and nothing waits for a look at `starts` when that was not foreseen.
template <class Value> struct Reader {
    const Value *weights;
    const uint16_t *columns;

    INLINE Reader(const Matrix &W, int place)
        : weights(values<Value>(W.bundles.values)), columns(W.bundles.columns) {
        skip(W.bundles.starts[place / BUNDLE]);
    }

    INLINE void skip(int64_t entries) {
        weights += PANEL * BUNDLE * entries;
        columns += BUNDLE * entries;
    }
};

// How many entries a bundle has.
INLINE int length(const Matrix &W, int place) {
    const int32_t *starts = W.bundles.starts + place / BUNDLE;
    return starts[1] - starts[0];
}

// The columns of some panels in an entry, found by one load: weights and inputs already take two
// for each block, as many as a processor starts in a cycle.
template <int PANELS>
INLINE void load_columns(const uint16_t *from, int64_t (&columns)[PANELS]) {
    constexpr bool LOWEST_FIRST = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
    uint64_t all = 0;
    static_assert(sizeof(*from) * PANELS <= sizeof(all), "one load must do");
    __builtin_memcpy(&all, from, sizeof(*from) * PANELS);
    UNROLL for (int p = 0; p < PANELS; ++p)
        columns[p] = static_cast<uint16_t>(all >> 16 * (LOWEST_FIRST ? p : 3 - p));
}

// Adds the products of some panels of the next bundle with N vectors.
template <int PANELS, int N, class Value>
INLINE void add_bundle(Reader<Value> reader, int first, int entries, const float *const *x,
                       Lanes (&sums)[PANELS][N]) {
    const float *rows[N];
    UNROLL for (int i = 0; i < N; ++i) rows[i] = x[i];
    for (; entries > 0; --entries, reader.skip(1)) {
        int64_t columns[PANELS];
        load_columns(reader.columns + first, columns);
        UNROLL for (int p = 0; p < PANELS; ++p) {
            const Lanes block = load_weights(reader.weights + PANEL * (first + p));
            UNROLL for (int i = 0; i < N; ++i) add_product(sums[p][i], block, rows[i][columns[p]]);
        }
    }
}

// Whether a bundle's panels all lie inside the matrix: only the last one's may not.
INLINE bool is_whole(const Matrix &W, int place) {
    return __builtin_expect(place < W.bundles.places - BUNDLE, 1);
}

// Some bundles times N vectors.
template <int N, class Value>
__attribute__((noinline)) void blocks_tile(const Matrix W, int place, int end,
                                           const float *const *x, Ending ending, float *y,
                                           ptrdiff_t y_stride) {
    constexpr int PANELS = PANELS_FOR_TILE;
    Reader<Value> reader(W, place);
    for (; place < end; place += BUNDLE) {
        const int entries = length(W, place);
        for (int first = 0; first < BUNDLE; first += PANELS) {
            const int32_t *panels = W.bundles.panels + place + first;
            Lanes sums[PANELS][N] = {};
            add_bundle<PANELS, N>(reader, first, entries, x, sums);
            if (is_whole(W, place)) {
                UNROLL for (int p = 0; p < PANELS; ++p)
                    finish_tile<Value>(W, sums[p], panels[p], ending, y, y_stride);
            } else {
                UNROLL for (int p = 0; p < PANELS; ++p)
                    UNROLL for (int i = 0; i < N; ++i) {
                        const Lanes in_memory = sums[p][i];
                        finish_last<Value>(W, &in_memory, panels[p], ending.from(i),
                                           y + i * y_stride);
                    }
            }
        }
        reader.skip(entries);
    }
}

// Some bundles times n vectors, at most N.
template <int N, class Value>
INLINE void blocks_rest(const Matrix &W, int place, int end, const float *const *x, int n,
                        Ending ending, float *y, ptrdiff_t y_stride) {
    if (n == N) return blocks_tile<N, Value>(W, place, end, x, ending, y, y_stride);
    if constexpr (N > 1) blocks_rest<N - 1, Value>(W, place, end, x, n, ending, y, y_stride);
}

// All panels times one vector. Neighbouring bundles are about as long, so the processor foresees
// where the loops end, and squashes one bundle's sums while it reads the next one's weights.
template <class Value>
__attribute__((noinline)) void blocks_vector(const Matrix W, const float *x, Ending ending,
                                             float *y) {
    Reader<Value> reader(W, 0);
    for (int place = 0; place < W.bundles.places; place += BUNDLE) {
        const int32_t *panels = W.bundles.panels + place;
        const int entries = length(W, place);
        Lanes sums[BUNDLE][1] = {}, of_panels[BUNDLE];
        add_bundle<BUNDLE, 1>(reader, 0, entries, &x, sums);
        reader.skip(entries);
        UNROLL for (int p = 0; p < BUNDLE; ++p) of_panels[p] = sums[p][0];
        if (is_whole(W, place)) {
            finish_vector<Value>(W, of_panels, panels, ending, y);
        } else {
            UNROLL for (int p = 0; p < BUNDLE; ++p) {
                const Lanes in_memory = of_panels[p];
                finish_last<Value>(W, &in_memory, panels[p], ending, y);
            }
        }
    }
}

// Active columns times one vector. Zeros cost nothing, but every sum is stored again and again.
template <class Value>
void blocks_columns(const Matrix &W, const float *x, Ending ending, float *y, float *scratch) {
    float *sums = scratch;
    int32_t *active = reinterpret_cast<int32_t *>(scratch + padded(W.rows));
    const int count = list_active(x, W.columns, active);
    const Value *weights = values<Value>(W.by_column.values);
    __builtin_memset(sums, 0, sizeof(float) * padded(W.rows));
    for (int a = 0; a < count; ++a) {
        const int c = active[a];
        for (int64_t e = W.by_column.starts[c]; e < W.by_column.starts[c + 1]; ++e) {
            float *panel = sums + PANEL * W.by_column.panels[e];
            Lanes sum = load_lanes(panel);
            add_product(sum, load_weights(weights + PANEL * e), x[c]);
            store(sum, panel);
        }
    }
    for (int p = 0; p < panels_of(W.rows); ++p) {
        const Lanes total = load_lanes(sums + PANEL * p);
        finish_last<Value>(W, &total, p, ending, y);
    }
}

// Where the bundles from a place on stop fitting into a part of the second-level cache.
INLINE int end_of_nearby(const Matrix &W, int place) {
    constexpr int ENTRIES = 512;
    const int32_t *starts = W.bundles.starts;
    int end = place + BUNDLE;
    while (end < W.bundles.places &&
           starts[end / BUNDLE + 1] - starts[place / BUNDLE] <= ENTRIES)
        end += BUNDLE;
    return end;
}

template <class Value>
void blocks_product(const Matrix &W, const float *const *x, int n, Ending ending, float *y,
                    ptrdiff_t y_stride, float *scratch) {
    // Measured: a block costs three to four times as much as in the bundles.
    if (n == 1 && is_mostly_zero(x[0], W.columns))
        return blocks_columns<Value>(W, x[0], ending, y, scratch);
    if (n == 1) return blocks_vector<Value>(W, x[0], ending, y);
    // The weights of some bundles are read from afar once for all vectors.
    for (int place = 0, end; place < W.bundles.places; place = end) {
        end = end_of_nearby(W, place);
        int i = 0;
        for (; i + BLOCKS_TILE <= n; i += BLOCKS_TILE)
            blocks_tile<BLOCKS_TILE, Value>(W, place, end, x + i, ending.from(i), y + i * y_stride,
                                            y_stride);
        blocks_rest<BLOCKS_TILE - 1, Value>(W, place, end, x + i, n - i, ending.from(i),
                                            y + i * y_stride, y_stride);
    }
}

} // namespace growprune::KERNEL_PATH
