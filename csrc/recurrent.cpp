#include "recurrent.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace growprune {
namespace {

// Steps times sequences whose products with the input are computed together: enough to reuse each
// weight many times, few enough for their sums to stay in the cache.
constexpr int PROJECTED_TOGETHER = 32;

std::vector<float> padded_to_panels(std::vector<float> values) {
    values.resize(padded(static_cast<int>(values.size())));
    return values;
}

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
                     std::vector<float> bias, std::vector<float> hidden_bias,
                     std::vector<std::vector<Stage>> stages, float slope)
    : kernels_(kernels), kind_(kind), ih_(std::move(ih)), hh_(std::move(hh)),
      bias_(padded_to_panels(std::move(bias))),
      hidden_bias_(padded_to_panels(std::move(hidden_bias))), slope_(slope),
      hidden_(hh_.matrix.columns), stride_(padded(hh_.matrix.rows) + PANEL) {
    int row = 0;
    for (auto &of_gate : stages) {
        const int width = of_gate.empty() ? hidden_ : of_gate[0].weight.matrix.columns;
        for (Stage &stage : of_gate) stage.bias = padded_to_panels(std::move(stage.bias));
        gates_.push_back({std::move(of_gate), row, width, false, {}, {}});
        row += width;
    }
}

void Recurrent::run(const float *x, const int64_t *lengths, int batch, int time, float *h,
                    float *c, float *outputs, bool reverse) {
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
    const int together = std::max(1, PROJECTED_TOGETHER / std::max(1, batch));
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
        const float *projected = project(inputs_);
        for (int t = begin; t < end; ++t) {
            const int n = alive[t - begin];
            for (int i = 0; i < n; ++i)
                states_.new_h[i] = row_of(outputs, place(i, t), hidden_);
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
    reserve(batch);
    inputs_.clear();
    for (int i = 0; i < batch; ++i) {
        inputs_.push_back(row_of(x, i, input()));
        states_.h[i] = row_of(h, i, hidden_);
        states_.c[i] = row_of(c, i, hidden_);
        states_.new_h[i] = row_of(new_h, i, hidden_);
        states_.new_c[i] = row_of(new_c, i, hidden_);
    }
    advance(project(inputs_), batch);
}

// Makes room for so many sequences; allocates only where there was less before.
void Recurrent::reserve(int batch) {
    states_.h.resize(batch);
    states_.c.resize(batch);
    states_.new_h.resize(batch);
    states_.new_c.resize(batch);
    stage_inputs_.resize(batch);
    sums_.resize(batch * stride_);
    for (GateNetwork &gate : gates_) {
        int widest = gate.first_width;
        for (const Stage &stage : gate.stages) widest = std::max(widest, stage.weight.matrix.rows);
        if (gate.stages.empty()) continue;
        gate.activations.resize(static_cast<size_t>(batch) * padded(widest));
        gate.sums.resize(static_cast<size_t>(batch) * padded(widest));
    }
}

// What the inputs add to the first stage's sums, with the bias.
const float *Recurrent::project(const std::vector<const float *> &x) {
    const int n = static_cast<int>(x.size());
    projected_.resize(n * stride_);
    product(ih_.matrix, x.data(), n, projected_.data(), stride_, bias_.data());
    return projected_.data();
}

// Moves the first n sequences one step on.
void Recurrent::advance(const float *projected, int n) {
    const bool only_stage = std::all_of(gates_.begin(), gates_.end(),
                                        [](const GateNetwork &gate) { return gate.stages.empty(); });
    // A gate's rows must start at a panel for the cell to compute them by itself.
    first_stage_fused_ = only_stage && hidden_ % PANEL == 0 && fuses(hh_.matrix, n);
    if (!first_stage_fused_)
        product(hh_.matrix, states_.h.data(), n, sums_.data(), stride_, nullptr);
    for (GateNetwork &gate : gates_)
        if (!gate.stages.empty()) run_stages(gate, projected, n);
    for (int i = 0; i < n; ++i) update_states(projected + i * stride_, i);
}

bool Recurrent::fuses(const Matrix &matrix, int n) const {
    return n == 1 && matrix.layout != Layout::csr;
}

void Recurrent::run_stages(GateNetwork &gate, const float *projected, int n) {
    int width = padded(gate.first_width);
    for (int i = 0; i < n; ++i) {
        const ptrdiff_t at = i * stride_ + gate.first_row;
        kernels_.rectify_sum(projected + at, sums_.data() + at, slope_,
                             gate.activations.data() + i * width, gate.first_width);
    }
    for (const Stage &stage : gate.stages) {
        const Matrix &matrix = stage.weight.matrix;
        const bool last = &stage == &gate.stages.back();
        gate.fused = last && fuses(matrix, n) &&
                     !kernels_.skips_zeros(matrix, gate.activations.data());
        if (gate.fused) return;
        for (int i = 0; i < n; ++i) stage_inputs_[i] = gate.activations.data() + i * width;
        width = padded(matrix.rows);
        product(matrix, stage_inputs_.data(), n, gate.sums.data(), width, nullptr);
        if (last) return;
        for (int i = 0; i < n; ++i)
            kernels_.rectify_sum(stage.bias.data(), gate.sums.data() + i * width, slope_,
                                 gate.activations.data() + i * width, matrix.rows);
    }
}

void Recurrent::update_states(const float *projected, int sequence) {
    Gate gates[4];
    for (size_t k = 0; k < gates_.size(); ++k) gates[k] = ends_of(gates_[k], projected, sequence);
    if (kind_ == Kind::lstm)
        return kernels_.lstm(gates, hidden_, states_.c[sequence], states_.new_h[sequence],
                             states_.new_c[sequence]);
    const float *input = gates[2].addend;
    gates[2].addend = hidden_bias_.data();
    kernels_.gru(gates, input, hidden_, states_.h[sequence], states_.new_h[sequence]);
}

// Where the sums come from that the gate's sigmoid or tanh takes.
Gate Recurrent::ends_of(const GateNetwork &gate, const float *projected, int sequence) const {
    if (gate.stages.empty()) {
        const float *addend = projected + gate.first_row;
        if (first_stage_fused_)
            return {addend, nullptr, &hh_.matrix, gate.first_row / PANEL, states_.h[sequence]};
        return {addend, sums_.data() + sequence * stride_ + gate.first_row, nullptr, 0, nullptr};
    }
    const Stage &last = gate.stages.back();
    if (gate.fused)
        return {last.bias.data(), nullptr, &last.weight.matrix, 0, gate.activations.data()};
    return {last.bias.data(), gate.sums.data() + sequence * padded(hidden_), nullptr, 0, nullptr};
}

void Recurrent::product(const Matrix &matrix, const float *const *x, int n, float *y,
                        ptrdiff_t stride, const float *bias) {
    scratch_.resize(std::max(scratch_.size(), scratch_floats(matrix)));
    kernels_.product(matrix, x, n, y, stride, bias, scratch_.data());
}

} // namespace growprune
