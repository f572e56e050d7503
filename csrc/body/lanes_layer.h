// The kernels over lanes (lanes.h).
#pragma once

namespace growprune::KERNEL_PATH {

// Vectors of lanes that a band's sums are in registers for.
constexpr int BAND_VECTORS = REGISTERS == 32 ? 4 : 2;

// Four columns of four rows.
INLINE void transpose_fours(const float *from, ptrdiff_t from_step, float *to, ptrdiff_t to_step) {
    Four v[4];
    for (int r = 0; r < 4; ++r) v[r] = *reinterpret_cast<const LooseFour *>(from + r * from_step);
    turn_fours(v);
    for (int c = 0; c < 4; ++c) *reinterpret_cast<LooseFour *>(to + c * to_step) = v[c];
}

#if defined(__AVX512F__)
// 16 columns of 16 rows. All lanes are wanted; forms without a mask make GCC 12 warn of its own header.
INLINE void turn_sixteens(Vec (&v)[16]) {
    const auto low = [](__m512 a, __m512 b) { return _mm512_maskz_unpacklo_ps(0xffff, a, b); };
    const auto high = [](__m512 a, __m512 b) { return _mm512_maskz_unpackhi_ps(0xffff, a, b); };
    const auto low_pairs = [](__m512 a, __m512 b) {
        return (__m512)_mm512_maskz_unpacklo_pd(0xff, (__m512d)a, (__m512d)b);
    };
    const auto high_pairs = [](__m512 a, __m512 b) {
        return (__m512)_mm512_maskz_unpackhi_pd(0xff, (__m512d)a, (__m512d)b);
    };
    const auto even = [](__m512 a, __m512 b) {
        return _mm512_maskz_shuffle_f32x4(0xffff, a, b, 0x88);
    };
    const auto odd = [](__m512 a, __m512 b) {
        return _mm512_maskz_shuffle_f32x4(0xffff, a, b, 0xdd);
    };
    __m512 fours[16]; // fours[4 * i + j]: of rows from 4 * i, columns j, 4 + j, 8 + j and 12 + j
    UNROLL for (int i = 0; i < 16; i += 4) {
        const __m512 a = low(v[i], v[i + 1]), b = high(v[i], v[i + 1]);
        const __m512 c = low(v[i + 2], v[i + 3]), d = high(v[i + 2], v[i + 3]);
        fours[i] = low_pairs(a, c);
        fours[i + 1] = high_pairs(a, c);
        fours[i + 2] = low_pairs(b, d);
        fours[i + 3] = high_pairs(b, d);
    }
    UNROLL for (int j = 0; j < 4; ++j) {
        const __m512 a = even(fours[j], fours[4 + j]), b = even(fours[8 + j], fours[12 + j]);
        const __m512 c = odd(fours[j], fours[4 + j]), d = odd(fours[8 + j], fours[12 + j]);
        v[j] = even(a, b);
        v[4 + j] = even(c, d);
        v[8 + j] = odd(a, b);
        v[12 + j] = odd(c, d);
    }
}

INLINE void transpose_sixteens(const float *from, ptrdiff_t from_step, float *to, ptrdiff_t to_step) {
    Vec v[16];
    UNROLL for (int r = 0; r < 16; ++r) v[r] = vector_at(from + r * from_step);
    turn_sixteens(v);
    UNROLL for (int c = 0; c < 16; ++c) put_vector(v[c], to + c * to_step);
}
#else
INLINE void transpose_sixteens(const float *from, ptrdiff_t from_step, float *to, ptrdiff_t to_step) {
    for (int r = 0; r < 16; r += 4)
        for (int c = 0; c < 16; c += 4)
            transpose_fours(from + r * from_step + c, from_step, to + c * to_step + r, to_step);
}
#endif

// In blocks of 16 by 16, of which every cache line is read and written at once.
void lane_transpose(const float *from, ptrdiff_t from_step, int rows, int columns, float *to,
                    ptrdiff_t to_step) {
    const int whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
    for (int row = 0; row < whole_rows; row += 16)
        for (int column = 0; column < whole_columns; column += 16) {
            if (row + 16 <= rows && column + 16 <= columns) {
                transpose_sixteens(from + row * from_step + column, from_step,
                                   to + column * to_step + row, to_step);
                continue;
            }
            for (int r = row; r < row + 16 && r < whole_rows; r += 4)
                for (int c = column; c < column + 16 && c < whole_columns; c += 4)
                    transpose_fours(from + r * from_step + c, from_step, to + c * to_step + r,
                                    to_step);
        }
    for (int r = 0; r < rows; ++r)
        for (int c = r < whole_rows ? whole_columns : 0; c < columns; ++c)
            to[c * to_step + r] = from[r * from_step + c];
}

// The rows' sums need not wait for each other, and neighbouring bands are about as long, so that the
// processor foresees where their loops end.
template <int V> INLINE void sparse_lanes(const LaneProduct<LaneMatrix> &p, int band, int lane) {
    const int32_t *rows = p.W.band_rows + BAND * band;
    Vec sums[BAND][V] = {};
    UNROLL for (int r = 0; r < BAND; ++r)
        if (rows[r] >= 0)
            UNROLL for (int v = 0; v < V; ++v) sums[r][v] = p.first(rows[r], lane + v * WIDTH);
    const float *x = p.x.data + lane;
    int64_t at = static_cast<int64_t>(BAND) * p.W.starts[band];
    const int64_t end = static_cast<int64_t>(BAND) * p.W.starts[band + 1];
    for (; at < end; at += BAND)
        UNROLL for (int r = 0; r < BAND; ++r) {
            const float *unit = x + p.W.indices[at + r] * p.x.stride;
            const float weight = p.W.values[at + r];
            UNROLL for (int v = 0; v < V; ++v) sums[r][v] += vector_at(unit + v * WIDTH) * weight;
        }
    UNROLL for (int r = 0; r < BAND; ++r)
        if (rows[r] >= 0)
            UNROLL for (int v = 0; v < V; ++v)
                put_vector(sums[r][v], p.y.unit(rows[r]) + lane + v * WIDTH);
}

template <int V> INLINE void sparse_bands(const LaneProduct<LaneMatrix> &p, int begin, int end, int lane) {
    for (int band = begin / BAND; band < (end + BAND - 1) / BAND; ++band)
        sparse_lanes<V>(p, band, lane);
}

// A group of rows after the other, so that its weights are read from the nearest cache but once.
void sparse_product(const LaneMatrix &W, int begin, int end, LaneArray x, const float *bias,
                    bool accumulate, LaneArray y, int lanes) {
    const LaneProduct<LaneMatrix> p = {W, x, y, bias, accumulate};
    for (int row = begin; row < end; row += GROUP) {
        const int last = end < row + GROUP ? end : row + GROUP;
        int lane = 0;
        for (; lane + BAND_VECTORS * WIDTH <= lanes; lane += BAND_VECTORS * WIDTH)
            sparse_bands<BAND_VECTORS>(p, row, last, lane);
        for (; lane + 2 * WIDTH <= lanes; lane += 2 * WIDTH) sparse_bands<2>(p, row, last, lane);
        for (; lane < lanes; lane += WIDTH) sparse_bands<1>(p, row, last, lane);
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
            stream_vector(h, at(s.h_before));
            stream_vector(c, at(s.c_before));
            stream_vector(i, at(s.gates[0]));
            stream_vector(f, at(s.gates[1]));
            stream_vector(g, at(s.gates[2]));
            stream_vector(o, at(s.gates[3]));
        }
    }
    settle(); // also what `lane_activate` has streamed: a step ends here
}

