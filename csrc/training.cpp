#include "training.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace growprune {
namespace {

constexpr int GATES = 4;

// Lanes of a chunk, unless a step has more: enough for sums over them, few enough for the
// second-level cache to hold those of a layer, and no power of two, since units so far apart would
// drive each other from the nearest cache.
constexpr int CHUNK = 240;

// Lanes of an input product that are computed together, unless a step has more: enough to use each
// weight often, few enough for the second-level cache to keep the sums until their steps come.
constexpr int PIECE = 64;

std::vector<int> running_sums(const std::vector<int> &values) {
    std::vector<int> sums(values.size());
    std::exclusive_scan(values.begin(), values.end(), sums.begin(), 0);
    return sums;
}

// The places of units begin to end (in places of their own) where products do not read floats.
void lay_places(const DenseLanes &dense, const OperandArray &x, int begin, int end, int lanes) {
    if (dense.numbers == 1) return;
    dense.lay(x.exact.unit(begin), x.exact.stride, lanes, end - begin,
              static_cast<int>(x.places.stride), x.places.unit(begin / dense.numbers));
}

void copy_lanes(LaneArray from, LaneArray to, int begin, int end, int lanes) {
    for (int u = begin; u < end; ++u) std::copy_n(from.unit(u), lanes, to.unit(u));
}

// Rows of a step and its lanes, for some units; the lanes' array begins at the step, `rows` with the
// batch's.
void transpose_in(const LaneKernels &kernels, const Steps &steps, int t, const float *rows,
                  int units, std::pair<int, int> some, LaneArray to) {
    const auto [begin, end] = some;
    kernels.transpose(rows + steps.first_row[t] * units + begin, int64_t{steps.row_step} * units,
                      steps.live[t], end - begin, to.unit(begin), to.stride);
}

void transpose_out(const LaneKernels &kernels, const Steps &steps, int t, LaneArray from,
                   float *rows, int units, std::pair<int, int> some) {
    const auto [begin, end] = some;
    kernels.transpose(from.unit(begin), from.stride, end - begin, steps.live[t],
                      rows + steps.first_row[t] * units + begin, int64_t{steps.row_step} * units);
}

// The sum of what one or two groups have, for some units.
void add_groups(const std::vector<Lines> &groups, int64_t stride, LaneArray to,
                std::pair<int, int> units, int lanes) {
    const LaneArray one = groups.front().array(stride), other = groups.back().array(stride);
    if (groups.size() == 1) return copy_lanes(one, to, units.first, units.second, lanes);
    for (int u = units.first; u < units.second; ++u) {
        const float *a = one.unit(u), *b = other.unit(u);
        float *sum = to.unit(u);
#pragma GCC ivdep
        for (int lane = 0; lane < lanes; ++lane) sum[lane] = a[lane] + b[lane];
    }
}

// Calls work(group, within) for the groups of gates that a member has to do with: for that of its part
// of the team, or, where the team has no such parts, for one after the other with all members.
template <class Work>
void each_group(Barriers &groups, const Member &member, const Work &work) {
    const int count = static_cast<int>(groups.size());
    if (member.members % count == 0) return apart(member, groups, work);
    for (int group = 0; group < count; ++group) work(group, member);
}

size_t whole(int n, int piece) { return (n + piece - 1) / piece * piece; }

int bands_of(int rows) { return (rows + GROUP - 1) / GROUP * (GROUP / BAND); }

// The bands of some rows, appended.
void append_group(const Connections::Order &order, int first_row, int begin, int end, Bands &bands) {
    const auto count = [&](int row) {
        return order.starts[first_row + row + 1] - order.starts[first_row + row];
    };
    std::vector<int32_t> rows(end - begin);
    std::iota(rows.begin(), rows.end(), begin);
    std::stable_sort(rows.begin(), rows.end(), [&](int a, int b) { return count(a) > count(b); });
    rows.resize(GROUP, -1);
    for (int place = 0; place < GROUP; place += BAND) {
        const int entries = rows[place] < 0 ? 0 : count(rows[place]); // it has the most
        for (int e = 0; e < entries; ++e)
            for (int r = place; r < place + BAND; ++r) {
                const bool has = rows[r] >= 0 && e < count(rows[r]);
                bands.indices.push_back(has ? order.indices[order.starts[first_row + rows[r]] + e]
                                            : 0);
            }
        bands.starts.push_back(bands.starts.back() + entries);
    }
    bands.rows.insert(bands.rows.end(), rows.begin(), rows.end());
}

Bands arrange(const Connections::Order &order, const std::vector<int> &parts) {
    Bands bands;
    bands.starts.push_back(0);
    int first_row = 0;
    for (const int rows : parts) {
        bands.first.push_back(static_cast<int>(bands.starts.size()) - 1);
        for (int row = 0; row < rows; row += GROUP)
            append_group(order, first_row, row, std::min(rows, row + GROUP), bands);
        first_row += rows;
    }
    return bands;
}

// Rows of a sparse matrix that are fetched into the cache before they are needed: the processor does
// not foresee where their connections are.
constexpr int AHEAD = 2;

template <bool written> void fetch(const Connections &connections, const float *matrix, int row) {
    const Connections::Order &order = connections.by(false);
    const float *from = matrix + static_cast<int64_t>(row) * connections.columns();
    for (int e = order.starts[row]; e < order.starts[row + 1]; ++e)
        __builtin_prefetch(from + order.indices[e], written);
}

// A member's share of a vector.
void clear(const ConnectionGradient &one, const Member &member) {
    const auto [begin, end] = one.connections->share(member);
    const std::vector<int32_t> &starts = one.connections->by(false).starts;
    std::fill(one.vector + starts[begin], one.vector + starts[end], 0.0f);
}

// Gradients of which every part of a batch has its own, the first part those that are wanted.
class GradientsByPart {
  public:
    GradientsByPart(const Gradients &wanted, size_t parts) : all_(parts, wanted) {
        for (size_t p = 1; p < parts; ++p) {
            for (ConnectionGradient &one : all_[p].weights)
                one.vector = room(one.vector, one.connections->by(false).indices.size());
            for (DenseGradient &one : all_[p].dense_weights)
                one.gradient = room(one.gradient, size_t(one.delta.units) * one.value.units);
            for (BiasGradient &one : all_[p].biases)
                one.gradient = room(one.gradient, one.delta.units);
        }
    }

