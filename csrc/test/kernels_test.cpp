// Every path against plain loops, without Python: run under the sanitizers, and on ARM in an
// emulator. Prints what it checked; ends with 1 and the first differences where one is too large.

#include "../paths.h"
#include "../prepare.h"
#include "../recurrent.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <random>
#include <vector>

using namespace growprune;

namespace {

int checks = 0, failures = 0;
std::mt19937 generator(1);

// Memory of exactly this many floats, so that a sanitizer sees any access beyond them.
struct Floats {
    explicit Floats(size_t n) : size(n), data(new float[n]()) {}
    float &operator[](size_t i) { return data[i]; }
    const float &operator[](size_t i) const { return data[i]; }
    float *get() { return data.get(); }
    const float *get() const { return data.get(); }

    size_t size;
    std::unique_ptr<float[]> data;
};

float uniform() { return std::uniform_real_distribution<float>(-1.0f, 1.0f)(generator); }

Floats random_floats(size_t n) {
    Floats values(n);
    for (size_t i = 0; i < n; ++i) values[i] = uniform();
    return values;
}

void expect_close(const char *what, const char *path, double found, double wanted, double scale) {
    ++checks;
    if (std::abs(found - wanted) <= 1e-5 * scale) return;
    if (++failures < 10) std::printf("%s on %s: %g instead of %g\n", what, path, found, wanted);
}

// A matrix as it is, and prepared.
struct Sample {
    int rows, columns;
    std::vector<double> dense;
    Prepared prepared;