// What the step before left on the tape, for the next step backwards. The processor foresees by itself
// where a step's lanes are many.
INLINE void fetch_earlier(const float *at, int lanes) {
    if (lanes <= 2 * LANES) __builtin_prefetch(at - lanes);
}

void lane_cell_back(const LaneCellBack &s, int begin, int end) {
    for (int u = begin; u < end; ++u)
        for (int lane = 0; lane < s.lanes; lane += WIDTH) {
            const auto at = [u, lane](LaneArray a) { return a.unit(u) + lane; };
            UNROLL for (int k = 0; k < 4; ++k) fetch_earlier(at(s.gates[k]), s.lanes);
            fetch_earlier(at(s.c_before), s.lanes);
            const IntVec alive = before(s.live - lane);
            const auto put = [&](Vec v, int gate) {
                v = chosen(alive, v, Vec{});
                put_vector(v, at(s.delta[gate]));
                put_vector(v, at(s.near[gate]));
            };
            const Vec i = vector_at(at(s.gates[0])), f = vector_at(at(s.gates[1]));
            const Vec g = vector_at(at(s.gates[2])), o = vector_at(at(s.gates[3]));
            const Vec c = vector_at(at(s.c_before)), rest = vector_at(at(s.dc));
            const Vec tanh_c = tanh(f * c + i * g); // cheaper again than kept
            const Vec dh = vector_at(at(s.dh)) + vector_at(at(s.output_gradient));
            const Vec dc = rest + dh * o * (1.0f - tanh_c * tanh_c);
            put(dc * g * i * (1.0f - i), 0);
            put(dc * c * f * (1.0f - f), 1);
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
            if (tape) stream_vector(a, tape.unit(u) + lane);
        }
}