    const Gradients &of(size_t part) const { return all_[part]; }

    // A member's share of all, added to what is wanted.
    void add_up(const Member &member) const {
        for (const Addend &one : addends_) {
            const auto [begin, end] = member.share(static_cast<int>(one.n), LANES);
            const float *from = one.memory.data();
            for (int i = begin; i < end; ++i) one.to[i] += from[i];
        }
    }

  private:
    struct Addend {
        float *to;
        size_t n;
        Memory memory;
    };

    float *room(float *to, size_t n) {
        addends_.push_back({to, n, Memory(n)});
        return addends_.back().memory.data();
    }

    std::vector<Gradients> all_;
    std::vector<Addend> addends_;
};

// A member's share of a matrix, from the vector.
void place(const ConnectionGradient &one, const Member &member) {
    const int64_t columns = one.connections->columns();
    const auto [begin, end] = one.connections->share(member);
    std::fill(one.matrix + begin * columns, one.matrix + end * columns, 0.0f);
    scatter(*one.connections, one.vector, one.matrix, member);
}

} // namespace

Lines::Lines(size_t n) : memory_(n) { std::fill_n(data(), n, 0.0f); }

Connections::Connections(const uint8_t *mask, int rows, int columns)
    : rows_(rows), columns_(columns) {
    by_row_.starts.push_back(0);
    for (int r = 0; r < rows; ++r) {
        for (int c = 0; c < columns; ++c)
            if (mask[static_cast<int64_t>(r) * columns + c]) by_row_.indices.push_back(c);
        by_row_.starts.push_back(static_cast<int32_t>(by_row_.indices.size()));
    }
    order_by_column();
    find_blocks();
}

Connections::Connections(const Connections &all, int begin, int end)
    : rows_(end - begin), columns_(all.columns_) {
    const Order &of = all.by_row_;
    const int32_t first = of.starts[begin], last = of.starts[end];
    by_row_.indices.assign(of.indices.begin() + first, of.indices.begin() + last);
    for (int row = begin; row <= end; ++row) by_row_.starts.push_back(of.starts[row] - first);
    order_by_column();
    find_blocks();
}

void Connections::order_by_column() {
    by_column_.starts.assign(columns_ + 1, 0);
    for (const int column : by_row_.indices) ++by_column_.starts[column + 1];
    std::partial_sum(by_column_.starts.begin(), by_column_.starts.end(),
                     by_column_.starts.begin());
    std::vector<int32_t> next(by_column_.starts.begin(), by_column_.starts.end() - 1);
    by_column_.indices.resize(by_row_.indices.size());
    by_column_.places.resize(by_row_.indices.size());
    for (int r = 0; r < rows_; ++r)
        for (int e = by_row_.starts[r]; e < by_row_.starts[r + 1]; ++e) {
            const int at = next[by_row_.indices[e]]++;
            by_column_.indices[at] = r;
            by_column_.places[at] = e;
        }
}

const Connections &Connections::of_rows(int begin, int end) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<const Connections> &found = of_rows_[{begin, end}];
    if (!found) found.reset(new Connections(*this, begin, end));
    return *found;
}

bool Connections::same_as_above(int row) const {
    const auto of = [&](int r) { return by_row_.indices.begin() + by_row_.starts[r]; };
    return std::equal(of(row - 1), of(row), of(row), of(row + 1));
}

void Connections::find_blocks() {
    in_blocks_ = true;
    for (int row = 0; row < rows_ && in_blocks_; ++row)
        in_blocks_ = row % PANEL == 0 || same_as_above(row);
    if (!in_blocks_) return;
    blocks_.starts.push_back(0);
    for (int row = 0; row < rows_; row += PANEL) {
        blocks_.columns.insert(blocks_.columns.end(),
                               by_row_.indices.begin() + by_row_.starts[row],
                               by_row_.indices.begin() + by_row_.starts[row + 1]);
        blocks_.starts.push_back(static_cast<int32_t>(blocks_.columns.size()));
    }
}

const Bands &Connections::bands(bool of_columns, const std::vector<int> &parts) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto [found, is_new] = bands_.try_emplace({of_columns, parts});
    if (is_new) found->second = arrange(by(of_columns), parts);
    return found->second;
}

std::pair<int, int> Connections::share(const Member &member) const {
    const int64_t all = by_row_.indices.size();
    const auto until = [&](int m) {
        const auto &starts = by_row_.starts;
        if (m == member.members) return rows_;
        const auto found = std::lower_bound(starts.begin(), starts.end(), all * m / member.members);
        const int row = static_cast<int>(found - starts.begin());
        return in_blocks_ ? std::min<int>(rows_, whole(row, PANEL)) : row;
    };
    return {member.number ? until(member.number) : 0, until(member.number + 1)};
}

void gather(const Connections &connections, const float *matrix, float *vector,
            const Member &member) {
    const Connections::Order &order = connections.by(false);
    const auto [begin, end] = connections.share(member);
    for (int row = begin; row < end; ++row) {
        const float *from = matrix + static_cast<int64_t>(row) * connections.columns();
        if (row + AHEAD < end) fetch<false>(connections, matrix, row + AHEAD);
        for (int e = order.starts[row]; e < order.starts[row + 1]; ++e)
            vector[e] = from[order.indices[e]];
    }
}

