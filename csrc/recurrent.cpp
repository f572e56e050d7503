#include "recurrent.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace growprune {
namespace {

AlignedFloats padded_to_panels(AlignedFloats values) {
    values.resize(padded(static_cast<int>(values.size())));
    return values;
}

// From one row to the next in the gates' buffers: after every row there is room to read on.
ptrdiff_t stride_of(int rows) { return padded(rows) + MARGIN; }

// The gate g of i, f, g, o, and what Kernels::squash makes of the gates.
constexpr size_t NEW = 2;
constexpr float SIGMOID = 0.5f, TANH = 1.0f;

// Steps times sequences whose products with the input are computed together: enough to reuse each
// weight many times, few enough for their sums to stay in the cache. Sparse weights come from a near
// cache, where the sums take their room; dense ones are read from afar.
int projected_together(const Matrix &ih) { return ih.layout == Layout::dense ? 24 : 12; }

std::vector<int> by_falling_length(const int64_t *lengths, int batch) {
    std::vector<int> order(batch);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [lengths](int a, int b) { return lengths[a] > lengths[b]; });
    return order;
}

template <class Pointer> Pointer row_of(Pointer rows, int64_t row, int width) {
    return rows ? rows + row * width : nullptr;
}

} // namespace

Recurrent::Recurrent(const Kernels &kernels, Kind kind, Prepared ih, Prepared hh,
                     AlignedFloats bias, AlignedFloats hidden_bias,
                     std::vector<std::vector<Stage>> stages, float slope)
    : kernels_(kernels), kind_(kind), ih_(std::move(ih)), hh_(std::move(hh)),
      bias_(padded_to_panels(std::move(bias))),
      hidden_bias_(padded_to_panels(std::move(hidden_bias))), slope_(slope),
      hidden_(hh_.matrix.columns), stride_(stride_of(hh_.matrix.rows)) {
    AlignedFloats all_k;
    bool deep = false;
    int row = 0;
    for (auto &of_gate : stages) {
        deep |= !of_gate.empty();
        const int width = of_gate.empty() ? hidden_ : of_gate[0].weight.matrix.columns;
        for (Stage &stage : of_gate) stage.bias = padded_to_panels(std::move(stage.bias));
        const float k = gates_.size() == NEW ? TANH : SIGMOID;
        gates_.push_back(
            {std::move(of_gate), row, Squashing(AlignedFloats(hidden_, k)), {}, {}});
        all_k.insert(all_k.end(), hidden_, k);
        row += width;
    }
    if (!deep) squashing_ = Squashing(std::move(all_k));
}

Recurrent::Squashing::Squashing(AlignedFloats of_units)
    : units(padded_to_panels(std::move(of_units))) {
    for (size_t i = 0; i < units.size(); i += PANEL) {
        const float *alike = units.data();
        while (!std::equal(alike, alike + PANEL, units.data() + i)) alike += PANEL;
        k.push_back(alike);
    }
}

void Recurrent::run(const float *x, const int64_t *lengths, int batch, int time, float *h,
                    float *c, float *outputs, bool reverse) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::vector<int> order = by_falling_length(lengths, batch);
    const auto place = [&](int i, int t) {
        const int64_t sequence = order[i];
        return sequence * time + (reverse ? lengths[sequence] - 1 - t : t);
    };
    reserve(batch);
    for (int i = 0; i < batch; ++i) {
        states_.h[i] = row_of(h, order[i], hidden_);
        states_.c[i] = states_.new_c[i] = row_of(c, order[i], hidden_);
    }
    const int longest = batch ? static_cast<int>(lengths[order[0]]) : 0;
    const int together = std::max(1, projected_together(ih_.matrix) / std::max(1, batch));
    std::vector<int> alive; // sequences that reach each of the steps projected together
    for (int begin = 0; begin < longest; begin += together) {
        const int end = std::min(longest, begin + together);
        alive.clear();
        inputs_.clear();
        for (int t = begin; t < end; ++t) {
            int n = alive.empty() ? batch : alive.back();
            while (lengths[order[n - 1]] <= t) --n;
            alive.push_back(n);
            for (int i = 0; i < n; ++i) inputs_.push_back(row_of(x, place(i, t), input()));
        }
        float *projected = project(inputs_);
        for (int t = begin; t < end; ++t) {
            const int n = alive[t - begin];
            for (int i = 0; i < n; ++i)
                states_.new_h[i] = row_of(outputs, place(i, t), hidden_);
            // Weights too many for a cache: a step starts with those that the last one ended with.
            backwards_ = t % 2;
            advance(projected, n);
            std::copy_n(states_.new_h.begin(), n, states_.h.begin());
            projected += n * stride_;
        }
    }
    for (int i = 0; i < batch; ++i) {
        const int64_t sequence = order[i], length = lengths[sequence];
        if (length) std::copy_n(states_.h[i], hidden_, row_of(h, sequence, hidden_));
        std::fill(row_of(outputs, sequence * time + length, hidden_),
                  row_of(outputs, (sequence + 1) * time, hidden_), 0.0f);
    }
}

