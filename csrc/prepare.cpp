#include "prepare.h"

#include <algorithm>
#include <numeric>
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

    // Copies `count` values to places from `to` on, counted as single values.
    void put(size_t to, const Value *from, size_t count) {
        std::copy_n(from, count, reinterpret_cast<Value *>(values.data()) + to);
    }
};

template <class Value> struct Memory {
    Arrangement<Value> main, by_column;
    std::vector<int32_t> order;
    std::vector<uint16_t> columns; // of blocks: main's indices
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

// One entry of a panel or row: where it is in the file's arrays, and its column.
struct Entry {
    int32_t place;
    int32_t column;
};

using Entries = std::vector<std::vector<Entry>>;

Entries entries_of_panels(int rows, int columns, const int32_t *starts, const int32_t *indices) {
    Entries entries(panels_of(rows));
    for (int column = 0; column < columns; ++column)
        for (int e = starts[column]; e < starts[column + 1]; ++e)
            entries[indices[e]].push_back({e, column});
    return entries;
}

Entries entries_of_rows(int rows, const int32_t *starts, const int32_t *indices) {
    Entries entries(rows);
    for (int row = 0; row < rows; ++row)
        for (int e = starts[row]; e < starts[row + 1]; ++e) entries[row].push_back({e, indices[e]});
    return entries;
}

// Which of them to lay side by side: the first `sorted` from the longest to the shortest, so that
// neighbours are of about one length, then the others; padded with -1 to whole groups.
std::vector<int32_t> by_length(const Entries &entries, int sorted, int group) {
    std::vector<int32_t> order(entries.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.begin() + sorted,
                     [&](int a, int b) { return entries[a].size() > entries[b].size(); });
    order.resize((order.size() + group - 1) / group * group, -1);
    return order;
}

// Lays groups of them side by side, each as long as its longest. An entry has `width` values.
template <class Value>
Arrangement<Value> interleaved(const Entries &entries, const std::vector<int32_t> &order, int group,
                               int width, const Value *values) {
    Arrangement<Value> found;
    found.starts.push_back(0);
    for (size_t first = 0; first < order.size(); first += group) {
        size_t longest = 0;
        for (int j = 0; j < group && order[first + j] >= 0; ++j)
            longest = std::max(longest, entries[order[first + j]].size());
        const size_t begin = found.starts.back(), end = begin + longest;
        found.starts.push_back(static_cast<int32_t>(end));
        found.indices.resize(end * group);
        found.values.resize(end * group * width / PANEL);
        for (int j = 0; j < group && order[first + j] >= 0; ++j) {
            size_t to = begin * group + j;
            for (const Entry &entry : entries[order[first + j]]) {
                found.indices[to] = entry.column;
                found.put(width * to, values + static_cast<size_t>(width) * entry.place, width);
                to += group;
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
        const size_t first = static_cast<size_t>(row / PANEL) * columns;
        Block<Value> *panel = memory->main.values.data() + first;
        const Value *from = values + static_cast<size_t>(row) * columns;
        for (int column = 0; column < columns; ++column)
            panel[column].value[row % PANEL] = from[column];
    }
    Prepared result = prepared(Layout::dense, rows, columns, memory);
    result.matrix.panels = {{memory->main.values.data()}};
    return result;
}

template <class Value>
Prepared prepare_csr(int rows, int columns, const int32_t *starts, const int32_t *indices,
                     const Value *values, const float *scales) {
    auto memory = memory_with_scales<Value>(rows, scales);
    const Entries entries = entries_of_rows(rows, starts, indices);
    memory->order = by_length(entries, rows, PANEL);
    memory->main = interleaved(entries, memory->order, PANEL, 1, values);
    Prepared result = prepared(Layout::csr, rows, columns, memory);
    result.matrix.slices = {memory->main.starts.data(), memory->main.indices.data(),
                            memory->order.data(), {memory->main.values.data()}};
    return result;
}

template <class Value>
Prepared blocks_as_csr(int rows, int columns, const int32_t *starts, const int32_t *indices,
                       const Value *values, const float *scales) {
    const Entries entries = entries_of_panels(rows, columns, starts, indices);
    std::vector<int32_t> row_starts = {0}, row_indices;
    std::vector<Value> row_values;
    for (int row = 0; row < rows; ++row) {
        for (const Entry &entry : entries[row / PANEL]) {
            row_indices.push_back(entry.column);
            row_values.push_back(values[static_cast<size_t>(PANEL) * entry.place + row % PANEL]);
        }
        row_starts.push_back(static_cast<int32_t>(row_indices.size()));
    }
    return prepare_csr(rows, columns, row_starts.data(), row_indices.data(), row_values.data(),
                       scales);
}

template <class Value>
Prepared prepare_blocks(int rows, int columns, const int32_t *starts, const int32_t *indices,
                        const Value *values, const float *scales, int bundle) {
    if (columns > MOST_COLUMNS)
        return blocks_as_csr(rows, columns, starts, indices, values, scales);
    auto memory = memory_with_scales<Value>(rows, scales);
    const Entries entries = entries_of_panels(rows, columns, starts, indices);
    // A last panel that sticks out of the matrix stays last.
    memory->order = by_length(entries, rows / PANEL, bundle);
    memory->main = interleaved(entries, memory->order, bundle, PANEL, values);
    memory->columns.assign(memory->main.indices.begin(), memory->main.indices.end());
    memory->main.indices = {};
    Arrangement<Value> &by_column = memory->by_column;
    by_column.starts.assign(starts, starts + columns + 1);
    by_column.indices.assign(indices, indices + starts[columns]);
    by_column.values.resize(starts[columns]);
    by_column.put(0, values, static_cast<size_t>(PANEL) * starts[columns]);
    Prepared result = prepared(Layout::blocks, rows, columns, memory);
    result.matrix.bundles = {memory->main.starts.data(), memory->columns.data(),
                             memory->order.data(), static_cast<int>(memory->order.size()),
                             {memory->main.values.data()}};
    result.matrix.by_column = {
        by_column.starts.data(), by_column.indices.data(), {by_column.values.data()}};
    return result;
}

#define PREPARE_FOR(Value)                                                                         \
    template Prepared prepare_dense(int, int, const Value *, const float *);                       \
    template Prepared prepare_csr(int, int, const int32_t *, const int32_t *, const Value *,       \
                                  const float *);                                                  \
    template Prepared prepare_blocks(int, int, const int32_t *, const int32_t *, const Value *,    \
                                     const float *, int);
PREPARE_FOR(float)
PREPARE_FOR(int8_t)

} // namespace growprune