void scatter(const Connections &connections, const float *vector, float *matrix,
             const Member &member) {
    const Connections::Order &order = connections.by(false);
    const auto [begin, end] = connections.share(member);
    for (int row = begin; row < end; ++row) {
        float *to = matrix + static_cast<int64_t>(row) * connections.columns();
        if (row + AHEAD < end) fetch<true>(connections, matrix, row + AHEAD);
        for (int e = order.starts[row]; e < order.starts[row + 1]; ++e)
            to[order.indices[e]] = vector[e];
    }
}

Weights Weights::of_rows(int begin, int end) const {
    if (begin == 0 && end == rows) return *this;
    return {data + count(0, begin), end - begin, columns,
            connections ? &connections->of_rows(begin, end) : nullptr};
}

int64_t Weights::count(int begin, int end) const {
    if (!connections) return int64_t{end - begin} * columns;
    const std::vector<int32_t> &starts = connections->by(false).starts;
    return starts[end] - starts[begin];
}

LaneWeights::LaneWeights(const Weights &weights, bool transposed, std::vector<int> parts,
                         const LaneKernels &kernels, const DenseLanes &dense)
    : kernels_(kernels), dense_(dense), weights_(weights), transposed_(transposed),
      first_rows_(running_sums(parts)), blocks_(usable_blocks(weights, transposed, first_rows_)) {
    const int columns = transposed ? weights.rows : weights.columns, tile = kernels.tile;
    const int places = weights.connections ? columns : dense.places(columns);
    size_t floats = 0;
    if (blocks_) {
        floats = PANEL * blocks_->columns.size();
    } else if (weights.connections) {
        bands_ = &weights.connections->bands(transposed, parts);
        floats = bands_->indices.size();
    } else {
        for (const int rows : parts)
            floats += static_cast<size_t>((rows + tile - 1) / tile * tile) * places;
    }
    memory_ = Memory(floats);
    if (weights.connections) std::fill_n(memory_.data(), floats, 0.0f); // where a row has no more
    const float *tiles = memory_.data();
    for (size_t i = 0; i < parts.size(); ++i) {
        LaneMatrix matrix = {parts[i], places, nullptr, nullptr, nullptr, nullptr, nullptr};
        if (blocks_) {
            const int rows = transposed ? weights.rows : parts[i];
            block_parts_.push_back({rows, blocks_->starts.data() + first_rows_[i] / PANEL,
                                    blocks_->columns.data(), memory_.data()});
        } else if (bands_) {
            matrix.starts = bands_->starts.data() + bands_->first[i];
            matrix.band_rows = bands_->rows.data() + BAND * bands_->first[i];
            matrix.indices = bands_->indices.data();
            matrix.values = memory_.data();
        } else {
            matrix.tiles = tiles;
            tiles += static_cast<size_t>((parts[i] + tile - 1) / tile * tile) * places;
        }
        parts_.push_back(matrix);
    }
}

// Those of the connections where every part begins with a panel.
const Connections::Blocks *LaneWeights::usable_blocks(const Weights &weights, bool transposed,
                                                      const std::vector<int> &first_rows) {
    if (!weights.connections) return nullptr;
    const auto begins_panel = [](int row) { return row % PANEL == 0; };
    const bool fit = transposed || std::all_of(first_rows.begin(), first_rows.end(), begins_panel);
    return fit ? weights.connections->blocks() : nullptr;
}

void LaneWeights::fill(const Member &member) {
    blocks_ ? fill_blocks(member) : bands_ ? fill_bands(member) : fill_tiles(member);
}

void LaneWeights::product(int part, std::pair<int, int> rows, const OperandArray &x,
                          const float *bias, bool accumulate, LaneArray y, int lanes) const {
    const auto [begin, end] = rows;
    if (blocks_ && transposed_)
        kernels_.block_product_back(block_parts_[part], begin, end, x.exact, y, lanes);
    else if (blocks_)
        kernels_.block_product(block_parts_[part], begin, end, x.exact, bias, accumulate, y, lanes);
    else if (bands_ || dense_.numbers == 1)
        (bands_ ? kernels_.product : dense_.product)(parts_[part], begin, end, x.exact, bias,
                                                     accumulate, y, lanes);
    else dense_.product(parts_[part], begin, end, x.places, bias, accumulate, y, lanes);
}

void LaneWeights::fill_tiles(const Member &member) {
    const int tile = kernels_.tile, columns = transposed_ ? weights_.rows : weights_.columns;
    for (size_t i = 0; i < parts_.size(); ++i) {
        const LaneMatrix &part = parts_[i];
        const auto [begin, end] = member.share(part.rows, GROUP);
        for (int row = begin; row < end; row += tile) {
            float *to = const_cast<float *>(part.tiles) + static_cast<int64_t>(row) * part.columns;
            const int64_t first = first_rows_[i] + row;
            (transposed_ ? dense_.lay : dense_.turn)(
                weights_.data + first * (transposed_ ? 1 : weights_.columns), weights_.columns,
                std::min(tile, end - row), columns, tile, to);
        }
    }
}

void LaneWeights::fill_bands(const Member &member) {
    const auto &order = weights_.connections->by(transposed_);
    for (size_t i = 0; i < parts_.size(); ++i) {
        const LaneMatrix &part = parts_[i];
        const auto [begin, end] = member.share(bands_of(part.rows), GROUP / BAND);
        for (int place = BAND * begin; place < BAND * end; ++place) {
            if (part.band_rows[place] < 0) continue;
            const int row = first_rows_[i] + part.band_rows[place];
            float *to = memory_.data() + static_cast<int64_t>(BAND) * part.starts[place / BAND] +
                        place % BAND;
            for (int e = order.starts[row]; e < order.starts[row + 1]; ++e, to += BAND)
                *to = weights_.data[transposed_ ? order.places[e] : e];
        }
    }
}

