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

// Lanes of an input product that are computed together. The inputs of a few stay in the nearest
// cache, where sparse weights come upon them anywhere; dense weights are better used by many.
int piece_of(const Weights &weights) { return weights.connections ? 32 : 64; }

std::vector<int> running_sums(const std::vector<int> &values) {
    std::vector<int> sums(values.size());
    std::exclusive_scan(values.begin(), values.end(), sums.begin(), 0);
    return sums;
}

void copy_lanes(LaneArray from, LaneArray to, int begin, int end, int lanes) {
    for (int u = begin; u < end; ++u) std::copy_n(from.unit(u), lanes, to.unit(u));
}

// Rows of a step and its lanes, for some units; the lanes' array begins at the step.
void transpose_in(const float *rows, int units, int begin, int end, LaneArray to, int live) {
    for (int lane = 0; lane < live; ++lane) {
        const float *row = rows + static_cast<int64_t>(lane) * units;
        for (int u = begin; u < end; ++u) to.unit(u)[lane] = row[u];
    }
}

void transpose_out(LaneArray from, float *rows, int units, int begin, int end, int live) {
    for (int lane = 0; lane < live; ++lane) {
        float *row = rows + static_cast<int64_t>(lane) * units;
        for (int u = begin; u < end; ++u) row[u] = from.unit(u)[lane];
    }
}

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

} // namespace

Lines::Lines(size_t n) : memory_(n) { std::fill_n(data(), n, 0.0f); }

Connections::Connections(const uint8_t *mask, int rows, int columns)
    : rows_(rows), columns_(columns) {
    by_row_.starts.push_back(0);
    by_column_.starts.assign(columns + 1, 0);
    for (int r = 0; r < rows; ++r) {
        for (int c = 0; c < columns; ++c)
            if (mask[static_cast<int64_t>(r) * columns + c]) {
                by_row_.indices.push_back(c);
                ++by_column_.starts[c + 1];
            }
        by_row_.starts.push_back(static_cast<int32_t>(by_row_.indices.size()));
    }
    std::partial_sum(by_column_.starts.begin(), by_column_.starts.end(),
                     by_column_.starts.begin());
    std::vector<int32_t> next(by_column_.starts.begin(), by_column_.starts.end() - 1);
    by_column_.indices.resize(by_row_.indices.size());
    for (int r = 0; r < rows; ++r)
        for (int e = by_row_.starts[r]; e < by_row_.starts[r + 1]; ++e)
            by_column_.indices[next[by_row_.indices[e]]++] = r;
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
        return static_cast<int>(found - starts.begin());
    };
    return {member.number ? until(member.number) : 0, until(member.number + 1)};
}

LaneWeights::LaneWeights(const Weights &weights, bool transposed, std::vector<int> parts, int tile)
    : weights_(weights), transposed_(transposed), tile_(tile), first_rows_(running_sums(parts)) {
    const int columns = transposed ? weights.rows : weights.columns;
    size_t floats = 0;
    if (weights.connections) {
        bands_ = &weights.connections->bands(transposed, parts);
        floats = bands_->indices.size();
    } else {
        for (const int rows : parts)
            floats += static_cast<size_t>((rows + tile - 1) / tile * tile) * columns;
    }
    memory_ = Lines(floats);
    const float *tiles = memory_.data();
    for (size_t i = 0; i < parts.size(); ++i) {
        LaneMatrix matrix = {parts[i], columns, nullptr, nullptr, nullptr, nullptr, nullptr};
        if (bands_) {
            matrix.starts = bands_->starts.data() + bands_->first[i];
            matrix.band_rows = bands_->rows.data() + BAND * bands_->first[i];
            matrix.indices = bands_->indices.data();
            matrix.values = memory_.data();
        } else {
            matrix.tiles = tiles;
            tiles += static_cast<size_t>((parts[i] + tile - 1) / tile * tile) * columns;
        }
        parts_.push_back(matrix);
    }
}

void LaneWeights::fill(const Member &member) {
    bands_ ? fill_bands(member) : fill_tiles(member);
}

