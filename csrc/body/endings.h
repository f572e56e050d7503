// What becomes of a product's sums.
#pragma once

namespace growprune::KERNEL_PATH {

constexpr int PARTS = PANEL / WIDTH;

// How many panels' sums fit into the registers, beside what is added to them.
constexpr int SUMS = REGISTERS * 3 / 4 / PARTS;

template <class Value> INLINE const Value *values(Values v) {
    return static_cast<const Value *>(v.data);
}

// y[i] = squash(sums + addend[i], k), or without squashing where k is null. The addend can be read
// to whole panels; k points to the numbers of each.
struct Ending {
    const float *addend;
    ptrdiff_t stride; // of addend
    const float *const *k;

    INLINE Ending from(ptrdiff_t i) const { return {addend + i * stride, stride, k}; }
};

// int8 weights have scales, float weights have none.
template <class Value> INLINE Lanes scaled(const Matrix &W, Lanes sums, int row) {
    return sizeof(Value) == 1 ? sums * load_lanes(W.scales + row) : sums;
}

// One vector and N panels that lie inside the matrix.
template <class Value, int N>
INLINE void finish_vector(const Matrix &W, const Lanes (&sums)[N], const int32_t *panels,
                          Ending ending, float *y) {
    // Panels at once: two where there are registers for their functions' vectors.
    constexpr int AT_ONCE = N % 2 == 0 && 16 * PARTS <= REGISTERS ? 2 : 1;
    UNROLL for (int first = 0; first < N; first += AT_ONCE) {
        Pack<AT_ONCE * PARTS> all, k;
        UNROLL for (int j = 0; j < AT_ONCE; ++j) {
            const int at = PANEL * panels[first + j];
            place(scaled<Value>(W, sums[first + j], at) + load_lanes(ending.addend + at), all, j);
            if (ending.k) place(load_lanes(ending.k[panels[first + j]]), k, j);
        }
        if (ending.k) all = squash(all, k);
        UNROLL for (int j = 0; j < AT_ONCE; ++j)
            store(part_of<PARTS>(all, j), y + PANEL * panels[first + j]);
    }
}

// N vectors and one panel that lies inside the matrix: all but squashing.
template <class Value, int N>
INLINE void finish_tile(const Matrix &W, const Lanes (&sums)[N], int panel, Ending ending, float *y,
                        ptrdiff_t y_stride) {
    const int at = PANEL * panel;
    const float *addend = ending.addend + at;
    const Lanes first = load_lanes(addend);
    UNROLL for (int i = 0; i < N; ++i) {
        const Lanes added = ending.stride ? load_lanes(addend + i * ending.stride) : first;
        store(scaled<Value>(W, sums[i], at) + added, y + i * y_stride + at);
    }
}

// One vector and one panel that may stick out of the matrix, or may be none (-1). Not inlined, and
// with its sums in memory: for the loops around it, which keep theirs in registers.
template <class Value>
__attribute__((noinline)) void finish_last(const Matrix &W, const Lanes *sums, int panel,
                                           Ending ending, float *y) {
    if (panel < 0) return;
    const int at = PANEL * panel;
    Lanes all = scaled<Value>(W, *sums, at) + load_lanes(ending.addend + at);
    if (ending.k) all = squash(all, load_lanes(ending.k[panel]));
    store(all, y + at, W.rows - at);
}

} // namespace growprune::KERNEL_PATH