void LaneWeights::fill_blocks(const Member &member) {
    const auto [begin, end] = member.share(weights_.rows, PANEL);
    for (int row = begin; row < end; row += PANEL) {
        const int64_t first = blocks_->starts[row / PANEL];
        const int count = static_cast<int>(blocks_->starts[row / PANEL + 1] - first);
        kernels_.transpose(weights_.data + first * PANEL, count, std::min(PANEL, end - row),
                           count, memory_.data() + first * PANEL, PANEL);
    }
}

Steps::Steps(const int64_t *batch_sizes, int count, bool reverse, int part, int parts)
    : reverse(reverse), row_step(parts) {
    int64_t row = part, lane = 0;
    for (int t = 0; t < count && part < batch_sizes[t]; ++t) {
        live.push_back(static_cast<int>((batch_sizes[t] - part + parts - 1) / parts));
        lanes.push_back(static_cast<int>(whole_lanes(live[t])));
        first_row.push_back(row);
        first_lane.push_back(lane);
        const bool new_chunk = chunks.empty() || chunks.back().lanes + lanes[t] > CHUNK;
        if (new_chunk) chunks.push_back({lane, 0});
        if (new_chunk || pieces.back().lanes + lanes[t] > PIECE) pieces.push_back({t, t, 0});
        chunk_of_step.push_back(static_cast<int>(chunks.size()) - 1);
        piece_of_step.push_back(static_cast<int>(pieces.size()) - 1);
        chunks.back().lanes += lanes[t];
        pieces.back().lanes += lanes[t];
        pieces.back().end_step = t + 1;
        row += batch_sizes[t];
        lane += lanes[t];
    }
    all_lanes = lane;
}

void Steps::follow(int64_t lanes, int64_t chunk_lanes) {
    for (int64_t &lane : first_lane) lane += lanes;
    for (Chunk &chunk : chunks) chunk.first_lane += lanes;
    first_chunk_lane = chunk_lanes;
}

int64_t Steps::own_lanes() const {
    return std::accumulate(lanes.begin(), lanes.end(), int64_t{0});
}

int Steps::most_chunk_lanes() const {
    int most = 0;
    for (const Chunk &chunk : chunks) most = std::max(most, chunk.lanes);
    return most;
}

int Steps::most_piece_lanes() const {
    int most = 0;
    for (const Piece &piece : pieces) most = std::max(most, piece.lanes);
    return most;
}

Batch::Batch(const int64_t *batch_sizes, int count, bool reverse, int most_parts) {
    int64_t even = 0;
    for (int t = 0; t < count; ++t) even += whole_lanes(batch_sizes[t]);
    for (int parts = most_parts; parts_.empty(); --parts) {
        if (most_parts % parts) continue;
        for (int part = 0; part < parts; ++part)
            parts_.emplace_back(batch_sizes, count, reverse, part, parts);
        const int64_t longest = parts_[0].own_lanes();
        if (parts > 1 && 5 * parts * longest > 6 * even) parts_.clear();
    }
    int64_t lanes = 0, chunk_lanes = 0;
    for (Steps &steps : parts_) {
        steps.follow(lanes, chunk_lanes);
        lanes += steps.own_lanes();
        chunk_lanes += steps.most_chunk_lanes();
    }
    for (Steps &steps : parts_) steps.all_lanes = lanes;
}

int64_t Batch::chunk_lanes() const {
    return parts_.back().first_chunk_lane + parts_.back().most_chunk_lanes();
}

void rows_to_lanes(const LaneKernels &kernels, const Steps &steps, int t, const float *rows,
                   Record to, std::pair<int, int> some) {
    const LaneArray step = steps.of(to, t);
    transpose_in(kernels, steps, t, rows, to.units, some, step);
    for (int u = some.first; u < some.second; ++u)
        std::fill(step.unit(u) + steps.live[t], step.unit(u) + steps.lanes[t], 0.0f);
}

void draw_dropout(const Kernels &kernels, const Steps &steps, uint64_t seed, float keep, Record to,
                  const Member &member) {
    const auto [begin, end] = member.share(steps.count());
    for (int t = begin; t < end; ++t)
        kernels.lanes.dropout(steps.of(to, t), to.units, steps.lanes[t], steps.first_row[t],
                              steps.row_step, seed, keep);
}

TrainingLayer::TrainingLayer(const Kernels &kernels, const DenseLanes &dense, const Weights &ih,
                             const Weights &hh, const std::vector<std::vector<Weights>> &later,
                             float slope)
    : kernels_(kernels), dense_(dense), ih_(ih), hh_(hh), later_(later), slope_(slope) {}

// Of a gate's hidden layer, or of the gate itself behind the last of them.
int TrainingLayer::width(int gate, int stage) const {
    return stage < depth(gate) ? later_[gate][stage].columns : hidden();
}

int TrainingLayer::deepest() const {
    int most = 0;
    for (int k = 0; k < GATES; ++k) most = std::max(most, depth(k));
    return most;
}

std::vector<int> TrainingLayer::first_widths() const {
    std::vector<int> widths;
    for (int k = 0; k < GATES; ++k) widths.push_back(width(k, 0));
    return widths;
}

// Weights and connections of a gate.
int64_t TrainingLayer::work(int gate) const {
    const int first = running_sums(first_widths())[gate], end = first + width(gate, 0);
    int64_t sum = ih_.count(first, end) + hh_.count(first, end);
    for (const Weights &weights : later_[gate]) sum += weights.count(0, weights.rows);
    return sum;
}