void LaneWeights::fill_tiles(const Member &member) {
    const int64_t row_step = transposed_ ? 1 : weights_.columns;
    const int64_t column_step = transposed_ ? weights_.columns : 1;
    for (size_t i = 0; i < parts_.size(); ++i) {
        const LaneMatrix &part = parts_[i];
        const auto [begin, end] = member.share(part.rows, GROUP);
        for (int row = begin; row < end; row += tile_) {
            float *to = const_cast<float *>(part.tiles) + static_cast<int64_t>(row) * part.columns;
            const float *from = weights_.data + (first_rows_[i] + row) * row_step;
            const int rows = std::min(tile_, end - row);
            for (int c = 0; c < part.columns; ++c, to += tile_, from += column_step)
                for (int r = 0; r < rows; ++r) to[r] = from[r * row_step];
        }
    }
}

void LaneWeights::fill_bands(const Member &member) {
    const auto &order = weights_.connections->by(transposed_);
    const int64_t row_step = transposed_ ? 1 : weights_.columns;
    const int64_t column_step = transposed_ ? weights_.columns : 1;
    for (size_t i = 0; i < parts_.size(); ++i) {
        const LaneMatrix &part = parts_[i];
        const auto [begin, end] = member.share(bands_of(part.rows), GROUP / BAND);
        for (int place = BAND * begin; place < BAND * end; ++place) {
            if (part.band_rows[place] < 0) continue;
            const int64_t row = first_rows_[i] + part.band_rows[place];
            const int count = order.starts[row + 1] - order.starts[row];
            int64_t slot = static_cast<int64_t>(BAND) * part.starts[place / BAND] + place % BAND;
            for (int e = 0; e < count; ++e, slot += BAND)
                memory_.data()[slot] =
                    weights_.data[row * row_step + part.indices[slot] * column_step];
        }
    }
}

Steps::Steps(const int64_t *batch_sizes, int count, bool reverse) : reverse(reverse) {
    int64_t row = 0, lane = 0;
    for (int t = 0; t < count; ++t) {
        live.push_back(static_cast<int>(batch_sizes[t]));
        lanes.push_back(static_cast<int>(whole_lanes(batch_sizes[t])));
        first_row.push_back(row);
        first_lane.push_back(lane);
        if (chunks.empty() || chunks.back().lanes + lanes[t] > CHUNK)
            chunks.push_back({lane, 0});
        chunk_of_step.push_back(static_cast<int>(chunks.size()) - 1);
        chunks.back().lanes += lanes[t];
        row += batch_sizes[t];
        lane += lanes[t];
    }
}

void rows_to_lanes(const Steps &steps, const float *rows, Record to, const Member &member) {
    const auto [begin, end] = member.share(to.units, LANES);
    for (int t = 0; t < steps.count(); ++t) {
        const LaneArray step = steps.of(to, t);
        const float *from = rows + steps.first_row[t] * to.units;
        transpose_in(from, to.units, begin, end, step, steps.live[t]);
        for (int u = begin; u < end; ++u)
            std::fill(step.unit(u) + steps.live[t], step.unit(u) + steps.lanes[t], 0.0f);
    }
}

void draw_dropout(const Kernels &kernels, const Steps &steps, uint64_t seed, float keep, Record to,
                  const Member &member) {
    const auto [begin, end] = member.share(steps.count());
    for (int t = begin; t < end; ++t)
        kernels.lanes.dropout(steps.of(to, t), to.units, steps.lanes[t], steps.first_row[t], seed,
                              keep);
}

TrainingLayer::TrainingLayer(const Kernels &kernels, const Weights &ih, const Weights &hh,
                             const std::vector<std::vector<Weights>> &later, float slope)
    : kernels_(kernels), ih_(ih), hh_(hh), later_(later), slope_(slope) {}

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

