// Activations and normalisation of whole arrays.
#pragma once

namespace growprune::KERNEL_PATH {

template <class Function> inline void each(Function function, const float *x, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += PANEL) {
        const int live = n - i < PANEL ? static_cast<int>(n - i) : PANEL;
        store(map(function, load(x + i, live)), y + i, live);
    }
}

void sigmoid_each(const float *x, float *y, int64_t n) { each(sigmoid, x, y, n); }

void tanh_each(const float *x, float *y, int64_t n) { each(tanh, x, y, n); }

void leaky_relu_each(const float *x, float slope, float *y, int64_t n) {
    each([slope](Vec v) { return leaky_relu(v, slope); }, x, y, n);
}

inline float total(Lanes lanes, int live) {
    float sum = 0.0f;
    for (int l = 0; l < PANEL && l < live; ++l) sum += lanes.part[l / WIDTH][l % WIDTH];
    return sum;
}

// The sum of function(x) over a row.
template <class Function> inline float sum_of(Function function, const float *x, int width) {
    Lanes sums = {};
    int i = 0;
    for (; i + PANEL <= width; i += PANEL) sums = sums + map(function, load(x + i));
    const int live = width - i;
    return total(sums, PANEL) + total(map(function, load(x + i, live)), live);
}

void layer_norm(const float *x, const float *weight, const float *bias, float eps, float *y,
                int64_t rows, int width) {
    for (; rows > 0; --rows, x += width, y += width) {
        const float mean = sum_of([](Vec v) { return v; }, x, width) / width;
        const auto square = [mean](Vec v) { return (v - mean) * (v - mean); };
        const float factor = 1.0f / __builtin_sqrtf(sum_of(square, x, width) / width + eps);
        for (int i = 0; i < width; ++i) y[i] = (x[i] - mean) * factor * weight[i] + bias[i];
    }
}

void log_softmax(const float *x, float *y, int64_t rows, int width) {
    for (; rows > 0; --rows, x += width, y += width) {
        float largest = x[0];
        for (int i = 1; i < width; ++i) largest = x[i] > largest ? x[i] : largest;
        const auto power = [largest](Vec v) {
            const Exp e = exp(at_least(v - largest, -87.33f));
            return e.scale * e.rest + e.scale;
        };
        // The largest is not added to the logarithm, which it could swallow.
        const float log_sum = __builtin_logf(sum_of(power, x, width));
        for (int i = 0; i < width; ++i) y[i] = (x[i] - largest) - log_sum;
    }
}

} // namespace growprune::KERNEL_PATH