// Dropout leaves the sign of a value, or 0 where the gradient is 0 already.
void lane_activate_back(LaneArray gradient, float slope, LaneArray scales, LaneArray value,
                        LaneArray delta, int begin, int end, int lanes) {
    for (int u = begin; u < end; ++u)
        for (int lane = 0; lane < lanes; lane += WIDTH) {
            fetch_earlier(value.unit(u) + lane, lanes);
            Vec d = vector_at(gradient.unit(u) + lane);
            if (scales) d *= vector_at(scales.unit(u) + lane);
            d = vector_at(value.unit(u) + lane) > 0.0f ? d : d * slope;
            put_vector(d, gradient.unit(u) + lane);
            put_vector(d, delta.unit(u) + lane);
        }
}

typedef uint32_t UintVec __attribute__((vector_size(4 * WIDTH)));

void lane_dropout(LaneArray to, int units, int lanes, int64_t first_row, int row_step,
                  uint64_t seed, float keep) {
    UintVec number;
    for (int l = 0; l < WIDTH; ++l) number[l] = static_cast<uint32_t>(l) * row_step * units;
    const uint32_t low = static_cast<uint32_t>(seed), high = static_cast<uint32_t>(seed >> 32);
    const int32_t limit = static_cast<int32_t>(keep * 16777216.0f);
    const Vec kept = 1.0f / keep - Vec{};
    for (int u = 0; u < units; ++u)
        for (int lane = 0; lane < lanes; lane += WIDTH) {
            UintVec bits = number + static_cast<uint32_t>((first_row + lane * row_step) * units + u) + low;
            bits = (bits ^ (bits >> 16)) * 0x7feb352du ^ high;
            bits = (bits ^ (bits >> 15)) * 0x846ca68bu;
            bits ^= bits >> 16;
            const IntVec drawn = reinterpret_cast<IntVec>(bits >> 8);
            put_vector(chosen(drawn < limit - IntVec{}, kept, Vec{}), to.unit(u) + lane);
        }
}

// A vector's fours, added up.
INLINE Four fours(Vec v) {
    Four parts[WIDTH / 4];
    __builtin_memcpy(parts, &v, sizeof(v));
    UNROLL for (int n = WIDTH / 8; n > 0; n /= 2)
        UNROLL for (int i = 0; i < n; ++i) parts[i] += parts[i + n];
    return parts[0];
}

INLINE float total(Vec v) {
    const Four f = fours(v);
    return (f[0] + f[2]) + (f[1] + f[3]);
}

// The same of four vectors.
INLINE Four totals(const Vec (&v)[4]) {
    const Four a = fours(v[0]), b = fours(v[1]), c = fours(v[2]), d = fours(v[3]);
    const Four ab = Four{a[0], b[0], a[1], b[1]} + Four{a[2], b[2], a[3], b[3]};
    const Four cd = Four{c[0], d[0], c[1], d[1]} + Four{c[2], d[2], c[3], d[3]};
    return Four{ab[0], ab[1], cd[0], cd[1]} + Four{ab[2], ab[3], cd[2], cd[3]};
}

void lane_sums(LaneArray x, int begin, int end, int lanes, float *sums) {
    for (int u = begin; u < end; ++u) {
        Vec sum = {};
        for (int lane = 0; lane < lanes; lane += WIDTH) sum += vector_at(x.unit(u) + lane);
        sums[u] += total(sum);
    }
}

// Four connections of a row at once: they share the row's lanes and the adding up.
void lane_dots(const int32_t *starts, const int32_t *indices, int begin, int end, LaneArray delta,
               LaneArray x, int lanes, float *out) {
    for (int row = begin; row < end; ++row) {
        const float *d = delta.unit(row);
        const int last = starts[row + 1];
        for (int e = starts[row]; e < last; e += 4) {
            const float *units[4];
            UNROLL for (int j = 0; j < 4; ++j)
                units[j] = x.unit(indices[e + j < last ? e + j : last - 1]);
            Vec sums[4][2] = {};
            int lane = 0;
            for (; lane + 2 * WIDTH <= lanes; lane += 2 * WIDTH)
                UNROLL for (int h = 0; h < 2; ++h) {
                    const Vec row_lanes = vector_at(d + lane + h * WIDTH);
                    UNROLL for (int j = 0; j < 4; ++j)
                        sums[j][h] += row_lanes * vector_at(units[j] + lane + h * WIDTH);
                }
            for (; lane < lanes; lane += WIDTH)
                UNROLL for (int j = 0; j < 4; ++j)
                    sums[j][0] += vector_at(d + lane) * vector_at(units[j] + lane);
            const Vec both[4] = {sums[0][0] + sums[0][1], sums[1][0] + sums[1][1],
                                 sums[2][0] + sums[2][1], sums[3][0] + sums[3][1]};
            const Four found = totals(both);
            for (int j = 0; j < 4 && e + j < last; ++j) out[e + j] += found[j];
        }
    }
}

} // namespace growprune::KERNEL_PATH
