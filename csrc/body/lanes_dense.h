// Dense products over lanes (DenseLanes). `Numbers` says what stands in a place.
#pragma once

namespace growprune::KERNEL_PATH {

// Rows whose sums are in registers together, two vectors each where there are as many.
constexpr int TILE = REGISTERS == 32 ? 12 : 6;
static_assert(GROUP % TILE == 0, "groups are made of whole tiles");

// Columns whose gradients are computed together.
constexpr int GRADIENT_PANEL = 2 * WIDTH;

// Lanes whose products are added up in registers, so few that the tile's and the panel's are in the
// nearest cache.
constexpr int GRADIENT_LANES = 240;

// Floats that weights are fetched ahead: those of large layers come from memory, and the processor's own
// fetching stops at the end of a page.
constexpr int TILES_AHEAD = 2048;

// The same for numbers that lie apart.
constexpr int NUMBERS_AHEAD = 16;

typedef float Four __attribute__((vector_size(16)));
typedef float LooseFour __attribute__((vector_size(16), aligned(4), may_alias));

INLINE Vec vector_at(const float *from) { return *reinterpret_cast<const LooseVec *>(from); }

INLINE void put_vector(Vec v, float *to) { *reinterpret_cast<LooseVec *>(to) = v; }

// The same for what is not read soon: where a vector is a cache line, it goes past the caches, which need
// not fetch the line first. `settle` lets other threads see it.
#if defined(__AVX512F__)
INLINE void stream_vector(Vec v, float *to) { _mm512_stream_ps(to, reinterpret_cast<__m512>(v)); }
INLINE void settle() { _mm_sfence(); }
#else
INLINE void stream_vector(Vec v, float *to) { put_vector(v, to); }
INLINE void settle() {}
#endif

// Floats as they are.
struct Exact {
    static constexpr int NUMBERS = 1;

    static INLINE void add(Vec &sum, Vec x, float weight) { sum += x * weight; }

    static INLINE Four four_places(const float *from) {
        return *reinterpret_cast<const LooseFour *>(from);
    }

    static INLINE Vec places(const float *from, int) { return vector_at(from); }