// What the threads of a forward pass share.
struct TrainingLayer::Forward {
    Forward(const TrainingLayer &layer, const Steps &steps)
        : ih(layer.ih_, false, {layer.first_units()}, layer.kernels_.lanes.tile),
          hh(layer.hh_, false, layer.first_widths(), layer.kernels_.lanes.tile),
          first_rows(running_sums(layer.first_widths())),
          stride(steps.count() ? steps.lanes[0] : 0) {
        const size_t state = layer.hidden() * stride;
        for (Lines *lines : {&h[0], &h[1], &c}) *lines = Lines(state);
        for (int k = 0; k < GATES; ++k) {
            later.emplace_back();
            near.emplace_back();
            for (int s = 0; s < layer.depth(k); ++s) {
                const Weights &weights = layer.later_[k][s];
                later[k].emplace_back(weights, false, std::vector<int>{weights.rows},
                                      layer.kernels_.lanes.tile);
                near[k].emplace_back(weights.columns * stride);
            }
            sums.emplace_back(layer.depth(k) ? state : 0);
        }
    }

    LaneWeights ih, hh;
    std::vector<std::vector<LaneWeights>> later;
    std::vector<int> first_rows;
    int64_t stride; // of what lies close together: lanes of the first step
    Lines h[2], c;
    std::vector<std::vector<Lines>> near; // hidden layers of the step
    std::vector<Lines> sums;              // of gates with hidden layers
};

void TrainingLayer::forward(const Steps &steps, const float *x, const float *h, const float *c,
                            const float *bias, const Biases &later_biases, Record first,
                            const Tape &tape, float *outputs, float *last_h, float *last_c,
                            int threads) const {
    const LaneKernels &kernels = kernels_.lanes;
    Forward f(*this, steps);
    const int batch = steps.live[0], H = hidden();
    const int all = static_cast<int>(f.stride);

    together(threads, [&](const Member &member) {
        f.ih.fill(member);
        f.hh.fill(member);
        for (auto &gate : f.later)
            for (LaneWeights &weights : gate) weights.fill(member);
        rows_to_lanes(steps, x, tape.x, member);
        const auto [u0, u1] = member.share(H, GROUP);
        transpose_in(h, H, u0, u1, f.h[0].array(all), batch);
        transpose_in(c, H, u0, u1, f.c.array(all), batch);
        member.wait();

        const int lanes = piece_of(ih_);
        int piece = 0; // whole ones, so that sums do not depend on the number of threads
        for (const Chunk &chunk : steps.chunks)
            for (int lane = 0; lane < chunk.lanes; lane += lanes, ++piece)
                if (piece % member.members == member.number)
                    kernels.product(f.ih.part(0), 0, first_units(),
                                    steps.of(tape.x, chunk).at_lane(lane), bias, false,
                                    steps.of(first, chunk).at_lane(lane),
                                    std::min(lanes, chunk.lanes - lane));
        member.wait();

        for (int i = 0; i < steps.count(); ++i) {
            const int t = steps.at(i), n = steps.lanes[t];
            const LaneArray before = f.h[i % 2].array(all), after = f.h[(i + 1) % 2].array(all);
            const auto step_of = [&](const Record &record) { return steps.of(record, t); };
            const auto first_of = [&](int k) { return step_of(first).from(f.first_rows[k]); };
            const auto near = [&](int k, int s) { return f.near[k][s].array(all); };
            const auto activate = [&](int k, int s, LaneArray sums, int r0, int r1) {
                const bool kept = static_cast<bool>(tape.h_before);
                kernels.activate(sums, slope_, step_of(tape.scales[k][s]), near(k, s),
                                 kept ? step_of(tape.hidden[k][s]) : LaneArray{}, r0, r1, n);
            };
            for (int k = 0; k < GATES; ++k) {
                if (!depth(k)) continue;
                const auto [r0, r1] = member.share(width(k, 0), GROUP);
                kernels.product(f.hh.part(k), r0, r1, before, nullptr, true, first_of(k), n);
                activate(k, 0, first_of(k), r0, r1);
            }
            for (int s = 1; s <= deepest(); ++s) {
                member.wait();
                for (int k = 0; k < GATES; ++k) {
                    if (s >= depth(k)) continue;
                    const auto [r0, r1] = member.share(width(k, s), GROUP);
                    kernels.product(f.later[k][s - 1].part(0), r0, r1, near(k, s - 1),
                                    later_biases[k][s - 1], false, near(k, s), n);
                    activate(k, s, near(k, s), r0, r1);
                }
            }
            LaneCell cell = {};
            for (int k = 0; k < GATES; ++k) {
                const int last = depth(k) - 1;
                cell.sums[k] = last < 0 ? first_of(k) : f.sums[k].array(all);
                if (last < 0)
                    kernels.product(f.hh.part(k), u0, u1, before, nullptr, true, cell.sums[k], n);
                else
                    kernels.product(f.later[k][last].part(0), u0, u1, near(k, last),
                                    later_biases[k][last], false, cell.sums[k], n);
                if (tape.h_before) cell.gates[k] = step_of(tape.gates[k]);
            }
            cell.h_before = step_of(tape.h_before);
            cell.c_before = step_of(tape.c_before);
            cell.tanh_c = step_of(tape.tanh_c);
            cell.h = before;
            cell.c = f.c.array(all);
            cell.new_h = after;
            cell.lanes = n;
            cell.live = steps.live[t];
            cell.all_lanes = all;
            kernels.cell(cell, u0, u1);
            transpose_out(after, outputs + steps.first_row[t] * H, H, u0, u1, steps.live[t]);
            member.wait();
        }
        transpose_out(f.h[steps.count() % 2].array(all), last_h, H, u0, u1, batch);
        transpose_out(f.c.array(all), last_c, H, u0, u1, batch);
    });
}

