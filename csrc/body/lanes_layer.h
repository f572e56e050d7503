// The kernels over lanes (lanes.h).
#pragma once

namespace growprune::KERNEL_PATH {

// Rows whose sums are in registers together, two vectors of lanes each where there are as many.
constexpr int TILE = REGISTERS == 32 ? 12 : 6;

INLINE Vec vector_at(const float *from) { return *reinterpret_cast<const LooseVec *>(from); }

INLINE void put_vector(Vec v, float *to) { *reinterpret_cast<LooseVec *>(to) = v; }

struct LaneProduct {
    const LaneMatrix &W;
    LaneArray x, y;
    const float *bias;
    bool accumulate;

    INLINE Vec first(int row, int lane) const {
        Vec sum = {};
        if (accumulate) sum = vector_at(y.unit(row) + lane);
        return bias ? sum + bias[row] : sum;
    }
};

template <int V> INLINE void dense_lanes(const LaneProduct &p, int row, int rows, int lane) {
    Vec sums[TILE][V];
    UNROLL for (int r = 0; r < TILE; ++r) UNROLL for (int v = 0; v < V; ++v)
        sums[r][v] = r < rows ? p.first(row + r, lane + v * WIDTH) : Vec{};
    const float *weights = p.W.tiles + static_cast<int64_t>(row) * p.W.columns;
    const float *x = p.x.data + lane;
    for (int k = 0; k < p.W.columns; ++k, weights += TILE, x += p.x.stride) {
        Vec in[V];
        UNROLL for (int v = 0; v < V; ++v) in[v] = vector_at(x + v * WIDTH);
        UNROLL for (int r = 0; r < TILE; ++r) UNROLL for (int v = 0; v < V; ++v)
            sums[r][v] += in[v] * weights[r];
    }
    UNROLL for (int r = 0; r < TILE; ++r)
        if (r < rows)
            UNROLL for (int v = 0; v < V; ++v)
                put_vector(sums[r][v], p.y.unit(row + r) + lane + v * WIDTH);
}

// The connections of a row in separate sums, which need not wait for each other.
template <int V> INLINE void sparse_lanes(const LaneProduct &p, int row, int lane) {
    constexpr int SPLIT = V >= 4 ? 1 : 4 / V;
    Vec sums[SPLIT][V] = {};
    UNROLL for (int v = 0; v < V; ++v) sums[0][v] = p.first(row, lane + v * WIDTH);
    const float *x = p.x.data + lane;
    const auto add = [&](Vec *sum, int e) {
        const float *unit = x + p.W.indices[e] * p.x.stride;
        UNROLL for (int v = 0; v < V; ++v) sum[v] += vector_at(unit + v * WIDTH) * p.W.values[e];
    };
    const int end = p.W.starts[row + 1];
    int e = p.W.starts[row];
    for (; e + SPLIT <= end; e += SPLIT)
        UNROLL for (int s = 0; s < SPLIT; ++s) add(sums[s], e + s);
    for (; e < end; ++e) add(sums[0], e);
    UNROLL for (int v = 0; v < V; ++v) {
        UNROLL for (int s = 1; s < SPLIT; ++s) sums[0][v] += sums[s][v];
        put_vector(sums[0][v], p.y.unit(row) + lane + v * WIDTH);
    }
}

template <int V> INLINE void product_lanes(const LaneProduct &p, int row, int rows, int lane) {
    if (p.W.tiles)
        dense_lanes<V>(p, row, rows, lane);
    else
        for (int r = 0; r < rows; ++r) sparse_lanes<V>(p, row + r, lane);
}

// A tile of rows after the other, so that its weights are read from the nearest cache but once.
void lane_product(const LaneMatrix &W, int begin, int end, LaneArray x, const float *bias,
                  bool accumulate, LaneArray y, int lanes) {
    const LaneProduct p = {W, x, y, bias, accumulate};
    for (int row = begin; row < end; row += TILE) {
        const int rows = end - row < TILE ? end - row : TILE;
        int lane = 0;
        if (!W.tiles)
            for (; lane + 4 * WIDTH <= lanes; lane += 4 * WIDTH)
                product_lanes<4>(p, row, rows, lane);
        for (; lane + 2 * WIDTH <= lanes; lane += 2 * WIDTH) product_lanes<2>(p, row, rows, lane);
        for (; lane < lanes; lane += WIDTH) product_lanes<1>(p, row, rows, lane);
    }
}

// All bits set in the lanes before `live`.
INLINE IntVec before(int live) {
    IntVec lane;
    for (int l = 0; l < WIDTH; ++l) lane[l] = l;
    return lane < live - IntVec{};
}

INLINE Vec chosen(IntVec which, Vec a, Vec b) {
    return reinterpret_cast<Vec>((reinterpret_cast<IntVec>(a) & which) |
                                 (reinterpret_cast<IntVec>(b) & ~which));
}

INLINE Vec sigmoid(Vec x) { return sigmoid(Pack<1>{{x}}).part[0]; }
INLINE Vec tanh(Vec x) { return tanh(Pack<1>{{x}}).part[0]; }

void lane_cell(const LaneCell &s, int begin, int end) {
    for (int u = begin; u < end; ++u) {
        for (int lane = s.lanes; lane < s.all_lanes; lane += WIDTH)
            put_vector(vector_at(s.h.unit(u) + lane), s.new_h.unit(u) + lane);
        for (int lane = 0; lane < s.lanes; lane += WIDTH) {
            const auto at = [u, lane](LaneArray a) { return a.unit(u) + lane; };
            const Vec h = vector_at(at(s.h)), c = vector_at(at(s.c));
            const Vec i = sigmoid(vector_at(at(s.sums[0]))), f = sigmoid(vector_at(at(s.sums[1])));
            const Vec g = tanh(vector_at(at(s.sums[2]))), o = sigmoid(vector_at(at(s.sums[3])));
            const Vec new_c = f * c + i * g, tanh_c = tanh(new_c);
            const IntVec alive = before(s.live - lane);
            put_vector(chosen(alive, new_c, c), at(s.c));
            put_vector(chosen(alive, o * tanh_c, h), at(s.new_h));
            if (!s.h_before) continue;
            put_vector(h, at(s.h_before));
            put_vector(c, at(s.c_before));
            put_vector(tanh_c, at(s.tanh_c));
            put_vector(i, at(s.gates[0]));
            put_vector(f, at(s.gates[1]));
            put_vector(g, at(s.gates[2]));
            put_vector(o, at(s.gates[3]));
        }
    }
}

void lane_cell_back(const LaneCellBack &s, int begin, int end) {
    for (int u = begin; u < end; ++u)
        for (int lane = 0; lane < s.lanes; lane += WIDTH) {
            const auto at = [u, lane](LaneArray a) { return a.unit(u) + lane; };
            const IntVec alive = before(s.live - lane);
            const auto put = [&](Vec v, int gate) {
                v = chosen(alive, v, Vec{});
                put_vector(v, at(s.delta[gate]));
                put_vector(v, at(s.near[gate]));
            };
            const Vec i = vector_at(at(s.gates[0])), f = vector_at(at(s.gates[1]));
            const Vec g = vector_at(at(s.gates[2])), o = vector_at(at(s.gates[3]));
            const Vec tanh_c = vector_at(at(s.tanh_c)), rest = vector_at(at(s.dc));
            const Vec dh = vector_at(at(s.dh)) + vector_at(at(s.output_gradient));
            const Vec dc = rest + dh * o * (1.0f - tanh_c * tanh_c);
            put(dc * g * i * (1.0f - i), 0);
            put(dc * vector_at(at(s.c_before)) * f * (1.0f - f), 1);
            put(dc * i * (1.0f - g * g), 2);
            put(dh * tanh_c * o * (1.0f - o), 3);
            put_vector(chosen(alive, dc * f, rest), at(s.dc));
        }
}

void lane_activate(LaneArray sums, float slope, LaneArray scales, LaneArray near, LaneArray tape,
                   int begin, int end, int lanes) {
    for (int u = begin; u < end; ++u)
        for (int lane = 0; lane < lanes; lane += WIDTH) {
            Vec a = leaky_relu(Pack<1>{{vector_at(sums.unit(u) + lane)}}, slope).part[0];
            if (scales) a *= vector_at(scales.unit(u) + lane);
            put_vector(a, near.unit(u) + lane);
            if (tape) put_vector(a, tape.unit(u) + lane);
        }
}

// Dropout leaves the sign of a value, or 0 where the gradient is 0 already.
void lane_activate_back(LaneArray gradient, float slope, LaneArray scales, LaneArray value,
                        LaneArray delta, int begin, int end, int lanes) {
    for (int u = begin; u < end; ++u)
        for (int lane = 0; lane < lanes; lane += WIDTH) {
            Vec d = vector_at(gradient.unit(u) + lane);
            if (scales) d *= vector_at(scales.unit(u) + lane);
            d = vector_at(value.unit(u) + lane) > 0.0f ? d : d * slope;
            put_vector(d, gradient.unit(u) + lane);
            put_vector(d, delta.unit(u) + lane);
        }
}

// The sum of a vector's elements, halves added to each other.
template <int COUNT> struct Sum {
    typedef float Elements __attribute__((vector_size(4 * COUNT)));
    typedef float Half __attribute__((vector_size(2 * COUNT)));

    static INLINE float of(Elements v) {
        Half halves[2];
        __builtin_memcpy(halves, &v, sizeof(v));
        return Sum<COUNT / 2>::of(halves[0] + halves[1]);
    }
};

template <> struct Sum<2> {
    typedef float Elements __attribute__((vector_size(8)));

    static INLINE float of(Elements v) { return v[0] + v[1]; }
};

INLINE float total(Vec v) { return Sum<WIDTH>::of(v); }

void lane_sums(LaneArray x, int begin, int end, int lanes, float *sums) {
    for (int u = begin; u < end; ++u) {
        Vec sum = {};
        for (int lane = 0; lane < lanes; lane += WIDTH) sum += vector_at(x.unit(u) + lane);
        sums[u] += total(sum);
    }
}

void lane_dots(const int32_t *starts, const int32_t *indices, int begin, int end, LaneArray delta,
               LaneArray x, int lanes, float *out) {
    constexpr int SPLIT = 4;
    for (int row = begin; row < end; ++row) {
        const float *d = delta.unit(row);
        for (int e = starts[row]; e < starts[row + 1]; ++e) {
            const float *value = x.unit(indices[e]);
            Vec sums[SPLIT] = {};
            int lane = 0;
            for (; lane + SPLIT * WIDTH <= lanes; lane += SPLIT * WIDTH)
                UNROLL for (int s = 0; s < SPLIT; ++s)
                    sums[s] += vector_at(d + lane + s * WIDTH) * vector_at(value + lane + s * WIDTH);
            for (; lane < lanes; lane += WIDTH)
                sums[0] += vector_at(d + lane) * vector_at(value + lane);
            UNROLL for (int s = 1; s < SPLIT; ++s) sums[0] += sums[s];
            out[e] += total(sums[0]);
        }
    }
}

} // namespace growprune::KERNEL_PATH