// Into how many groups of gates a pass is parted, each for a part of the team, which waits for the others
// less often and finds in caches nearby what it has computed itself. Sums over gates are made group by
// group, whoever makes them, so that they do not depend on the team. 1 where nothing is gained: without
// hidden layers, or where the groups' work differs much.
int TrainingLayer::groups() const {
    constexpr int groups = 2;
    int64_t all = 0, most = 0;
    for (int first = 0; first < GATES; first += GATES / groups) {
        int64_t own = 0;
        for (int k = first; k < first + GATES / groups; ++k) {
            if (depth(k) == 0) return 1;
            own += work(k);
        }
        all += own;
        most = std::max(most, own);
    }
    return 5 * groups * most <= 6 * all ? groups : 1;
}

// A layer's matrices as a pass multiplies with them: forwards the gates' first stages one by one,
// backwards transposed, those of a group as one.
struct TrainingLayer::Matrices {
    Matrices(const TrainingLayer &layer, bool transposed) : groups(layer.groups()), teams(groups) {
        const std::vector<int> widths = layer.first_widths();
        int row = 0;
        for (int g = 0; g < groups; ++g) {
            const std::vector<int> parts(widths.begin() + gate(g), widths.begin() + gate(g + 1));
            const int end = std::accumulate(parts.begin(), parts.end(), row);
            first_rows.push_back(row);
            ih.push_back(of(layer, layer.ih_.of_rows(row, end), transposed, parts));
            hh.push_back(of(layer, layer.hh_.of_rows(row, end), transposed, parts));
            row = end;
        }
        first_rows.push_back(row);
        for (const auto &gate : layer.later_) {
            later.emplace_back();
            for (const Weights &weights : gate)
                later.back().push_back(of(layer, weights, transposed, {weights.rows}));
        }
    }

    static LaneWeights of(const TrainingLayer &layer, const Weights &weights, bool transposed,
                          const std::vector<int> &parts) {
        return {weights, transposed, transposed ? std::vector<int>{weights.columns} : parts,
                layer.kernels_.lanes, layer.dense_};
    }

    int gate(int group) const { return GATES / groups * group; } // the group's first
    int units(int group) const { return first_rows[group + 1] - first_rows[group]; }

    void fill(bool with_inputs, const Member &member) {
        each_group(teams, member, [&](int g, const Member &within) {
            if (with_inputs) ih[g].fill(within);
            hh[g].fill(within);
            for (int k = gate(g); k < gate(g + 1); ++k)
                for (LaneWeights &weights : later[k]) weights.fill(within);
        });
    }

    int groups;
    Barriers teams;
    std::vector<int> first_rows; // of each group among all first stages
    std::vector<LaneWeights> ih, hh;
    std::vector<std::vector<LaneWeights>> later;
};

// A forward pass through a part of the batch, which the members of a team make together: each computes
// some units of every layer, or all of its gates, and all wait where one needs what another has computed.
struct TrainingLayer::Forward {
    Forward(const TrainingLayer &layer, const Matrices &matrices, const Steps &steps,
            const Tape &tape)
        : layer(layer), kernels(layer.kernels_.lanes), dense(layer.dense_), steps(steps),
          tape(tape), matrices(matrices), teams(matrices.groups),
          first_rows(running_sums(layer.first_widths())), all(steps.lanes[0]),
          x_places(dense.numbers > 1 ? dense.places(tape.x.units) * tape.x.lanes : 0),
          first(static_cast<size_t>(layer.first_units()) * steps.most_piece_lanes()),
          h{{dense, layer.hidden(), all}, {dense, layer.hidden(), all}},
          c(layer.hidden() * static_cast<size_t>(all)) {
        for (int k = 0; k < GATES; ++k) {
            near.emplace_back();
            for (const Weights &weights : layer.later_[k])
                near[k].emplace_back(dense, weights.columns, all);
            sums.emplace_back(layer.depth(k) ? layer.hidden() * static_cast<size_t>(all) : 0);
        }
    }

    // The rows of a gate's stage that a member computes.
    std::pair<int, int> rows(int k, int stage, const Member &member) const {
        return member.share(layer.width(k, stage), GROUP);
    }

    LaneArray first_of(int k, int t) const { return steps.in_piece(first, t).from(first_rows[k]); }
    OperandArray near_of(int k, int stage) const { return near[k][stage].array(all); }
    OperandArray before(int i) const { return h[i % 2].array(all); }
    OperandArray after(int i) const { return h[(i + 1) % 2].array(all); }
    OperandArray x_of(int t) const {
        return {steps.of(tape.x, t),
                steps.of(Record{x_places.data(), dense.places(tape.x.units), tape.x.lanes}, t)};
    }

    // From rows to lanes, just before the piece is multiplied; a member's share of the units.
    void lay_inputs(const Piece &piece, const float *x, const Member &member) {
        const auto [begin, end] = member.share(tape.x.units, LANES);
        for (int t = piece.first_step; t < piece.end_step; ++t) {
            rows_to_lanes(kernels, steps, t, x, tape.x, {begin, end});
            lay_places(dense, x_of(t), begin, end, steps.lanes[t]);
        }
    }

    // What the inputs of a piece add to the first stages of a group. A member computes the sums that
    // it goes on with itself, so that nobody waits.
    void add_inputs(int group, const Piece &piece, const float *bias, const Member &within) {
        const int t = piece.first_step, gate = matrices.gate(group);
        for (int k = gate; k < matrices.gate(group + 1); ++k)
            matrices.ih[group].product(k - gate, rows(k, 0, within), x_of(t),
                                       bias ? bias + first_rows[k] : nullptr, false, first_of(k, t),
                                       piece.lanes);
    }

    void activate(int k, int s, int t, LaneArray from, const Member &member) {
        const auto [r0, r1] = rows(k, s, member);
        const LaneArray kept = tape.h_before ? steps.of(tape.hidden[k][s], t) : LaneArray{};
        kernels.activate(from, layer.slope_, steps.of(tape.scales[k][s], t), near_of(k, s).exact,
                         kept, r0, r1, steps.lanes[t]);
        lay_places(dense, near_of(k, s), r0, r1, steps.lanes[t]);
    }

