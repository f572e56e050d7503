// Weight matrices as the kernels read them: plain views, owned by `Prepared` in prepare.h.
//
// The kernels' own arrangement differs from the files': "panel" means 16 consecutive rows, whose
// weights in one column lie side by side, so that a vector register holds one column of a panel.
#pragma once

#include <cstdint>

namespace growprune {

constexpr int PANEL = 16;

enum class Layout { dense, csr, blocks };

// Weights, 16 to a row of the arrangement: float, or int8 where `quantized`.
struct Values {
    const void *data;
    bool quantized;
};

// Dense matrices and blocks, panel after panel: entries starts[p] to starts[p + 1] belong to
// panel p, entry e to column columns[e]. For dense matrices both pointers are null, and every
// panel has all columns in order.
struct Panels {
    const int32_t *starts;
    const int32_t *columns;
    Values values;
};

// The same blocks column after column, for inputs that are mostly zeros.
struct Columns {
    const int32_t *starts;
    const int32_t *panels;
    Values values;
};

// CSR: slices of 16 rows that have about the same number of weights. Entry e of a slice holds for
// each of its rows the next weight and its column, or weight 0 and column 0 where the row has no
// more. Lane l of slice s is row order[16 s + l], or -1.
struct Slices {
    const int32_t *starts;
    const int32_t *columns;
    const int32_t *order;
    int count;
    Values values;
};

struct Matrix {
    Layout layout;
    int rows;
    int columns;
    Panels panels;         // dense, blocks
    Columns by_column;     // blocks
    Slices slices;         // csr
    const float *scales;   // (rows, padded to whole panels), or null
};

// Static, so that no path shares its copy with another.
static constexpr int panels_of(int rows) { return (rows + PANEL - 1) / PANEL; }
static constexpr int padded(int rows) { return PANEL * panels_of(rows); }

} // namespace growprune
