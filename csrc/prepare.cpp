#include "prepare.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <tuple>
#include <type_traits>
#include <vector>

namespace growprune {
namespace {

// 16 weights in one cache line, or a quarter of it.
template <class Value> struct alignas(PANEL * sizeof(Value)) Block {
    Value value[PANEL] = {};
};

template <class Value> struct Arrangement {
    std::vector<int32_t> starts, indices;
    std::vector<Block<Value>> values;

    Values view() const { return {values.data(), std::is_same_v<Value, int8_t>}; }
};

template <class Value> struct Memory {
    Arrangement<Value> main, by_column;
    std::vector<int32_t> order;
    std::vector<float> scales;
};

template <class Value>
std::shared_ptr<Memory<Value>> memory_with_scales(int rows, const float *scales) {
    auto memory = std::make_shared<Memory<Value>>();
    if (scales) {
        memory->scales.assign(scales, scales + rows);
        memory->scales.resize(padded(rows));
    }
    return memory;
}

template <class Value>
Prepared prepared(Layout layout, int rows, int columns, std::shared_ptr<Memory<Value>> memory) {
    Matrix matrix = {};
    matrix.layout = layout;
    matrix.rows = rows;
    matrix.columns = columns;
    matrix.scales = memory->scales.empty() ? nullptr : memory->scales.data();
    return {matrix, std::move(memory)};
}

// Blocks by column, without what the last panel holds below the matrix.
template <class Value>
Arrangement<Value> by_column(int rows, int columns, const int32_t *starts, const int32_t *indices,
                             const Value *values) {
    const int count = starts[columns];
    Arrangement<Value> found;
    found.starts.assign(starts, starts + columns + 1);
    found.indices.assign(indices, indices + count);
    found.values.resize(count);
    for (int e = 0; e < count; ++e) {
        const int live = std::min(PANEL, rows - PANEL * indices[e]);
        std::copy_n(values + static_cast<ptrdiff_t>(PANEL) * e, live, found.values[e].value);
    }
    return found;
}

// The same blocks panel by panel, the columns of each panel in order.
template <class Value>
Arrangement<Value> by_panel(int rows, int columns, const Arrangement<Value> &from) {
    Arrangement<Value> found;
    found.starts.resize(panels_of(rows) + 1);
    for (const int32_t panel : from.indices) ++found.starts[panel + 1];
    std::partial_sum(found.starts.begin(), found.starts.end(), found.starts.begin());
    found.indices.resize(from.indices.size());
    found.values.resize(from.indices.size());
    std::vector<int32_t> next = found.starts;
    for (int column = 0; column < columns; ++column)
        for (int e = from.starts[column]; e < from.starts[column + 1]; ++e) {
            const int place = next[from.indices[e]]++;
            found.indices[place] = column;
            found.values[place] = from.values[e];
        }
    return found;
}

// Rows from the longest to the shortest, padded with -1 to whole slices.
std::vector<int32_t> by_length(int rows, const int32_t *starts) {
    std::vector<int32_t> order(rows);
    std::iota(order.begin(), order.end(), 0);
    const auto length = [starts](int row) { return starts[row + 1] - starts[row]; };
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return length(a) > length(b); });
    order.resize(padded(rows), -1);
    return order;
}

// CSR's rows in that order, 16 side by side, each slice as long as its first row.
template <class Value>
Arrangement<Value> in_slices(const std::vector<int32_t> &order, const int32_t *starts,
                             const int32_t *indices, const Value *values) {
    Arrangement<Value> found;
    found.starts.push_back(0);
    for (size_t first = 0; first < order.size(); first += PANEL) {
        const int longest = order[first];
        const int begin = found.starts.back();
        const int end = begin + starts[longest + 1] - starts[longest];
        found.starts.push_back(end);
        found.values.resize(end);
        found.indices.resize(static_cast<size_t>(PANEL) * end);
        for (int lane = 0; lane < PANEL && order[first + lane] >= 0; ++lane) {
            const int row = order[first + lane];
            for (int e = starts[row]; e < starts[row + 1]; ++e) {
                const size_t place = begin + e - starts[row];
                found.values[place].value[lane] = values[e];
                found.indices[PANEL * place + lane] = indices[e];
            }
        }
    }
    return found;
}

} // namespace

template <class Value>
Prepared prepare_dense(int rows, int columns, const Value *values, const float *scales) {
    auto memory = memory_with_scales<Value>(rows, scales);
    memory->main.values.resize(static_cast<size_t>(panels_of(rows)) * columns);
    for (int row = 0; row < rows; ++row) {
        Block<Value> *panel = memory->main.values.data() + static_cast<size_t>(row / PANEL) * columns;
        const Value *from = values + static_cast<size_t>(row) * columns;
        for (int column = 0; column < columns; ++column)
            panel[column].value[row % PANEL] = from[column];
    }
    Prepared result = prepared(Layout::dense, rows, columns, memory);
    result.matrix.panels = {nullptr, nullptr, memory->main.view()};
    return result;
}

template <class Value>
Prepared prepare_csr(int rows, int columns, const int32_t *starts, const int32_t *indices,
                     const Value *values, const float *scales) {
    auto memory = memory_with_scales<Value>(rows, scales);
    memory->order = by_length(rows, starts);
    memory->main = in_slices(memory->order, starts, indices, values);
    Prepared result = prepared(Layout::csr, rows, columns, memory);
    result.matrix.slices = {memory->main.starts.data(), memory->main.indices.data(),
                            memory->order.data(), panels_of(rows), memory->main.view()};
    return result;
}

template <class Value>
Prepared prepare_blocks(int rows, int columns, const int32_t *starts, const int32_t *indices,
                        const Value *values, const float *scales) {
    auto memory = memory_with_scales<Value>(rows, scales);
    memory->by_column = by_column(rows, columns, starts, indices, values);
    memory->main = by_panel(rows, columns, memory->by_column);
    Prepared result = prepared(Layout::blocks, rows, columns, memory);
    const auto &[panels, by_column] = std::tie(memory->main, memory->by_column);
    result.matrix.panels = {panels.starts.data(), panels.indices.data(), panels.view()};
    result.matrix.by_column = {by_column.starts.data(), by_column.indices.data(),
                               by_column.view()};
    return result;
}

#define PREPARE_FOR(Value)                                                                         \
    template Prepared prepare_dense(int, int, const Value *, const float *);                       \
    template Prepared prepare_csr(int, int, const int32_t *, const int32_t *, const Value *,       \
                                  const float *);                                                  \
    template Prepared prepare_blocks(int, int, const int32_t *, const int32_t *, const Value *,    \
                                     const float *);
PREPARE_FOR(float)
PREPARE_FOR(int8_t)

} // namespace growprune