    void hidden_layers(int group, int i, const Biases &biases, const Member &within) {
        const int t = steps.at(i), n = steps.lanes[t];
        const int gate = matrices.gate(group), end = matrices.gate(group + 1);
        for (int k = gate; k < end; ++k) {
            matrices.hh[group].product(k - gate, rows(k, 0, within), before(i), nullptr, true,
                                       first_of(k, t), n);
            if (layer.depth(k)) activate(k, 0, t, first_of(k, t), within);
        }
        for (int s = 1; s <= layer.deepest(); ++s) {
            within.wait();
            for (int k = gate; k < end; ++k) {
                if (s > layer.depth(k)) continue;
                const bool last = s == layer.depth(k);
                const LaneArray to = last ? sums[k].array(all) : near_of(k, s).exact;
                matrices.later[k][s - 1].product(0, rows(k, s, within), near_of(k, s - 1),
                                                 biases[k][s - 1], false, to, n);
                if (!last) activate(k, s, t, to, within);
            }
        }
    }

    void cell(int i, const Member &member) {
        const int t = steps.at(i);
        LaneCell cell = {};
        for (int k = 0; k < GATES; ++k) {
            cell.sums[k] = layer.depth(k) ? sums[k].array(all) : first_of(k, t);
            if (tape.h_before) cell.gates[k] = steps.of(tape.gates[k], t);
        }
        cell.h_before = steps.of(tape.h_before, t);
        cell.c_before = steps.of(tape.c_before, t);
        cell.h = before(i).exact;
        cell.c = c.array(all);
        cell.new_h = after(i).exact;
        cell.lanes = steps.lanes[t];
        cell.live = steps.live[t];
        cell.all_lanes = all;
        const auto [u0, u1] = member.share(layer.hidden(), GROUP);
        kernels.cell(cell, u0, u1);
        lay_places(dense, after(i), u0, u1, all);
    }

    void run(const float *x, const float *h0, const float *c0, const float *bias,
             const Biases &later_biases, float *outputs, float *last_h, float *last_c,
             const Member &member) {
        const int H = layer.hidden();
        const std::pair<int, int> own = member.share(H, GROUP);
        if (steps.count()) lay_inputs(steps.piece_of(steps.at(0)), x, member);
        transpose_in(kernels, steps, 0, h0, H, own, before(0).exact);
        lay_places(dense, before(0), own.first, own.second, all);
        transpose_in(kernels, steps, 0, c0, H, own, c.array(all));
        member.wait();
        for (int i = 0; i < steps.count(); ++i) {
            const int t = steps.at(i);
            const bool begins = steps.begins(steps.piece_of_step, i);
            each_group(teams, member, [&](int group, const Member &within) {
                if (begins) add_inputs(group, steps.piece_of(t), bias, within);
                hidden_layers(group, i, later_biases, within);
            });
            // All wait once a step at least, so that the next piece lies there in time.
            if (const Piece *next = steps.piece_after(t); begins && next)
                lay_inputs(*next, x, member);
            if (matrices.groups > 1) member.wait();
            cell(i, member);
            transpose_out(kernels, steps, t, after(i).exact, outputs, H, own);
            member.wait();
        }
        transpose_out(kernels, steps, 0, before(steps.count()).exact, last_h, H, own);
        transpose_out(kernels, steps, 0, c.array(all), last_c, H, own);
    }

    const TrainingLayer &layer;
    const LaneKernels &kernels;
    const DenseLanes &dense;
    const Steps &steps;
    const Tape tape;
    const Matrices &matrices;
    Barriers teams; // of the groups
    std::vector<int> first_rows;
    int all; // lanes of what lies close together: of the first step
    Memory x_places;
    Lines first; // sums of the first stage, of a piece
    Operand h[2];
    Lines c;
    std::vector<std::vector<Operand>> near; // hidden layers of the step
    std::vector<Lines> sums;                // of gates with hidden layers
};

ReadyPass TrainingLayer::forward(const Batch &batch, const float *x, const float *h,
                                 const float *c, const float *bias, const Biases &later_biases,
                                 const Tape &tape, float *outputs, float *last_h,
                                 float *last_c) const {
    const auto matrices = std::make_shared<Matrices>(*this, false);
    const auto passes = std::make_shared<std::vector<Forward>>();
    passes->reserve(batch.parts().size());
    for (const Steps &steps : batch.parts()) passes->emplace_back(*this, *matrices, steps, tape);
    const auto barriers = std::make_shared<Barriers>(passes->size());
    return [=](const Member &member) {
        matrices->fill(true, member);
        member.wait();
        apart(member, *barriers, [&](int part, const Member &within) {
            (*passes)[part].run(x, h, c, bias, later_biases, outputs, last_h, last_c, within);
        });
    };
}

// A backward pass, made by a team likewise.
struct TrainingLayer::Backward {
    Backward(const TrainingLayer &layer, const Matrices &matrices, const Steps &steps,
             const Tape &tape, const Deltas &deltas, const Gradients &gradients)
        : layer(layer), kernels(layer.kernels_.lanes), dense(layer.dense_), steps(steps),
          tape(tape), deltas(deltas), gradients(gradients), matrices(matrices),
          teams(matrices.groups), first_rows(running_sums(layer.first_widths())), stride(steps.lanes[0]),
          first(static_cast<size_t>(layer.first_units()) * stride) {
        const size_t state = layer.hidden() * static_cast<size_t>(stride);
        const size_t piece = steps.most_piece_lanes();
        for (Lines *lines : {&doutput, &dh, &dc}) *lines = Lines(state);
        for (int group = 0; group < matrices.groups; ++group) {
            dstates.emplace_back(state);
            dinputs.emplace_back(layer.input() * piece);
            const int units = matrices.units(group);
            first_places.emplace_back(dense.numbers > 1 ? dense.places(units) * piece : 0);
        }
        for (int k = 0; k < GATES; ++k) {
            near.emplace_back();
            for (const Weights &weights : layer.later_[k])
                near[k].emplace_back(dense, weights.rows, stride);
        }
        for (const DenseGradient &one : gradients.dense_weights)
            panels.emplace_back(steps.most_chunk_lanes() / one.dense->numbers *
                                whole(one.value.units, one.dense->panel));
    }