// What the threads of a backward pass share.
struct TrainingLayer::Backward {
    Backward(const TrainingLayer &layer, const Steps &steps, int threads)
        : ih(layer.ih_, true, {layer.input()}, layer.kernels_.lanes.tile),
          hh(layer.hh_, true, {layer.hidden()}, layer.kernels_.lanes.tile),
          first_rows(running_sums(layer.first_widths())), stride(steps.lanes[0]) {
        const size_t state = layer.hidden() * stride;
        for (Lines *lines : {&doutput, &dh, &dc, &spare}) *lines = Lines(state);
        first = Lines(layer.first_units() * stride);
        for (int k = 0; k < GATES; ++k) {
            later.emplace_back();
            near.emplace_back();
            for (int s = 0; s < layer.depth(k); ++s) {
                const Weights &weights = layer.later_[k][s];
                later[k].emplace_back(weights, true, std::vector<int>{weights.columns},
                                      layer.kernels_.lanes.tile);
                near[k].emplace_back(weights.rows * stride);
            }
        }
        for (int m = 0; m < threads; ++m)
            inputs.emplace_back(static_cast<size_t>(layer.input()) * stride);
    }

    // Gradients of the sums that a gate's stage gives, 0 being its first.
    LaneArray near_of(int k, int stage) const {
        return stage ? near[k][stage - 1].array(stride)
                     : first.array(stride).from(first_rows[k]);
    }

    LaneWeights ih, hh;
    std::vector<std::vector<LaneWeights>> later;
    std::vector<int> first_rows;
    int64_t stride;
    Lines doutput, dh, dc, spare, first;
    std::vector<std::vector<Lines>> near; // of the later stages
    std::vector<Lines> inputs;            // their gradients at a step, for each thread
};

