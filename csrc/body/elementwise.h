// Activations and normalisation of whole arrays.
#pragma once

namespace growprune::KERNEL_PATH {

// Vectors worked on at once.
constexpr int STRIDE = REGISTERS / 8;

template <class Function> INLINE void each(Function function, const float *x, float *y, int64_t n) {
    constexpr int FLOATS = STRIDE * WIDTH;
    for (int64_t i = 0; i < n; i += FLOATS) {
        const int live = n - i < FLOATS ? static_cast<int>(n - i) : FLOATS;
        store(function(load<STRIDE>(x + i, live)), y + i, live);
    }
}

void sigmoid_each(const float *x, float *y, int64_t n) {
    each([](auto v) { return sigmoid(v); }, x, y, n);
}

void tanh_each(const float *x, float *y, int64_t n) {
    each([](auto v) { return tanh(v); }, x, y, n);
}

void leaky_relu_each(const float *x, float slope, float *y, int64_t n) {
    each([slope](auto v) { return leaky_relu(v, slope); }, x, y, n);
}

void squash_each(const float *x, const float *const *k, float *y, int64_t n) {
    constexpr int N = STRIDE, FLOATS = N * WIDTH;
    for (int64_t i = 0; i < n; i += FLOATS) {
        const int live = n - i < FLOATS ? static_cast<int>(n - i) : FLOATS;
        Pack<N> of_k;
        EACH_PART {
            const int64_t at = WIDTH * q < live ? i + WIDTH * q : i; // not beyond the last panel
            place(load<1>(k[at / PANEL] + at % PANEL), of_k, q);
        }
        store(squash(load<N>(x + i, live), of_k), y + i, live);
    }
}

// The sum of function(x) over a row.
template <class Function> INLINE float sum_of(Function function, const float *x, int width) {
    Pack<1> sums = {};
    int i = 0;
    for (; i + WIDTH <= width; i += WIDTH) sums = sums + function(load<1>(x + i));
    const Pack<1> rest = function(load<1>(x + i, width - i));
    float sum = 0.0f;
    for (int l = 0; l < WIDTH; ++l) sum += sums.part[0][l];
    for (int l = 0; l < width - i; ++l) sum += rest.part[0][l];
    return sum;
}

void layer_norm(const float *x, const float *weight, const float *bias, float eps, float *y,
                int64_t rows, int width) {
    for (; rows > 0; --rows, x += width, y += width) {
        const float mean = sum_of([](auto v) { return v; }, x, width) / width;
        const auto square = [mean](auto v) { return (v + -mean) * (v + -mean); };
        const float factor = 1.0f / __builtin_sqrtf(sum_of(square, x, width) / width + eps);
        for (int i = 0; i < width; ++i) y[i] = (x[i] - mean) * factor * weight[i] + bias[i];
    }
}

void log_softmax(const float *x, float *y, int64_t rows, int width) {
    for (; rows > 0; --rows, x += width, y += width) {
        float largest = x[0];
        for (int i = 1; i < width; ++i) largest = x[i] > largest ? x[i] : largest;
        const auto power = [largest](auto v) {
            const auto e = exp(at_least(v + -largest, -87.33f));
            return e.scale * e.rest + e.scale;
        };
        // The largest is not added to the logarithm, which it could swallow.
        const float log_sum = __builtin_logf(sum_of(power, x, width));
        for (int i = 0; i < width; ++i) y[i] = (x[i] - largest) - log_sum;
    }
}

} // namespace growprune::KERNEL_PATH