    // Gradients of the sums that a gate's stage gives, 0 being its first: of the step, and for
    // the gradients of the weights.
    LaneArray near_of(int k, int stage) const {
        return stage ? near[k][stage - 1].exact.array(stride)
                     : first.array(stride).from(first_rows[k]);
    }
    // Of a stage after the first.
    void lay_near(int k, int stage, int begin, int end, int lanes) const {
        lay_places(dense, near[k][stage - 1].array(stride), begin, end, lanes);
    }
    LaneArray delta_of(int k, int stage, int t) const {
        if (stage == 0) return steps.of(deltas.first, t).from(first_rows[k]);
        return steps.of(stage == layer.depth(k) ? deltas.gates[k] : deltas.stages[k][stage - 1], t);
    }

    void cell(int t, const Member &member) {
        LaneCellBack cell = {};
        for (int k = 0; k < GATES; ++k) {
            cell.gates[k] = steps.of(tape.gates[k], t);
            cell.delta[k] = delta_of(k, layer.depth(k), t);
            cell.near[k] = near_of(k, layer.depth(k));
        }
        cell.c_before = steps.of(tape.c_before, t);
        cell.output_gradient = doutput.array(stride);
        cell.dh = dh.array(stride);
        cell.dc = dc.array(stride);
        cell.lanes = steps.lanes[t];
        cell.live = steps.live[t];
        const auto [u0, u1] = member.share(layer.hidden(), GROUP);
        kernels.cell_back(cell, u0, u1);
        for (int k = 0; k < GATES; ++k)
            if (layer.depth(k)) lay_near(k, layer.depth(k), u0, u1, steps.lanes[t]);
        member.wait();
    }

    void hidden_layers(int group, int t, const Member &within) {
        for (int s = layer.deepest(); s > 0; --s) {
            for (int k = matrices.gate(group); k < matrices.gate(group + 1); ++k) {
                if (s > layer.depth(k)) continue;
                const auto [r0, r1] = within.share(layer.width(k, s - 1), GROUP);
                const LaneArray to = near_of(k, s - 1);
                matrices.later[k][s - 1].product(0, {r0, r1}, near[k][s - 1].array(stride), nullptr,
                                                 false, to, steps.lanes[t]);
                kernels.activate_back(to, layer.slope_, steps.of(tape.scales[k][s - 1], t),
                                      steps.of(tape.hidden[k][s - 1], t), delta_of(k, s - 1, t),
                                      r0, r1, steps.lanes[t]);
                if (s > 1) lay_near(k, s - 1, r0, r1, steps.lanes[t]);
            }
            within.wait();
        }
    }

    // The places of a group's first stages, which gates need not begin together with.
    LaneArray places_of(int group, int t, const Member &within) const {
        const LaneArray places = steps.in_piece(first_places[group], t);
        if (dense.numbers > 1) {
            const auto [begin, end] = within.share(matrices.units(group), GROUP);
            lay_places(dense, {first.array(stride).from(matrices.first_rows[group]), places}, begin,
                       end, steps.lanes[t]);
            within.wait();
        }
        return places;
    }

    // What a group adds to the gradient of the state before the step.
    void state(int group, int t, const Member &within) {
        const LaneArray of = first.array(stride).from(matrices.first_rows[group]);
        matrices.hh[group].product(0, within.share(layer.hidden(), GROUP),
                                   {of, places_of(group, t, within)}, nullptr, false,
                                   dstates[group].array(stride), steps.lanes[t]);
    }

    // The same of a piece's inputs.
    void inputs(int group, const Piece &piece, const Member &within) {
        const int t = piece.first_step;
        const LaneArray of = steps.of(deltas.first, t).from(matrices.first_rows[group]);
        matrices.ih[group].product(0, within.share(layer.input(), GROUP),
                                   {of, steps.in_piece(first_places[group], t)}, nullptr, false,
                                   steps.in_piece(dinputs[group], t), piece.lanes);
    }

    void input_rows(const Piece &piece, float *dx, const Member &member) {
        const int input = layer.input();
        const std::pair<int, int> some = member.share(input, GROUP);
        const LaneArray all = dinputs[0].array(piece.lanes);
        if (matrices.groups > 1) add_groups(dinputs, piece.lanes, all, some, piece.lanes);
        for (int t = piece.first_step; t < piece.end_step; ++t)
            transpose_out(kernels, steps, t, steps.in_piece(dinputs[0], t), dx, input, some);
    }

    // A chunk's share of the gradients of all connections: panels first, made by all, then groups of
    // rows.
    void dense_parameters(const Chunk &chunk, bool is_first, const Member &member) {
        const std::vector<DenseGradient> &weights = gradients.dense_weights;
        for (size_t w = 0; w < weights.size(); ++w) {
            const DenseGradient &one = weights[w];
            const int panel = one.dense->panel, places = chunk.lanes / one.dense->numbers;
            const LaneArray value = steps.of(one.value, chunk);
            const auto [begin, end] = member.share(one.value.units, panel);
            for (int unit = begin; unit < end; unit += panel)
                one.dense->turn(value.unit(unit), value.stride, std::min(panel, end - unit),
                                chunk.lanes, panel, panels[w].data() + int64_t{unit} * places);
        }
        member.wait();
        for (size_t w = 0; w < weights.size(); ++w) {
            const DenseGradient &one = weights[w];
            const LaneArray delta = steps.of(one.delta, chunk);
            const int columns = one.value.units;
            const auto [begin, end] = member.share(one.delta.units, GROUP);
            for (int row = begin; row < end; row += GROUP)
                one.dense->gradient(delta.from(row), std::min(GROUP, end - row), panels[w].data(),
                                    columns, chunk.lanes, !is_first,
                                    one.gradient + int64_t{row} * columns, columns);
        }
    }