void Recurrent::step(const float *x, int batch, const float *h, const float *c, float *new_h,
                     float *new_c) {
    const std::lock_guard<std::mutex> lock(mutex_);
    reserve(batch);
    inputs_.clear();
    for (int i = 0; i < batch; ++i) {
        inputs_.push_back(row_of(x, i, input()));
        states_.h[i] = row_of(h, i, hidden_);
        states_.c[i] = row_of(c, i, hidden_);
        states_.new_h[i] = row_of(new_h, i, hidden_);
        states_.new_c[i] = row_of(new_c, i, hidden_);
    }
    backwards_ = false;
    advance(project(inputs_), batch);
}

// Makes room for so many sequences; allocates only where there was less before.
void Recurrent::reserve(int batch) {
    states_.h.resize(batch);
    states_.c.resize(batch);
    states_.new_h.resize(batch);
    states_.new_c.resize(batch);
    stage_inputs_.resize(batch);
    if (kind_ == Kind::gru) hidden_sums_.resize(batch * stride_);
    for (GateNetwork &gate : gates_) {
        for (const Stage &stage : gate.stages) {
            const Matrix &matrix = stage.weight.matrix;
            const int width = std::max(matrix.rows, matrix.columns);
            const size_t needed = batch * stride_of(width);
            gate.inputs.resize(std::max(gate.inputs.size(), needed));
            gate.sums.resize(std::max(gate.sums.size(), needed));
        }
    }
}

// What the inputs add to the first stage's sums, with the bias.
float *Recurrent::project(const std::vector<const float *> &x) {
    const int n = static_cast<int>(x.size());
    projected_.resize(std::max<size_t>(projected_.size(), n * stride_));
    product(ih_.matrix, x.data(), n, bias_.data(), 0, nullptr, projected_.data(), stride_);
    return projected_.data();
}

// Moves the first n sequences one step on.
void Recurrent::advance(float *projected, int n) {
    kind_ == Kind::lstm ? advance_lstm(projected, n) : advance_gru(projected, n);
}

// The sums take the place of the inputs' part of them, which then is in a cache anyway.
void Recurrent::advance_lstm(float *projected, int n) {
    const bool deep = squashing_.k.empty();
    float *const sums = projected;
    product(hh_.matrix, states_.h.data(), n, projected, stride_, deep ? nullptr : squashing_.k.data(),
            sums, stride_);
    if (deep)
        for (GateNetwork &gate : gates_) run_stages(gate, sums + gate.first_row, n);
    for (int i = 0; i < n; ++i) {
        const float *gates[4];
        for (int k = 0; k < 4; ++k)
            gates[k] = gates_[k].stages.empty() ? sums + i * stride_ + gates_[k].first_row
                                                : gates_[k].sums.data() + i * stride_of(hidden_);
        kernels_.lstm(gates, hidden_, states_.c[i], states_.new_h[i], states_.new_c[i]);
    }
}

void Recurrent::advance_gru(const float *projected, int n) {
    product(hh_.matrix, states_.h.data(), n, hidden_bias_.data(), 0, nullptr,
            hidden_sums_.data(), stride_);
    for (int i = 0; i < n; ++i) {
        const float *from_x[3], *from_h[3];
        for (int k = 0; k < 3; ++k) {
            from_x[k] = projected + i * stride_ + k * hidden_;
            from_h[k] = hidden_sums_.data() + i * stride_ + k * hidden_;
        }
        kernels_.gru(from_x, from_h, hidden_, states_.h[i], states_.new_h[i]);
    }
}

// From a gate's sums of the first stage to the gate: in its own sums, or in those of the first stage
// where it has no other.
void Recurrent::run_stages(GateNetwork &gate, float *sums, int n) {
    ptrdiff_t stride = stride_;
    for (const Stage &stage : gate.stages) {
        const Matrix &matrix = stage.weight.matrix;
        for (int i = 0; i < n; ++i) {
            float *input = gate.inputs.data() + i * stride_of(matrix.columns);
            kernels_.leaky_relu(sums + i * stride, slope_, input, matrix.columns);
            stage_inputs_[i] = input;
        }
        sums = gate.sums.data();
        stride = stride_of(matrix.rows);
        const bool is_last = &stage == &gate.stages.back();
        product(matrix, stage_inputs_.data(), n, stage.bias.data(), 0,
                is_last ? gate.squashing.k.data() : nullptr, sums, stride);
    }
    if (gate.stages.empty())
        for (int i = 0; i < n; ++i)
            kernels_.squash(sums + i * stride, gate.squashing.k.data(), sums + i * stride, hidden_);
}

void Recurrent::product(const Matrix &matrix, const float *const *x, int n, const float *addend,
                        ptrdiff_t addend_stride, const float *const *k, float *y,
                        ptrdiff_t y_stride) {
    scratch_.resize(std::max(scratch_.size(), scratch_floats(matrix)));
    kernels_.product(matrix, x, n, addend, addend_stride, k, y, y_stride, scratch_.data(),
                     backwards_);
}

} // namespace growprune
