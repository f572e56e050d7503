// Weight matrices as the kernels read them: plain views, owned by `Prepared` in prepare.h.
//
// The kernels' own arrangement differs from the files': "panel" means 16 consecutive rows, whose
// weights in one column lie side by side, so that a vector register holds one column of a panel.
#pragma once

#include <cstdint>

namespace growprune {

constexpr int PANEL = 16;

enum class Layout { dense, csr, blocks };

// Weights, 16 rows of a column after the other: float, or int8 where the matrix has scales.
struct Values {
    const void *data;
};

// Dense matrices: panel after panel, each with all columns in order.
struct Panels {
    Values values;
};

constexpr int MOST_COLUMNS = 1 << 16;

// Blocks, in bundles of Kernels::bundle panels that have about the same number of them. Entry e of a
// bundle holds the next block of each of its panels and its column, or zeros and column 0 where the
// panel has no more. Columns are short, so that one load finds those of an entry; matrices of more
// columns than MOST_COLUMNS are turned into CSR. The bundles' panels are listed in `panels`, one bundle's after the other's; in
// the last bundle there may be none (-1), or one that sticks out of the matrix.
struct Bundles {
    const int32_t *starts; // entries
    const uint16_t *columns;
    const int32_t *panels;
    int places;
    Values values;
};

// The same blocks column after column, for inputs that are mostly zeros.
struct Columns {
    const int32_t *starts;
    const int32_t *panels;
    Values values;
};

// CSR, in slices of 16 rows that have about the same number of weights; laid out as bundles are,
// with rows instead of panels.
struct Slices {
    const int32_t *starts; // entries
    const int32_t *columns;
    const int32_t *rows;
    Values values;
};

struct Matrix {
    Layout layout;
    int rows;
    int columns;
    Panels panels;       // dense
    Bundles bundles;     // blocks
    Columns by_column;   // blocks
    Slices slices;       // csr
    const float *scales; // of int8 rows, padded to whole panels; null for float
};

// Static, so that no path shares its copy with another.
static constexpr int panels_of(int rows) { return (rows + PANEL - 1) / PANEL; }
static constexpr int padded(int rows) { return PANEL * panels_of(rows); }

} // namespace growprune
