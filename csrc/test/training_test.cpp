// The training passes of every path against a plain loop in double precision, whose gradients are
// differences. Run under the sanitizers, without Python.

#include "../paths.h"
#include "../training.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <thread>

using namespace growprune;

namespace {

int checks = 0, failures = 0;
std::mt19937 generator(1);

using Floats = std::vector<float>;

float uniform() { return std::uniform_real_distribution<float>(-1.0f, 1.0f)(generator); }

Floats random_floats(size_t n) {
    Floats values(n);
    for (float &value : values) value = uniform();
    return values;
}

void expect_close(const std::string &what, double found, double wanted, double tolerance = 2e-5) {
    ++checks;
    if (std::abs(found - wanted) <= tolerance * (1 + std::abs(wanted))) return;
    if (++failures < 10) std::printf("%s: %g instead of %g\n", what.c_str(), found, wanted);
}

// A matrix of which single weights, or blocks, may be dormant.
struct Matrix2 {
    Matrix2(int rows, int columns, double density, bool blocks)
        : rows(rows), columns(columns), values(random_floats(static_cast<size_t>(rows) * columns)) {
        if (density == 1) return;
        std::vector<uint8_t> mask(values.size());
        for (size_t i = 0; i < mask.size(); ++i) {
            mask[i] = blocks && i / columns % PANEL ? mask[i - columns]
                                                         : std::bernoulli_distribution(density)(generator);
            if (!mask[i]) values[i] = 0;
        }
        connections = std::make_unique<Connections>(mask.data(), rows, columns);
        if (blocks) expect_close("blocks are found", connections->blocks() != nullptr, true);
        active.resize(connections->by(false).indices.size());
        Barrier barrier;
        gather(*connections, values.data(), active.data(), Member{0, 1, barrier});
    }

    Weights weights() const {
        const Floats &all = connections ? active : values;
        return {all.data(), rows, columns, connections.get()};
    }

    double times(int row, const double *x) const {
        double sum = 0;
        for (int c = 0; c < columns; ++c) sum += double(values[row * columns + c]) * x[c];
        return sum;
    }

    int rows, columns;
    Floats values, active;
    std::unique_ptr<Connections> connections;
};

// The derivatives of a loss by some numbers of an array.
struct Derivatives {
    const char *of;
    std::vector<size_t> at;
    std::vector<double> wanted;

    void compare(const std::string &path, const Floats &found) const {
        for (size_t n = 0; n < at.size(); ++n)
            expect_close(path + " gradient of " + of, found[at[n]], wanted[n]);
    }
};

// A layer, a batch and a loss of every output and last state, found slowly and once for all paths.
struct Sample {
    Sample(std::vector<std::vector<int>> widths, double density, std::vector<int64_t> sizes,
           bool reverse, bool blocks = false)
        : widths(std::move(widths)), sizes(std::move(sizes)), reverse(reverse),
          steps(this->sizes.data(), static_cast<int>(this->sizes.size()), reverse, 0, 1) {
        int units = 0;
        for (const auto &gate : this->widths) units += gate.empty() ? hidden : gate[0];
        matrices.emplace_back(units, input, density, blocks);
        matrices.emplace_back(units, hidden, density, blocks);
        for (const auto &gate : this->widths)
            for (size_t s = 0; s < gate.size(); ++s)
                matrices.emplace_back(s + 1 < gate.size() ? gate[s + 1] : hidden, gate[s], density,
                                      blocks);
        bias = random_floats(units);
        for (const int64_t size : this->sizes) rows += static_cast<int>(size);
        batch = static_cast<int>(this->sizes[0]);
        x = random_floats(rows * input);
        h = random_floats(batch * hidden);
        c = random_floats(batch * hidden);
        doutputs = random_floats(rows * hidden);
        dh = random_floats(batch * hidden);
        dc = random_floats(batch * hidden);
        for (const auto &gate : this->widths)
            for (const int width : gate) {
                scales.emplace_back();
                for (int i = 0; i < rows * width; ++i)
                    scales.back().push_back(std::bernoulli_distribution(0.7)(generator) ? 1.5f : 0);
            }
        loss(&outputs);
        by_x = derivatives("x", x);
        by_h = derivatives("h", h);
        by_c = derivatives("c", c);
        by_bias = derivatives("a bias", bias);
        for (Matrix2 &matrix : matrices)
            by_weights.push_back(derivatives("a weight", matrix.values));
    }