void TrainingLayer::backward(const Steps &steps, const float *doutputs, const float *dlast_h,
                             const float *dlast_c, const Tape &tape, const Deltas &deltas,
                             float *dx, float *dh, float *dc, int threads) const {
    const LaneKernels &kernels = kernels_.lanes;
    Backward b(*this, steps, threads);
    const int batch = steps.live[0], H = hidden();

    together(threads, [&](const Member &member) {
        if (dx) b.ih.fill(member);
        b.hh.fill(member);
        for (auto &gate : b.later)
            for (LaneWeights &weights : gate) weights.fill(member);
        const auto [u0, u1] = member.share(H, GROUP);
        const LaneArray doutput = b.doutput.array(b.stride), dstate = b.dh.array(b.stride);
        transpose_in(dlast_h, H, u0, u1, dstate, batch);
        transpose_in(dlast_c, H, u0, u1, b.dc.array(b.stride), batch);
        member.wait();

        for (int i = steps.count() - 1; i >= 0; --i) {
            const int t = steps.at(i), n = steps.lanes[t], live = steps.live[t];
            const auto step_of = [&](const Record &record) { return steps.of(record, t); };
            const auto delta_of = [&](int k, int s) {
                if (s == 0) return step_of(deltas.first).from(b.first_rows[k]);
                return step_of(s == depth(k) ? deltas.gates[k] : deltas.stages[k][s - 1]);
            };
            transpose_in(doutputs + steps.first_row[t] * H, H, u0, u1, doutput, live);
            LaneCellBack cell = {};
            for (int k = 0; k < GATES; ++k) {
                cell.gates[k] = step_of(tape.gates[k]);
                cell.delta[k] = delta_of(k, depth(k));
                cell.near[k] = b.near_of(k, depth(k));
            }
            cell.c_before = step_of(tape.c_before);
            cell.tanh_c = step_of(tape.tanh_c);
            cell.output_gradient = doutput;
            cell.dh = dstate;
            cell.dc = b.dc.array(b.stride);
            cell.lanes = n;
            cell.live = live;
            kernels.cell_back(cell, u0, u1);
            member.wait();

            for (int s = deepest(); s > 0; --s) {
                for (int k = 0; k < GATES; ++k) {
                    if (s > depth(k)) continue;
                    const auto [r0, r1] = member.share(width(k, s - 1), GROUP);
                    kernels.product(b.later[k][s - 1].part(0), r0, r1, b.near_of(k, s), nullptr,
                                    false, b.near_of(k, s - 1), n);
                    kernels.activate_back(b.near_of(k, s - 1), slope_,
                                          step_of(tape.scales[k][s - 1]),
                                          step_of(tape.hidden[k][s - 1]), delta_of(k, s - 1), r0,
                                          r1, n);
                }
                member.wait();
            }

            // Sequences that are not alive at this step keep the gradients of their states.
            const LaneArray to = live == batch ? dstate : b.spare.array(b.stride);
            kernels.product(b.hh.part(0), u0, u1, b.first.array(b.stride), nullptr, false, to, n);
            if (live < batch) copy_lanes(to, dstate, u0, u1, live);
            member.wait();
        }
        transpose_out(dstate, dh, H, u0, u1, batch);
        transpose_out(b.dc.array(b.stride), dc, H, u0, u1, batch);
        if (!dx) return;

        const auto [begin, end] = member.share(steps.count());
        const LaneArray gradient = b.inputs[member.number].array(b.stride);
        for (int t = begin; t < end; ++t) {
            kernels.product(b.ih.part(0), 0, input(), steps.of(deltas.first, t), nullptr, false,
                            gradient, steps.lanes[t]);
            transpose_out(gradient, dx + steps.first_row[t] * input(), input(), 0, input(),
                          steps.live[t]);
        }
    });
}

void connection_gradient(const Kernels &kernels, const Connections &connections,
                         const Steps &steps, Record delta, Record x, float *gradient,
                         int threads) {
    const auto &order = connections.by(false);
    Lines sums(order.indices.size());
    together(threads, [&](const Member &member) {
        const auto [begin, end] = connections.share(member);
        for (const Chunk &chunk : steps.chunks)
            kernels.lanes.dots(order.starts.data(), order.indices.data(), begin, end,
                               steps.of(delta, chunk), steps.of(x, chunk), chunk.lanes,
                               sums.data());
        for (int row = begin; row < end; ++row)
            for (int e = order.starts[row]; e < order.starts[row + 1]; ++e)
                gradient[static_cast<int64_t>(row) * connections.columns() + order.indices[e]] =
                    sums.data()[e];
    });
}

void lane_sums(const Kernels &kernels, const Steps &steps, Record record, float *sums) {
    std::fill_n(sums, record.units, 0.0f);
    for (const Chunk &chunk : steps.chunks)
        kernels.lanes.sums(steps.of(record, chunk), 0, record.units, chunk.lanes, sums);
}

} // namespace growprune