    // A chunk's share of the weights' gradients.
    void parameters(const Chunk &chunk, const Member &member) {
        for (const ConnectionGradient &one : gradients.weights) {
            const auto [begin, end] = one.connections->share(member);
            const LaneArray delta = steps.of(one.delta, chunk), value = steps.of(one.value, chunk);
            if (const Connections::Blocks *found = one.connections->blocks()) {
                const LaneBlocks blocks = {one.connections->rows(), found->starts.data(),
                                           found->columns.data(), nullptr};
                kernels.block_dots(blocks, begin, end, delta, value, chunk.lanes, one.vector);
                continue;
            }
            const Connections::Order &order = one.connections->by(false);
            kernels.dots(order.starts.data(), order.indices.data(), begin, end, delta, value,
                         chunk.lanes, one.vector);
        }
        for (const BiasGradient &bias : gradients.biases) {
            const auto [begin, end] = member.share(bias.delta.units);
            kernels.sums(steps.of(bias.delta, chunk), begin, end, chunk.lanes, bias.gradient);
        }
        member.wait();
    }

    void clear_gradients(const Member &member) {
        for (const ConnectionGradient &one : gradients.weights) clear(one, member);
        for (const BiasGradient &bias : gradients.biases) {
            const auto [begin, end] = member.share(bias.delta.units);
            std::fill(bias.gradient + begin, bias.gradient + end, 0.0f);
        }
    }

    void run(const float *doutputs, const float *dlast_h, const float *dlast_c, float *dx,
             float *dh0, float *dc0, const Member &member) {
        const int H = layer.hidden();
        const std::pair<int, int> own = member.share(H, GROUP);
        clear_gradients(member);
        transpose_in(kernels, steps, 0, dlast_h, H, own, dh.array(stride));
        transpose_in(kernels, steps, 0, dlast_c, H, own, dc.array(stride));
        for (int i = steps.count() - 1; i >= 0; --i) {
            const int t = steps.at(i);
            const bool ends_piece = dx && steps.begins(steps.piece_of_step, i);
            transpose_in(kernels, steps, t, doutputs, H, own, doutput.array(stride));
            cell(t, member);
            each_group(teams, member, [&](int group, const Member &within) {
                hidden_layers(group, t, within);
                state(group, t, within);
                if (ends_piece) inputs(group, steps.piece_of(t), within);
            });
            member.wait();
            // Sequences that are not alive keep the gradient of their own state.
            add_groups(dstates, stride, dh.array(stride), own, steps.live[t]);
            if (ends_piece) input_rows(steps.piece_of(t), dx, member);
            if (steps.begins(steps.chunk_of_step, i)) {
                const int chunk = steps.chunk_of_step[t];
                const bool is_first = chunk == steps.chunk_of_step[steps.at(steps.count() - 1)];
                dense_parameters(steps.chunks[chunk], is_first, member);
                parameters(steps.chunks[chunk], member);
            }
        }
        transpose_out(kernels, steps, 0, dh.array(stride), dh0, H, own);
        transpose_out(kernels, steps, 0, dc.array(stride), dc0, H, own);
    }

    const TrainingLayer &layer;
    const LaneKernels &kernels;
    const DenseLanes &dense;
    const Steps &steps;
    const Tape tape;
    const Deltas deltas;
    const Gradients &gradients;
    const Matrices &matrices;
    Barriers teams; // of the groups
    std::vector<int> first_rows;
    int stride;
    std::vector<Lines> dinputs, first_places; // of each group, of a piece
    std::vector<Lines> dstates;               // of each group
    Lines doutput, dh, dc, first;
    std::vector<std::vector<Operand>> near; // of the later stages
    std::vector<Memory> panels;             // of a chunk, for gradients of all connections
};

ReadyPass TrainingLayer::backward(const Batch &batch, const float *doutputs,
                                  const float *dlast_h, const float *dlast_c, const Tape &tape,
                                  const Deltas &deltas, const Gradients &gradients, float *dx,
                                  float *dh, float *dc) const {
    const auto matrices = std::make_shared<Matrices>(*this, true);
    const size_t parts = batch.parts().size();
    const auto by_part = std::make_shared<GradientsByPart>(gradients, parts);
    const auto passes = std::make_shared<std::vector<Backward>>();
    passes->reserve(parts);
    for (size_t p = 0; p < parts; ++p)
        passes->emplace_back(*this, *matrices, batch.parts()[p], tape, deltas, by_part->of(p));
    const auto barriers = std::make_shared<Barriers>(parts);
    return [=](const Member &member) {
        matrices->fill(dx != nullptr, member);
        member.wait();
        apart(member, *barriers, [&](int part, const Member &within) {
            (*passes)[part].run(doutputs, dlast_h, dlast_c, dx, dh, dc, within);
        });
        member.wait();
        by_part->add_up(member);
        member.wait();
        for (const ConnectionGradient &one : by_part->of(0).weights) place(one, member);
    };
}

void make(const std::vector<ReadyPass> &passes, int threads) {
    Barriers barriers(passes.size());
    together(threads, [&](const Member &member) {
        apart(member, barriers,
              [&](int pass, const Member &within) { passes[pass](within); });
    });
}

} // namespace growprune