    double loss(std::vector<double> *outputs = nullptr) const {
        std::vector<double> hs(h.begin(), h.end()), cs(c.begin(), c.end());
        double sum = 0;
        if (outputs) outputs->resize(rows * hidden);
        for (int i = 0; i < steps.count(); ++i) {
            const int t = steps.at(i);
            for (int b = 0; b < steps.live[t]; ++b) {
                const int row = static_cast<int>(steps.first_row[t]) + b;
                cell(row, &hs[b * hidden], &cs[b * hidden]);
                for (int u = 0; u < hidden; ++u) {
                    sum += doutputs[row * hidden + u] * hs[b * hidden + u];
                    if (outputs) (*outputs)[row * hidden + u] = hs[b * hidden + u];
                }
            }
        }
        for (int i = 0; i < batch * hidden; ++i) sum += dh[i] * hs[i] + dc[i] * cs[i];
        return sum;
    }

    // Without memory of its own, which a sanitizer takes its time to lend.
    void cell(int row, double *hs, double *cs) const {
        double in[input], z[4][widest], next[widest];
        std::copy_n(&x[row * input], input, in);
        int unit = 0;
        size_t stage = 0;
        for (int k = 0; k < 4; ++k) {
            const int width = widths[k].empty() ? hidden : widths[k][0];
            for (int r = 0; r < width; ++r, ++unit)
                z[k][r] = matrices[0].times(unit, in) + matrices[1].times(unit, hs) + bias[unit];
            for (size_t s = 0; s < widths[k].size(); ++s, ++stage) {
                const Matrix2 &matrix = matrices[2 + stage];
                for (int u = 0; u < matrix.columns; ++u)
                    z[k][u] *= (z[k][u] > 0 ? 1 : slope) * scales[stage][row * matrix.columns + u];
                for (int r = 0; r < matrix.rows; ++r) next[r] = matrix.times(r, z[k]);
                std::copy_n(next, matrix.rows, z[k]);
            }
        }
        const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
        for (int u = 0; u < hidden; ++u) {
            cs[u] = sigmoid(z[1][u]) * cs[u] + sigmoid(z[0][u]) * std::tanh(z[2][u]);
            hs[u] = sigmoid(z[3][u]) * std::tanh(cs[u]);
        }
    }

    Derivatives derivatives(const char *of, Floats &numbers) const {
        Derivatives some = {of, {}, {}};
        for (int tries = 0; tries < 100 && some.at.size() < 8; ++tries) {
            const size_t i = generator() % numbers.size();
            if (numbers[i] == 0) continue; // a dormant connection
            some.at.push_back(i);
            some.wanted.push_back(derivative(numbers[i]));
        }
        return some;
    }

    // The derivative of the loss by one of this sample's numbers.
    double derivative(float &at) const {
        const float before = at, size = 1.0f / (1 << 20); // rarely across a kink
        at = before + size;
        const double above = loss(), upper = at;
        at = before - size;
        const double below = loss(), lower = at;
        at = before;
        return (above - below) / (upper - lower);
    }

