// Turns matrices as files hold them into what the kernels read.
#pragma once

#include "matrix.h"

#include <memory>

namespace growprune {

// A matrix and the memory it lies in.
struct Prepared {
    Matrix matrix;
    std::shared_ptr<const void> memory;
};

// Values are float or int8_t; `scales` holds a number for each row, or is null. Indices are
// trusted.

// values: (rows, columns)
template <class Value>
Prepared prepare_dense(int rows, int columns, const Value *values, const float *scales);

// starts: (rows + 1); indices: the column of each value
template <class Value>
Prepared prepare_csr(int rows, int columns, const int32_t *starts, const int32_t *indices,
                     const Value *values, const float *scales);

// starts: (columns + 1); indices: the panel of each block; values: (blocks, 16); bundle: that of the
// kernels it is for
template <class Value>
Prepared prepare_blocks(int rows, int columns, const int32_t *starts, const int32_t *indices,
                        const Value *values, const float *scales, int bundle);

} // namespace growprune
