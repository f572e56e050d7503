// The ends of the recurrent layers: from the sums of the gates to the states.
#pragma once

namespace growprune::KERNEL_PATH {

// Vectors of units worked on at once; the three sigmoids of an LSTM then fill the registers.
constexpr int ABREAST = REGISTERS / 16;
constexpr int UNITS = WIDTH * ABREAST;
static_assert(UNITS <= MARGIN, "the gates' sums can be read this far beyond the last unit");

// One pack after the other.
template <int N> INLINE Pack<3 * N> joined(Pack<N> a, Pack<N> b, Pack<N> c) {
    Pack<3 * N> all;
    EACH_PART {
        all.part[q] = a.part[q];
        all.part[N + q] = b.part[q];
        all.part[2 * N + q] = c.part[q];
    }
    return all;
}

template <int N> INLINE Pack<N> third(const Pack<3 * N> &all, int which) {
    Pack<N> pack;
    EACH_PART pack.part[q] = all.part[which * N + q];
    return pack;
}

void lstm(const float *const *gates, int hidden, const float *c, float *new_h, float *new_c) {
    constexpr int N = ABREAST;
    for (int at = 0; at < hidden; at += UNITS) {
        const int live = hidden - at;
        const auto ifo = sigmoid(joined(load<N>(gates[0] + at), load<N>(gates[1] + at),
                                        load<N>(gates[3] + at)));
        const auto g = tanh(load<N>(gates[2] + at));
        const auto cell = third<N>(ifo, 1) * load<N>(c + at, live) + third<N>(ifo, 0) * g;
        store(cell, new_c + at, live);
        store(third<N>(ifo, 2) * tanh(cell), new_h + at, live);
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