    static constexpr int input = 7, hidden = 13, widest = 64;
    static constexpr float slope = 0.2f;
    std::vector<std::vector<int>> widths;
    std::vector<int64_t> sizes;
    bool reverse;
    Steps steps;
    std::vector<Matrix2> matrices;
    Floats bias, x, h, c, doutputs, dh, dc;
    std::vector<Floats> scales;
    int rows = 0, batch = 0;
    std::vector<double> outputs;
    Derivatives by_x, by_h, by_c, by_bias;
    std::vector<Derivatives> by_weights;
};

// Records of exactly the size they need, for a sanitizer to see what goes beyond it.
struct Room {
    Record record(int units, int64_t lanes) {
        memory.push_back(std::make_unique<Lines>(units * lanes));
        return {memory.back()->data(), units, lanes};
    }
    std::vector<std::unique_ptr<Lines>> memory;
};

// The nearest number of a bfloat16, the even one of two.
float nearest(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    std::memcpy(&x, &bits, sizeof(bits));
    return x;
}

// Of rows over columns, in panels, added to what is there.
template <class Round>
void check_gradient(const std::string &name, const DenseLanes &dense, int rows, int columns,
                    int lanes, const Round &rounded) {
    const Floats delta = random_floats(rows * lanes), value = random_floats(columns * lanes);
    const int width = dense.panel, places = lanes / dense.numbers;
    const int count = (columns + width - 1) / width;
    Lines panels(static_cast<size_t>(count) * width * places);
    for (int p = 0; p < count; ++p)
        dense.turn(&value[p * width * lanes], lanes, std::min(width, columns - p * width), lanes,
                   width, panels.data() + p * width * places);
    Floats gradient(rows * columns), rows_of_delta = delta;
    for (const bool accumulate : {false, true})
        for (int row = 0; row < rows; row += GROUP)
            dense.gradient({&rows_of_delta[row * lanes], lanes}, std::min(GROUP, rows - row),
                           panels.data(), columns, lanes, accumulate, &gradient[row * columns],
                           columns);
    for (int r = 0; r < rows; ++r)
        for (int c = 0; c < columns; ++c) {
            double sum = 0;
            for (int l = 0; l < lanes; ++l)
                sum += double(rounded(delta[r * lanes + l])) * rounded(value[c * lanes + l]);
            expect_close(name + " gradient", gradient[r * columns + c], 2 * sum);
        }
}

// A matrix as places, (places, width).
Lines places_of(const DenseLanes &dense, bool lay, const Floats &from, int rows, int columns,
                int width) {
    Lines to(dense.places(columns) * static_cast<size_t>(width));
    Floats turned(from.size());
    for (int r = 0; r < rows; ++r)
        for (int c = 0; c < columns; ++c) turned[c * rows + r] = from[r * columns + c];
    if (lay) dense.lay(turned.data(), rows, rows, columns, width, to.data());
    else dense.turn(from.data(), columns, rows, columns, width, to.data());
    return to;
}

// A path, and its products of floats or of numbers that are rounded first.
struct Path {
    const Kernels &kernels;
    const DenseLanes &dense;
};

std::vector<Path> all_paths() {
    std::vector<Path> paths;
    for (const Kernels *kernels : available_kernels()) {
        paths.push_back({*kernels, kernels->lanes.dense});
        if (const DenseLanes *rounded = rounded_products(*kernels))
            paths.push_back({*kernels, *rounded});
    }
    return paths;
}

// Products of numbers that are rounded first, where the places are not floats.
void check_dense(const Path &path, int rows, int columns, int lanes) {
    const auto &[kernels, dense] = path;
    const int tile = kernels.lanes.tile, tiles = (rows + tile - 1) / tile;
    const std::string name = std::string(kernels.name) + (dense.numbers > 1 ? " rounded" : " dense");
    const Floats weights = random_floats(rows * columns), bias = random_floats(rows);
    const Floats x = random_floats(columns * lanes), before = random_floats(rows * lanes);
    const auto rounded = [&](float value) { return dense.numbers > 1 ? nearest(value) : value; };
    for (const bool lay : {false, true}) {
        Lines packed(static_cast<size_t>(tiles) * tile * dense.places(columns));
        for (int t = 0; t < tiles; ++t) {
            const int some = std::min(tile, rows - t * tile);
            const Floats part(&weights[t * tile * columns], &weights[t * tile * columns] + some * columns);
            const Lines places = places_of(dense, lay, part, some, columns, tile);
            std::copy_n(places.data(), tile * dense.places(columns),
                        packed.data() + t * tile * dense.places(columns));
        }
        Lines in(dense.places(columns) * static_cast<size_t>(lanes)), y(rows * lanes);
        dense.lay(x.data(), lanes, lanes, columns, lanes, in.data());
        std::copy(before.begin(), before.end(), y.data());
        const LaneMatrix W = {rows, dense.places(columns), packed.data(), nullptr, nullptr, nullptr,
                              nullptr};
        dense.product(W, 0, rows, in.array(lanes), bias.data(), true, y.array(lanes), lanes);
        for (int r = 0; r < rows; ++r)
            for (int l = 0; l < lanes; ++l) {
                double sum = double(before[r * lanes + l]) + bias[r];
                for (int c = 0; c < columns; ++c)
                    sum += double(rounded(weights[r * columns + c])) * rounded(x[c * lanes + l]);
                expect_close(name + " product", y.data()[r * lanes + l], sum);
            }
    }
    check_gradient(name, dense, rows, columns, lanes, rounded);
}

// With room for the gradients of the sums of all steps, or of a chunk of each part.
void check(const Path &of, const Sample &sample, int threads, int parts, bool whole) {
    const auto &[kernels, dense] = of;
    const Batch batch(sample.sizes.data(), static_cast<int>(sample.sizes.size()), sample.reverse,
                      parts);
    expect_close("parts of a batch", static_cast<double>(batch.parts().size()), parts);
    const double tolerance = dense.numbers > 1 ? 0.05 : 2e-5; // 8 bits of each number
    Room room;
    const int64_t lanes = batch.all_lanes();
    const int64_t delta_lanes = whole ? lanes : batch.chunk_lanes();
    const int units = sample.matrices[0].rows, H = sample.hidden;
    std::vector<std::vector<Weights>> later;
    Biases biases;
    Tape tape = {room.record(sample.input, lanes), {}, room.record(H, lanes),
                 room.record(H, lanes), {}, {}};
    Deltas deltas = {room.record(units, delta_lanes), {}, {}};
    size_t stage = 0;
    for (const auto &gate : sample.widths) {
        later.emplace_back();
        biases.emplace_back(gate.size(), nullptr);
        tape.scales.emplace_back();
        tape.hidden.emplace_back();
        deltas.stages.emplace_back();
        tape.gates.push_back(room.record(H, lanes));
        deltas.gates.push_back(gate.empty() ? Record{} : room.record(H, delta_lanes));
        for (size_t s = 0; s < gate.size(); ++s, ++stage) {
            later.back().push_back(sample.matrices[2 + stage].weights());
            tape.hidden.back().push_back(room.record(gate[s], lanes));
            if (s) deltas.stages.back().push_back(room.record(gate[s], delta_lanes));
            tape.scales.back().push_back(room.record(gate[s], lanes));
            for (const Steps &steps : batch.parts())
                for (int t = 0; t < steps.count(); ++t)
                    rows_to_lanes(kernels.lanes, steps, t, sample.scales[stage].data(),
                                  tape.scales.back().back(), {0, gate[s]});
        }
    }
    const TrainingLayer layer(kernels, dense, sample.matrices[0].weights(),
                              sample.matrices[1].weights(), later, sample.slope);
    Floats outputs(sample.rows * H), last_h(sample.batch * H), last_c(last_h.size());
    make({layer.forward(batch, sample.x.data(), sample.h.data(), sample.c.data(),
                        sample.bias.data(), biases, tape, outputs.data(), last_h.data(),
                        last_c.data())},
         threads);
    const std::string path = kernels.name;
    for (size_t i = 0; i < outputs.size(); ++i)
        expect_close(path + " output", outputs[i], sample.outputs[i], tolerance);

    std::vector<Floats> gradients, vectors;
    std::vector<ConnectionGradient> to_learn;
    std::vector<DenseGradient> all_to_learn;
    for (const Matrix2 &matrix : sample.matrices) {
        gradients.emplace_back(matrix.values.size());
        vectors.emplace_back(matrix.active.size());
    }
    const auto learn = [&](size_t at, Record delta, Record value) {
        if (const auto &connections = sample.matrices[at].connections)
            to_learn.push_back({connections.get(), delta, value, vectors[at].data(),
                                gradients[at].data()});
        else
            all_to_learn.push_back({&dense, delta, value, gradients[at].data()});
    };
    learn(0, deltas.first, tape.x);
    learn(1, deltas.first, tape.h_before);
    stage = 2;
    for (size_t k = 0; k < sample.widths.size(); ++k)
        for (size_t s = 0; s < sample.widths[k].size(); ++s, ++stage) {
            const bool last = s + 1 == sample.widths[k].size();
            learn(stage, last ? deltas.gates[k] : deltas.stages[k][s], tape.hidden[k][s]);
        }
    Floats dx(sample.x.size()), dh(last_h.size()), dc(last_h.size()), dbias(units);
    make({layer.backward(batch, sample.doutputs.data(), sample.dh.data(), sample.dc.data(), tape,
                         deltas, {to_learn, all_to_learn, {{deltas.first, dbias.data()}}}, dx.data(),
                         dh.data(), dc.data())},
         threads);
    if (dense.numbers > 1) return; // rounding may cross a kink
    sample.by_x.compare(path, dx);
    sample.by_h.compare(path, dh);
    sample.by_c.compare(path, dc);
    sample.by_bias.compare(path, dbias);
    for (size_t at = 0; at < gradients.size(); ++at)
        sample.by_weights[at].compare(path, gradients[at]);
}

} // namespace

