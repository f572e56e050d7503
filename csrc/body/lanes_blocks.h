// Products over lanes of weights in blocks (LaneBlocks): a vector of lanes that is loaded serves all rows of
// a block.
#pragma once

namespace growprune::KERNEL_PATH {

// Rows of a panel that are in registers together.
constexpr int TOGETHER = REGISTERS == 32 ? PANEL : PANEL / 2;

// Columns whose gradients are computed together, and lanes that have sums of their own: so many sums that
// none waits for another.
constexpr int BLOCK_COLUMNS = WIDTH == 16 ? 8 : REGISTERS / 2 * WIDTH / PANEL;
constexpr int BLOCK_LANES = WIDTH == 16 ? 2 : 1;

// TOGETHER of a panel, from `row`; those from `begin` to `end` are wanted, or all.
template <bool all>
INLINE void block_lanes(const LaneProduct<LaneBlocks> &p, int row, int begin, int end, int lane) {
    const auto wanted = [&](int r) { return all || (row + r >= begin && row + r < end); };
    Vec sums[TOGETHER] = {};
    UNROLL for (int r = 0; r < TOGETHER; ++r)
        if (wanted(r)) sums[r] = p.first(row + r, lane);
    const int32_t *starts = p.W.starts + row / PANEL, *last = p.W.columns + starts[1];
    const float *x = p.x.data + lane;
    const float *weights = p.W.values + int64_t{PANEL} * starts[0] + row % PANEL;
    for (const int32_t *column = p.W.columns + starts[0]; column < last; ++column) {
        const Vec in = vector_at(x + *column * p.x.stride);
        UNROLL for (int r = 0; r < TOGETHER; ++r) sums[r] += in * weights[r];
        weights += PANEL;
    }
    UNROLL for (int r = 0; r < TOGETHER; ++r)
        if (wanted(r)) put_vector(sums[r], p.y.unit(row + r) + lane);
}

void block_product(const LaneBlocks &W, int begin, int end, LaneArray x, const float *bias,
                   bool accumulate, LaneArray y, int lanes) {
    const LaneProduct<LaneBlocks> p = {W, x, y, bias, accumulate};
    for (int row = begin / TOGETHER * TOGETHER; row < end; row += TOGETHER) {
        const bool all = row >= begin && row + TOGETHER <= end;
        for (int lane = 0; lane < lanes; lane += WIDTH)
            all ? block_lanes<true>(p, row, begin, end, lane)
                : block_lanes<false>(p, row, begin, end, lane);
    }
}

// What TOGETHER, from `row`, add to the columns of blocks `first` to `last`.
INLINE void block_lanes_back(const LaneBlocks &W, int row, const int32_t *first, const int32_t *last,
                             LaneArray x, LaneArray y, int lane) {
    Vec rows[TOGETHER] = {};
    const int live = W.rows - row;
    UNROLL for (int r = 0; r < TOGETHER; ++r)
        if (live >= TOGETHER || r < live) rows[r] = vector_at(x.unit(row + r) + lane);
    const float *weights = W.values + (first - W.columns) * PANEL + row % PANEL;
    for (const int32_t *column = first; column < last; ++column, weights += PANEL) {
        float *to = y.unit(*column) + lane;
        Vec sums[2] = {vector_at(to)};
        UNROLL for (int r = 0; r < TOGETHER; ++r) sums[r % 2] += rows[r] * weights[r];
        put_vector(sums[0] + sums[1], to);
    }
}

// The first of rising columns that is not before `column`.
INLINE const int32_t *not_before(int column, const int32_t *first, const int32_t *last) {
    while (first < last) {
        const int32_t *middle = first + (last - first) / 2;
        if (*middle < column) first = middle + 1;
        else last = middle;
    }
    return first;
}

void block_product_back(const LaneBlocks &W, int begin, int end, LaneArray x, LaneArray y, int lanes) {
    for (int u = begin; u < end; ++u)
        for (int lane = 0; lane < lanes; lane += WIDTH) put_vector(Vec{}, y.unit(u) + lane);
    for (int row = 0; row < W.rows; row += TOGETHER) {
        const int32_t *starts = W.starts + row / PANEL, *stop = W.columns + starts[1];
        const int32_t *first = not_before(begin, W.columns + starts[0], stop);
        const int32_t *last = not_before(end, first, stop);
        for (int lane = 0; lane < lanes; lane += WIDTH)
            block_lanes_back(W, row, first, last, x, y, lane);
    }
}

// What a panel adds to the gradients of some columns from `first`: the sums over lanes of its rows, which
// `turned` has lane after lane, times theirs.
template <int COLUMNS>
INLINE void block_sums(const int32_t *columns, int count, int first, const float *turned, int rows,
                       LaneArray x, int lanes, float *out) {
    constexpr int N = PANEL / WIDTH;
    const float *units[COLUMNS];
    for (int j = 0; j < COLUMNS; ++j)
        units[j] = x.unit(columns[first + j < count ? first + j : count - 1]);
    Pack<N> sums[COLUMNS][BLOCK_LANES] = {};
    for (int lane = 0; lane < lanes; lane += BLOCK_LANES)
        UNROLL for (int l = 0; l < BLOCK_LANES; ++l) {
            const Pack<N> delta = load<N>(turned + (lane + l) * PANEL);
            UNROLL for (int j = 0; j < COLUMNS; ++j)
                add_product(sums[j][l], delta, units[j][lane + l]);
        }
    float by_column[COLUMNS][PANEL], by_row[PANEL][COLUMNS];
    UNROLL for (int j = 0; j < COLUMNS; ++j) {
        UNROLL for (int l = 1; l < BLOCK_LANES; ++l) sums[j][0] = sums[j][0] + sums[j][l];
        store(sums[j][0], by_column[j]);
    }
    lane_transpose(by_column[0], PANEL, COLUMNS, PANEL, by_row[0], COLUMNS);
    if (rows == PANEL && first + COLUMNS <= count) {
        for (int r = 0; r < PANEL; ++r)
            for (int j = 0; j < COLUMNS; ++j) out[r * count + first + j] += by_row[r][j];
        return;
    }
    for (int r = 0; r < rows; ++r)
        for (int j = 0; first + j < count && j < COLUMNS; ++j)
            out[r * count + first + j] += by_row[r][j];
}

void block_panel_dots(const int32_t *columns, int count, const float *turned, int rows, LaneArray x,
                      int lanes, float *out) {
    constexpr int HALF = (BLOCK_COLUMNS + 1) / 2;
    int first = 0;
    for (; first + HALF < count; first += BLOCK_COLUMNS)
        block_sums<BLOCK_COLUMNS>(columns, count, first, turned, rows, x, lanes, out);
    if (first < count) block_sums<HALF>(columns, count, first, turned, rows, x, lanes, out);
}

void block_dots(const LaneBlocks &W, int begin, int end, LaneArray delta, LaneArray x, int lanes,
                float *out) {
    for (int row = begin; row < end; row += PANEL) {
        const int rows = end - row < PANEL ? end - row : PANEL;
        const int32_t *starts = W.starts + row / PANEL;
        for (int lane = 0; lane < lanes && starts[0] < starts[1]; lane += GRADIENT_LANES) {
            const int some = lanes - lane < GRADIENT_LANES ? lanes - lane : GRADIENT_LANES;
            float turned[GRADIENT_LANES * PANEL];
            if (rows < PANEL) __builtin_memset(turned, 0, sizeof(turned));
            lane_transpose(delta.unit(row) + lane, delta.stride, rows, some, turned, PANEL);
            block_panel_dots(W.columns + starts[0], starts[1] - starts[0], turned, rows,
                             x.at_lane(lane), some, out + int64_t{PANEL} * starts[0]);
        }
    }
}

} // namespace growprune::KERNEL_PATH
