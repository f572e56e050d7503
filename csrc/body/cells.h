// The ends of the recurrent layers: gates and states, 16 units at a time. A unit's last products
// are computed right before they are used, so that the processor overlaps the arithmetic of one
// group of units with the reading of weights for the next.
#pragma once

namespace growprune::KERNEL_PATH {

inline Lanes gate_sums(const Gate &gate, int group) {
    const Lanes addend = load(gate.addend + PANEL * group);
    if (!gate.matrix) return addend + load(gate.sums + PANEL * group);
    return addend + panel_product(*gate.matrix, gate.panel + group, gate.x);
}

void rectify_sum(const float *a, const float *b, float slope, float *y, int n) {
    for (int i = 0; i < n; i += PANEL) {
        const auto rectify = [slope](Vec x) { return leaky_relu(x, slope); };
        store(map(rectify, load(a + i, n - i) + load(b + i, n - i)), y + i, n - i);
    }
}

void lstm(const Gate *gates, int hidden, const float *c, float *new_h, float *new_c) {
    for (int group = 0; group < panels_of(hidden); ++group) {
        const int at = PANEL * group, live = hidden - at;
        const Lanes i = map(sigmoid, gate_sums(gates[0], group));
        const Lanes f = map(sigmoid, gate_sums(gates[1], group));
        const Lanes g = map(tanh, gate_sums(gates[2], group));
        const Lanes o = map(sigmoid, gate_sums(gates[3], group));
        const Lanes cell = f * load(c + at, live) + i * g;
        store(cell, new_c + at, live);
        store(o * map(tanh, cell), new_h + at, live);
    }
}

void gru(const Gate *gates, const float *input, int hidden, const float *h, float *new_h) {
    for (int group = 0; group < panels_of(hidden); ++group) {
        const int at = PANEL * group, live = hidden - at;
        const Lanes r = map(sigmoid, gate_sums(gates[0], group));
        const Lanes z = map(sigmoid, gate_sums(gates[1], group));
        const Lanes n = map(tanh, load(input + at) + r * gate_sums(gates[2], group));
        const auto complement = [](Vec x) { return 1.0f - x; };
        store(map(complement, z) * n + z * load(h + at, live), new_h + at, live);
    }
}

} // namespace growprune::KERNEL_PATH