// What the hash of growprune.native.training.dropout_kept keeps.
bool kept(uint64_t seed, uint32_t number, float keep) {
    uint32_t bits = number + static_cast<uint32_t>(seed);
    bits = (bits ^ (bits >> 16)) * 0x7feb352du ^ static_cast<uint32_t>(seed >> 32);
    bits = (bits ^ (bits >> 15)) * 0x846ca68bu;
    return (bits ^ (bits >> 16)) >> 8 < static_cast<uint32_t>(keep * 16777216.0f);
}

void check_dropout(const Kernels &kernels, const std::vector<int64_t> &sizes, int units) {
    const uint64_t seed = 0x123456789abcdefu;
    const float keep = 0.7f;
    const Batch batch(sizes.data(), static_cast<int>(sizes.size()), false, 2);
    Room room;
    const Record record = room.record(units, batch.all_lanes());
    for (const Steps &steps : batch.parts()) {
        together(3, [&](const Member &member) {
            draw_dropout(kernels, steps, seed, keep, record, member);
        });
        for (int t = 0; t < steps.count(); ++t)
            for (int lane = 0; lane < steps.live[t]; ++lane)
                for (int u = 0; u < units; ++u) {
                    const int64_t row = steps.first_row[t] + lane * steps.row_step;
                    const auto number = static_cast<uint32_t>(row * units + u);
                    expect_close(std::string(kernels.name) + " dropout",
                                 steps.of(record, t).unit(u)[lane],
                                 kept(seed, number, keep) ? 1 / keep : 0);
                }
    }
}