    double times(int row, const float *x) const {
        double sum = 0;
        for (int c = 0; c < columns; ++c) sum += dense[row * columns + c] * x[c];
        return sum;
    }
};

// Draws a matrix of which about `density` is not zero, in single weights or, for blocks, in
// blocks; with Value int8_t it has a scale for each row.
template <class Value>
Sample draw(const Kernels &kernels, Layout layout, int rows, int columns, double density) {
    const bool quantized = sizeof(Value) == 1;
    const int panels = panels_of(rows), height = layout == Layout::blocks ? PANEL : 1;
    std::bernoulli_distribution kept(density);
    std::vector<char> mask(static_cast<size_t>(layout == Layout::blocks ? panels : rows) * columns);
    for (char &bit : mask) bit = kept(generator);
    std::vector<Value> whole(static_cast<size_t>(PANEL) * panels * columns);
    std::vector<float> scales(rows, 1.0f);
    if (quantized)
        for (float &scale : scales) scale = 0.01f + 0.005f * uniform();
    Sample sample{rows, columns, std::vector<double>(static_cast<size_t>(rows) * columns), {}};
    for (int r = 0; r < PANEL * panels; ++r)
        for (int c = 0; c < columns; ++c) {
            if (r / height * columns + c >= static_cast<int>(mask.size())) continue;
            if (!mask[r / height * columns + c]) continue;
            const auto value = static_cast<Value>(quantized ? 127 * uniform() : uniform());
            whole[r * columns + c] = value;
            if (r < rows) sample.dense[r * columns + c] = static_cast<double>(scales[r]) * value;
        }
    const float *given = quantized ? scales.data() : nullptr;
    std::vector<int32_t> starts{0}, indices;
    std::vector<Value> values;
    if (layout == Layout::dense) {
        sample.prepared = prepare_dense(rows, columns, whole.data(), given);
    } else if (layout == Layout::csr) {
        for (int r = 0; r < rows; ++r) {
            for (int c = 0; c < columns; ++c)
                if (mask[r * columns + c]) {
                    indices.push_back(c);
                    values.push_back(whole[r * columns + c]);
                }
            starts.push_back(static_cast<int32_t>(indices.size()));
        }
        sample.prepared =
            prepare_csr(rows, columns, starts.data(), indices.data(), values.data(), given);
    } else {
        for (int c = 0; c < columns; ++c) {
            for (int p = 0; p < panels; ++p)
                if (mask[p * columns + c]) {
                    indices.push_back(p);
                    for (int r = 0; r < PANEL; ++r)
                        values.push_back(whole[(PANEL * p + r) * columns + c]);
                }
            starts.push_back(static_cast<int32_t>(indices.size()));
        }
        sample.prepared =
            prepare_blocks(rows, columns, starts.data(), indices.data(), values.data(), given,
                           kernels.bundle);
    }
    return sample;
}

template <class Value> void check_products(const Kernels &kernels, Layout layout) {
    for (const auto &[rows, columns] : {std::pair{1, 1}, {16, 9}, {37, 20}, {130, 61}, {3, MOST_COLUMNS + 2}})
        for (const double density : {0.0, 0.03, 0.5, 1.0}) {
            if (columns > MOST_COLUMNS && density > 0.1) continue;
            const Sample W = draw<Value>(kernels, layout, rows, columns, density);
            for (const int n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 19, 66}) {
                Floats x = random_floats(static_cast<size_t>(n) * columns);
                if (n == 1 && density == 0.5)
                    for (int c = 0; c < columns; ++c) x[c] *= uniform() > 0.5f;
                const Floats bias = random_floats(padded(rows));
                Floats scratch(scratch_floats(W.prepared.matrix));
                std::vector<const float *> inputs;
                for (int i = 0; i < n; ++i) inputs.push_back(x.get() + i * columns);
                for (const bool backwards : {false, true}) {
                    Floats y(static_cast<size_t>(n) * rows);
                    kernels.product(W.prepared.matrix, inputs.data(), n, bias.get(), 0, nullptr,
                                    y.get(), rows, scratch.get(), backwards);
                    for (int i = 0; i < n; ++i)
                        for (int r = 0; r < rows; ++r)
                            expect_close("product", kernels.name, y[i * rows + r],
                                         W.times(r, inputs[i]) + bias[r], std::sqrt(columns) + 1);
                }
            }
        }
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// One step of an LSTM whose gates have one hidden layer each, or none.
void slow_lstm(const Sample &ih, const Sample &hh, const AlignedFloats &bias,
               const std::vector<Sample> &later, const AlignedFloats &later_bias, float slope,
               const float *x, std::vector<float> &h, std::vector<float> &c) {
    const int hidden = hh.columns, width = hh.rows / 4;
    std::vector<float> first(hh.rows), gates(4 * hidden);
    for (int r = 0; r < hh.rows; ++r)
        first[r] = static_cast<float>(ih.times(r, x) + hh.times(r, h.data()) + bias[r]);
    if (!later.empty())
        for (float &value : first) value = value > 0 ? value : slope * value;
    for (int k = 0; k < 4; ++k)
        for (int r = 0; r < hidden; ++r)
            gates[k * hidden + r] =
                later.empty() ? first[k * width + r]
                              : static_cast<float>(later[k].times(r, first.data() + k * width)) +
                                    later_bias[r];
    for (int r = 0; r < hidden; ++r) {
        const double i = sigmoid(gates[r]), f = sigmoid(gates[hidden + r]);
        const double g = std::tanh(gates[2 * hidden + r]), o = sigmoid(gates[3 * hidden + r]);
        c[r] = static_cast<float>(f * c[r] + i * g);
        h[r] = static_cast<float>(o * std::tanh(c[r]));
    }
}

// Ragged sequences, in both directions, against the slow layer; then one step by itself.
void check_lstm(const Kernels &kernels, Layout layout, int input, int hidden, int width) {
    const int batch = 3, time = 5;
    const bool deep = width != hidden;
    const Sample ih = draw<float>(kernels, layout, 4 * width, input, 0.4);
    const Sample hh = draw<float>(kernels, layout, 4 * width, hidden, 0.4);
    AlignedFloats bias(4 * width), later_bias(hidden);
    for (float &value : bias) value = uniform();
    for (float &value : later_bias) value = uniform();
    std::vector<Sample> later;
    std::vector<std::vector<Stage>> stages(4);
    for (int k = 0; deep && k < 4; ++k) {
        later.push_back(draw<float>(kernels, layout, hidden, width, 0.4));
        stages[k].push_back({later[k].prepared, later_bias});
    }
    Recurrent layer(kernels, Kind::lstm, ih.prepared, hh.prepared, bias,
                    AlignedFloats(4 * width), stages, 0.0f);
    const Floats x = random_floats(static_cast<size_t>(batch) * time * input);
    const int64_t lengths[batch] = {3, time, 0};
    for (const bool reverse : {false, true}) {
        Floats h(static_cast<size_t>(batch) * hidden), c(h.size), outputs(h.size * time);
        layer.run(x.get(), lengths, batch, time, h.get(), c.get(), outputs.get(), reverse);
        for (int b = 0; b < batch; ++b) {
            std::vector<float> slow_h(hidden), slow_c(hidden);
            for (int64_t t = 0; t < lengths[b]; ++t) {
                const int64_t place = b * time + (reverse ? lengths[b] - 1 - t : t);
                slow_lstm(ih, hh, bias, later, later_bias, 0.0f, x.get() + place * input, slow_h,
                          slow_c);
                for (int r = 0; r < hidden; ++r)
                    expect_close("lstm", kernels.name, outputs[place * hidden + r], slow_h[r], 1);
            }
            for (int r = 0; r < hidden; ++r) {
                expect_close("last h", kernels.name, h[b * hidden + r], slow_h[r], 1);
                expect_close("last c", kernels.name, c[b * hidden + r], slow_c[r], 5);
            }
        }
    }
    Floats h(hidden), c(hidden), new_h(hidden), new_c(hidden);
    layer.step(x.get(), 1, h.get(), c.get(), new_h.get(), new_c.get());
    std::vector<float> slow_h(hidden), slow_c(hidden);
    slow_lstm(ih, hh, bias, later, later_bias, 0.0f, x.get(), slow_h, slow_c);
    for (int r = 0; r < hidden; ++r)
        expect_close("step", kernels.name, new_h[r], slow_h[r], 1);
}

void check_gru(const Kernels &kernels, Layout layout, int input, int hidden) {
    const Sample ih = draw<float>(kernels, layout, 3 * hidden, input, 0.4);
    const Sample hh = draw<float>(kernels, layout, 3 * hidden, hidden, 0.4);
    AlignedFloats bias(3 * hidden), hidden_bias(3 * hidden);
    for (float &value : bias) value = uniform();
    for (int r = 2 * hidden; r < 3 * hidden; ++r) hidden_bias[r] = uniform();
    Recurrent layer(kernels, Kind::gru, ih.prepared, hh.prepared, bias, hidden_bias,
                    std::vector<std::vector<Stage>>(3), 0.0f);
    const Floats x = random_floats(input), h = random_floats(hidden);
    Floats new_h(hidden);
    layer.step(x.get(), 1, h.get(), nullptr, new_h.get(), nullptr);
    for (int r = 0; r < hidden; ++r) {
        double from_x[3], from_h[3];
        for (int k = 0; k < 3; ++k) {
            from_x[k] = ih.times(k * hidden + r, x.get()) + bias[k * hidden + r];
            from_h[k] = hh.times(k * hidden + r, h.get()) + hidden_bias[k * hidden + r];
        }
        const double reset = sigmoid(from_x[0] + from_h[0]), z = sigmoid(from_x[1] + from_h[1]);
        const double n = std::tanh(from_x[2] + reset * from_h[2]);
        expect_close("gru", kernels.name, new_h[r], (1 - z) * n + z * h[r], 1);
    }
}

void check_functions(const Kernels &kernels) {
    const float infinity = std::numeric_limits<float>::infinity();
    for (const int n : {1, 15, 64, 101}) {
        Floats x = random_floats(n), y(n), weight = random_floats(n), bias = random_floats(n);
        for (int i = 0; i < n; ++i) x[i] *= 20;
        if (n > 4) x[0] = infinity, x[1] = -infinity, x[2] = 1e-42f, x[3] = -3e38f;
        kernels.sigmoid(x.get(), y.get(), n);
        for (int i = 0; i < n; ++i) expect_close("sigmoid", kernels.name, y[i], sigmoid(x[i]), 1);
        for (const float k : {0.5f, 1.0f}) {
            const std::vector<float> panel(PANEL, k);
            const std::vector<const float *> all(panels_of(n), panel.data());
            kernels.squash(x.get(), all.data(), y.get(), n);
            for (int i = 0; i < n; ++i)
                expect_close("squash", kernels.name, y[i], k == 1 ? std::tanh(x[i]) : sigmoid(x[i]),
                             0.05);
        }
        kernels.tanh(x.get(), y.get(), n);
        for (int i = 0; i < n; ++i) expect_close("tanh", kernels.name, y[i], std::tanh(x[i]), 1);
        x = random_floats(n);
        double sum = 0, squares = 0, powers = 0;
        for (int i = 0; i < n; ++i) sum += x[i], powers += std::exp(x[i]);
        for (int i = 0; i < n; ++i) squares += std::pow(x[i] - sum / n, 2);
        kernels.leaky_relu(x.get(), 0.1f, y.get(), n);
        for (int i = 0; i < n; ++i)
            expect_close("leaky_relu", kernels.name, y[i], x[i] > 0 ? x[i] : 0.1 * x[i], 1);
        kernels.layer_norm(x.get(), weight.get(), bias.get(), 1e-3f, y.get(), 1, n);
        for (int i = 0; i < n; ++i)
            expect_close("layer_norm", kernels.name, y[i],
                         (x[i] - sum / n) / std::sqrt(squares / n + 1e-3) * weight[i] + bias[i], 5);
        kernels.log_softmax(x.get(), y.get(), 1, n);
        for (int i = 0; i < n; ++i)
            expect_close("log_softmax", kernels.name, y[i], x[i] - std::log(powers), 5);
    }
}

} // namespace

int main() {
    for (const Kernels *kernels : available_kernels()) {
        const int before = checks;
        check_functions(*kernels);
        for (const Layout layout : {Layout::dense, Layout::csr, Layout::blocks}) {
            check_products<float>(*kernels, layout);
            check_products<int8_t>(*kernels, layout);
            check_lstm(*kernels, layout, 11, 13, 13);
            check_lstm(*kernels, layout, 20, 32, 32);
            check_lstm(*kernels, layout, 9, 21, 40);
            check_gru(*kernels, layout, 11, 13);
            check_gru(*kernels, layout, 16, 48);
        }
        std::printf("%-9s %d values checked\n", kernels->name, checks - before);
    }
    std::printf("%d failed\n", failures);
    return failures ? 1 : 0;
}
