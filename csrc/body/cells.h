// The ends of the recurrent layers: from the sums of the gates to the states.
#pragma once

namespace growprune::KERNEL_PATH {

// Vectors of units worked on at once.
constexpr int ABREAST = REGISTERS / 8;
constexpr int UNITS = WIDTH * ABREAST;
static_assert(UNITS <= MARGIN, "the gates can be read this far beyond the last unit");

void lstm(const float *const *gates, int hidden, const float *c, float *new_h, float *new_c) {
    constexpr int N = ABREAST;
    for (int at = 0; at < hidden; at += UNITS) {
        const int live = hidden - at;
        const auto i = load<N>(gates[0] + at), f = load<N>(gates[1] + at);
        const auto g = load<N>(gates[2] + at), o = load<N>(gates[3] + at);
        const auto cell = f * load<N>(c + at, live) + i * g;
        store(cell, new_c + at, live);
        store(o * near_tanh(cell), new_h + at, live);
    }
}

void gru(const float *const *from_x, const float *const *from_h, int hidden, const float *h,
         float *new_h) {
    constexpr int N = ABREAST;
    for (int at = 0; at < hidden; at += UNITS) {
        const int live = hidden - at;
        const auto r = sigmoid(load<N>(from_x[0] + at) + load<N>(from_h[0] + at));
        const auto z = sigmoid(load<N>(from_x[1] + at) + load<N>(from_h[1] + at));
        const auto n = tanh(load<N>(from_x[2] + at) + r * load<N>(from_h[2] + at));
        const auto before = load<N>(h + at, live);
        store(n + z * (before - n), new_h + at, live);
    }
}

} // namespace growprune::KERNEL_PATH