// The same from any thread of a team.
void expect_together(double found, double wanted) {
    static std::mutex mutex;
    const std::lock_guard<std::mutex> lock(mutex);
    expect_close("within a team", found, wanted);
}

// Every part is done, by all of its team.
void check_apart() {
    for (int threads = 1; threads < 6; ++threads)
        for (int parts = 1; parts < 5; ++parts) {
            Barriers barriers(parts);
            std::vector<std::atomic<int>> shares(parts);
            together(threads, [&](const Member &member) {
                apart(member, barriers, [&](int part, const Member &within) {
                    const auto [begin, end] = within.share(100);
                    shares[part] += end - begin;
                    within.wait();
                    expect_together(shares[part], 100);
                });
            });
        }
}

// Passes side by side are made by a team each, whose members wait for each other alone.
void check_make() {
    for (int threads = 1; threads < 6; ++threads) {
        std::vector<std::atomic<int>> shares(2);
        std::vector<ReadyPass> passes;
        for (std::atomic<int> &share : shares)
            passes.push_back([&](const Member &member) {
                for (int waits = 0; waits < (&share == &shares[0] ? 3 : 50); ++waits) member.wait();
                const auto [begin, end] = member.share(100);
                share += end - begin;
                member.wait();
                expect_together(share, 100);
            });
        make(passes, threads);
        for (const std::atomic<int> &share : shares) expect_close("of a pass", share, 100);
    }
}

// A batch is parted where that costs few lanes; every sequence is in one part at each of its steps.
void check_parts(const std::vector<int64_t> &sizes, int most, int wanted) {
    const Batch batch(sizes.data(), static_cast<int>(sizes.size()), false, most);
    expect_close("parts", static_cast<double>(batch.parts().size()), wanted);
    std::vector<int> rows;
    for (const Steps &steps : batch.parts())
        for (int t = 0; t < steps.count(); ++t)
            for (int lane = 0; lane < steps.live[t]; ++lane)
                rows.push_back(static_cast<int>(steps.first_row[t]) + lane * steps.row_step);
    std::sort(rows.begin(), rows.end());
    for (size_t i = 0; i < rows.size(); ++i) expect_close("row", rows[i], static_cast<double>(i));
    expect_close("rows", static_cast<double>(rows.size()),
                 static_cast<double>(std::accumulate(sizes.begin(), sizes.end(), int64_t{0})));
}