    static INLINE void lay(const float *from, ptrdiff_t, int, int rows, float *to) {
        __builtin_memcpy(to, from, sizeof(float) * rows);
    }
};

template <class Matrix> struct LaneProduct {
    const Matrix &W;
    LaneArray x, y;
    const float *bias;
    bool accumulate;

    INLINE Vec first(int row, int lane) const {
        Vec sum = {};
        if (accumulate) sum = vector_at(y.unit(row) + lane);
        return bias ? sum + bias[row] : sum;
    }
};

template <class Numbers, int V>
INLINE void dense_lanes(const LaneProduct<LaneMatrix> &p, int row, int rows, int lane) {
    Vec sums[TILE][V];
    UNROLL for (int r = 0; r < TILE; ++r) UNROLL for (int v = 0; v < V; ++v)
        sums[r][v] = r < rows ? p.first(row + r, lane + v * WIDTH) : Vec{};
    const float *weights = p.W.tiles + static_cast<int64_t>(row) * p.W.columns;
    const float *x = p.x.data + lane;
    for (int k = 0; k < p.W.columns; ++k, weights += TILE, x += p.x.stride) {
        __builtin_prefetch(weights + TILES_AHEAD);
        Vec in[V];
        UNROLL for (int v = 0; v < V; ++v) in[v] = vector_at(x + v * WIDTH);
        UNROLL for (int r = 0; r < TILE; ++r) UNROLL for (int v = 0; v < V; ++v)
            Numbers::add(sums[r][v], in[v], weights[r]);
    }
    UNROLL for (int r = 0; r < TILE; ++r)
        if (r < rows)
            UNROLL for (int v = 0; v < V; ++v)
                put_vector(sums[r][v], p.y.unit(row + r) + lane + v * WIDTH);
}

// A tile of rows after the other, so that its weights are read from the nearest cache but once.
template <class Numbers>
void dense_product(const LaneMatrix &W, int begin, int end, LaneArray x, const float *bias,
                   bool accumulate, LaneArray y, int lanes) {
    const LaneProduct<LaneMatrix> p = {W, x, y, bias, accumulate};
    for (int row = begin; row < end; row += TILE) {
        const int rows = end - row < TILE ? end - row : TILE;
        int lane = 0;
        for (; lane + 2 * WIDTH <= lanes; lane += 2 * WIDTH)
            dense_lanes<Numbers, 2>(p, row, rows, lane);
        for (; lane < lanes; lane += WIDTH) dense_lanes<Numbers, 1>(p, row, rows, lane);
    }
}

// Four places of four rows become four rows of a place each.
INLINE void turn_fours(Four (&v)[4]) {
    const Four a = {v[0][0], v[1][0], v[0][1], v[1][1]}, b = {v[0][2], v[1][2], v[0][3], v[1][3]};
    const Four c = {v[2][0], v[3][0], v[2][1], v[3][1]}, d = {v[2][2], v[3][2], v[2][3], v[3][3]};
    v[0] = Four{a[0], a[1], c[0], c[1]};
    v[1] = Four{a[2], a[3], c[2], c[3]};
    v[2] = Four{b[0], b[1], d[0], d[1]};
    v[3] = Four{b[2], b[3], d[2], d[3]};
}

// The first `live` numbers, as four places.
template <class Numbers> INLINE Four four_places(const float *from, int live) {
    constexpr int ALL = 4 * Numbers::NUMBERS;
    if (live >= ALL) return Numbers::four_places(from);
    float whole[ALL] = {};
    __builtin_memcpy(whole, from, sizeof(float) * live);
    return Numbers::four_places(whole);
}

template <class Numbers>
void turn(const float *from, ptrdiff_t stride, int rows, int count, int width, float *to) {
    constexpr int N = Numbers::NUMBERS;
    const int places = (count + N - 1) / N;
    for (int k = 0; k < places; k += 4)
        for (int row = 0; row < width; row += 4) {
            Four v[4] = {};
            for (int r = 0; r < 4 && row + r < rows; ++r) {
                const float *at = from + (row + r) * stride + k * N;
                __builtin_prefetch(at + width * stride, 0, 2); // what will be turned next
                v[r] = four_places<Numbers>(at, count - k * N);
            }
            turn_fours(v);
            for (int j = 0; j < 4 && k + j < places; ++j) {
                float *at = to + static_cast<int64_t>(k + j) * width + row;
                if (width - row >= 4) *reinterpret_cast<LooseFour *>(at) = v[j];
                else __builtin_memcpy(at, &v[j], sizeof(float) * (width - row));
            }
        }
}

template <class Numbers>
void lay(const float *from, ptrdiff_t stride, int rows, int count, int width, float *to) {
    constexpr int N = Numbers::NUMBERS;
    for (int number = 0; number < count; number += N, from += N * stride, to += width) {
        for (int n = 0; n < N; ++n) __builtin_prefetch(from + (NUMBERS_AHEAD + n) * stride);
        Numbers::lay(from, stride, count - number, rows, to);
    }
}

// Some lanes of a tile's rows, as places.
template <class Numbers> struct Strip {
    static constexpr int PLACES = GRADIENT_LANES / Numbers::NUMBERS;

    Strip(LaneArray rows, int count, int lanes) {
        for (int r = 0; r < TILE; ++r)
            for (int lane = 0; lane < lanes; lane += WIDTH * Numbers::NUMBERS)
                put_vector(r < count ? Numbers::places(rows.unit(r) + lane, lanes - lane) : Vec{},
                           places[r] + lane / Numbers::NUMBERS);
    }

    float places[TILE][PLACES + WIDTH];
};

template <class Numbers>
INLINE void gradient_tile(const Strip<Numbers> &strip, int rows, const float *panel, int columns,
                          int places, bool accumulate, float *to, ptrdiff_t stride) {
    for (int r = 0; r < rows && accumulate; ++r)
        for (int v = 0; v < 2; ++v) __builtin_prefetch(to + r * stride + v * WIDTH);
    Pack<2> sums[TILE] = {};
    for (int k = 0; k < places; ++k, panel += GRADIENT_PANEL)
        UNROLL for (int v = 0; v < 2; ++v) {
            const Vec in = vector_at(panel + v * WIDTH);
            UNROLL for (int r = 0; r < TILE; ++r)
                Numbers::add(sums[r].part[v], in, strip.places[r][k]);
        }
    UNROLL for (int r = 0; r < TILE; ++r)
        if (r < rows) {
            if (accumulate) sums[r] = sums[r] + load<2>(to + r * stride, columns);
            store(sums[r], to + r * stride, columns);
        }
}

template <class Numbers>
void dense_gradient(LaneArray delta, int rows, const float *panels, int columns, int lanes,
                    bool accumulate, float *gradient, ptrdiff_t stride) {
    constexpr int N = Numbers::NUMBERS;
    for (int lane = 0; lane < lanes; lane += GRADIENT_LANES) {
        const int some = lanes - lane < GRADIENT_LANES ? lanes - lane : GRADIENT_LANES;
        for (int row = 0; row < rows; row += TILE) {
            const int live = rows - row < TILE ? rows - row : TILE;
            const Strip<Numbers> strip(delta.from(row).at_lane(lane), live, some);
            for (int column = 0; column < columns; column += GRADIENT_PANEL) {
                const float *panel = panels + static_cast<int64_t>(column) * (lanes / N) +
                                     static_cast<int64_t>(lane / N) * GRADIENT_PANEL;
                const int left = columns - column;
                gradient_tile(strip, live, panel, left < GRADIENT_PANEL ? left : GRADIENT_PANEL,
                              some / N, accumulate || lane, gradient + row * stride + column,
                              stride);
            }
        }
    }
}

template <class Numbers>
constexpr DenseLanes DENSE_LANES = {
    Numbers::NUMBERS, GRADIENT_PANEL, dense_product<Numbers>, turn<Numbers>, lay<Numbers>,
    dense_gradient<Numbers>,
};

} // namespace growprune::KERNEL_PATH