// Members that have fallen asleep see what the last to arrive has done.
void check_barrier() {
    int rounds = 0;
    std::vector<int> seen(3);
    together(3, [&](const Member &member) {
        for (int round = 0; round < 20; ++round) {
            if (member.number == round % member.members) {
                if (round % 4 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
                ++rounds;
            }
            member.wait();
            seen[member.number] += rounds;
            member.wait();
        }
    });
    for (const int sum : seen) expect_close("rounds seen", sum, 20 * 21 / 2);
}

void check_memory() {
    const float *before;
    {
        const Memory first(100000);
        before = first.data();
    }
    const Memory again(99000), other(99000);
    expect_close("memory is kept", again.data() == before, 1);
    expect_close("memory is one's own", other.data() == before, 0);
    for (const Memory *memory : {&again, &other})
        expect_close("begins on a line", reinterpret_cast<uintptr_t>(memory->data()) % 64, 0);
}

int main() {
    check_barrier();
    check_apart();
    check_make();
    check_memory();
    const std::vector<int64_t> ragged = {20, 20, 17, 16, 3, 1}, long_one(40, 2);
    const std::vector<int64_t> for_two = {32, 32, 32, 31, 18, 1}, for_three(6, 47);
    const std::vector<int64_t> wide(1, 256); // more lanes a step than gradients add up at once
    check_parts(for_two, 2, 2);
    check_parts(for_three, 3, 3);
    check_parts(for_three, 6, 3);
    check_parts(for_three, 4, 1); // two parts would have 64 lanes at a step
    check_parts(ragged, 2, 1);
    check_parts({1}, 4, 1);
    const std::vector<Path> paths = all_paths();
    using Widths = std::vector<std::vector<int>>; // of the hidden layers of each gate
    for (const Widths &widths : {Widths{{}, {}, {}, {}}, Widths{{10}, {10}, {10}, {10}},
                                 Widths{{5}, {}, {14, 3}, {6, 25, 4}}})
        for (const double density : {0.0, 0.3, 1.0})
            for (const auto &sizes : {ragged, long_one})
                for (const bool reverse : {false, true}) {
                    const Sample sample(widths, density, sizes, reverse);
                    for (const Path &path : paths) {
                        check(path, sample, 1, 1, true);
                        check(path, sample, 3, 1, false);
                    }
                }
    for (const Widths &widths : {Widths{{16}, {32}, {16, 3}, {48, 25, 4}},
                                 Widths{{5}, {}, {14, 3}, {6, 25, 4}}})
        for (const auto &sizes : {ragged, for_two}) { // panels begin with gates, or they do not
            const Sample sample(widths, 0.3, sizes, false, true);
            for (const Path &path : paths)
                for (const int threads : {1, 3, 5})
                    check(path, sample, threads, sizes == for_two ? 2 : 1, false);
        }
    for (const double density : {0.3, 1.0})
        for (const bool reverse : {false, true}) {
            const Sample two({{5}, {}, {14, 3}, {6, 25, 4}}, density, for_two, reverse);
            const Sample three({{}, {}, {}, {}}, density, for_three, reverse);
            for (const Path &path : paths) {
                for (const int threads : {1, 2, 5}) check(path, two, threads, 2, threads == 1);
                check(path, three, 2, 3, false);
            }
        }
    const Sample many({{}, {}, {}, {}}, 0.3, wide, false, true);
    for (const Path &path : paths) check(path, many, 2, 1, false);
    for (const Widths &widths : {Widths{{20}, {21}, {21}, {20}}, // gates alike, which members part
                                 Widths{{9, 11}, {11, 9}, {10, 10}, {9, 9, 2}},
                                 Widths{{16}, {32}, {32}, {16}}}) // panels begin with groups
        for (const bool blocks : {false, true})
            for (const double density : {0.3, 1.0})
                for (const bool reverse : {false, true}) {
                    const Sample sample(widths, density, ragged, reverse, blocks);
                    for (const Path &path : paths)
                        for (const int threads : {1, 2, 3, 4})
                            check(path, sample, threads, 1, threads == 2);
                }
    for (const Path &path : paths) {
        check_dense(path, 1, 1, 16);
        check_dense(path, 12, 6, 64);
        check_dense(path, 30, 37, 48);
        check_dense(path, 14, 70, 272); // more lanes than are added up at once
    }
    for (const Kernels *kernels : available_kernels()) {
        check_dropout(*kernels, ragged, 7);
        check_dropout(*kernels, long_one, 5);
        check_dropout(*kernels, for_two, 5);
        std::printf("%s ", kernels->name);
    }
    std::printf("%d values of training checked, %d failed\n", checks, failures);
    return failures ? 1 : 0;
}
