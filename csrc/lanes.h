// Products and cells over lanes: the sequences of a batch side by side, so that one connection
// serves a whole vector of them and sparse weights need no structure to fill the registers.
//
// A "lane array" holds units times lanes: unit u begins at u * stride, and its lanes lie one after
// the other. Lanes come in multiples of LANES.
#pragma once

#include "matrix.h"

#include <cstddef>
#include <cstdint>

namespace growprune {

constexpr int LANES = 16;

// Rows that are dealt out to threads together: whole tiles of dense ones, whole bands of sparse ones.
constexpr int GROUP = 12;

// Sparse rows whose connections are multiplied side by side: of a group those that have about the
// same number.
constexpr int BAND = 4;

static constexpr int64_t whole_lanes(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

// A lane array at one step.
struct LaneArray {
    float *data;
    ptrdiff_t stride;

    float *unit(int u) const { return data + u * stride; }
    LaneArray from(int unit) const { return {data + unit * stride, stride}; }
    LaneArray at_lane(int64_t lane) const { return {data + lane, stride}; }
    explicit operator bool() const { return data; }
};

// Weights for products with lanes: dense in tiles of LaneKernels::tile rows, place after place
// (DenseLanes) of their columns, or sparse in bands. Entry e of a band holds the next connection of each of its rows, or weight 0 and
// column 0 where the row has no more.
struct LaneMatrix {
    int rows;
    int columns;             // or their places
    const float *tiles;      // dense
    const int32_t *starts;   // sparse: entries before each band
    const int32_t *band_rows; // BAND a band, -1 for none
    const int32_t *indices;  // the columns, BAND an entry
    const float *values;
};

// Weights in blocks of PANEL rows by one column: all rows of a panel have the same columns. The last panel
// may have fewer rows; its weights are zeros beyond.
struct LaneBlocks {
    int rows;
    const int32_t *starts;  // blocks before each panel
    const int32_t *columns; // of each block, rising within a panel
    const float *values;    // PANEL of each
};

// One step of the cells of some units. Gates are in the order i, f, g, o.
struct LaneCell {
    LaneArray sums[4];  // of the gates
    LaneArray gates[4]; // the tape, on cache lines: gates, and both states before; null if not kept
    LaneArray h_before, c_before;
    LaneArray h, c, new_h; // the states, c in place
    int lanes;             // of the step
    int live;              // of these; the states of the others stay as they are
    int all_lanes;         // of the states
};

// The same backwards. dh comes with the gradient of the new state from later steps and without that
// of the outputs.
struct LaneCellBack {
    LaneArray gates[4], c_before;
    LaneArray output_gradient, dh, dc; // dc in place
    LaneArray delta[4], near[4];       // gradients of the gates' sums, twice: near for products
    int lanes;                         // of the step
    int live;
};

// Products of dense matrices. What they multiply stands in places of 32 bits: a float, or two numbers
// rounded to bfloat16, the first in the lower half and 0 where there is no second. Sums are floats.
struct DenseLanes {
    int numbers; // in a place
    int panel;   // columns of a gradient that are computed together

    // y = x W^T (+ y if accumulate, + bias unless null) for rows begin to end, `begin` a multiple of
    // GROUP; x has a unit for each place of the columns.
    void (*product)(const LaneMatrix &W, int begin, int end, LaneArray x, const float *bias,
                    bool accumulate, LaneArray y, int lanes);

    // Numbers as places, to[place * width + row] of (rows, count), zeros for rows up to `width`:
    // from[row * stride + number] ...
    void (*turn)(const float *from, ptrdiff_t stride, int rows, int count, int width, float *to);
    // ... or from[number * stride + row], nothing for rows from `rows` on.
    void (*lay)(const float *from, ptrdiff_t stride, int rows, int count, int width, float *to);

    // gradient[row * stride + column] = (+ itself if accumulate) the sum over lanes of delta's row
    // times value's column, for at most GROUP rows. `panels` holds value, as `turn` lays out each
    // `panel` of its units, over their lanes.
    void (*gradient)(LaneArray delta, int rows, const float *panels, int columns, int lanes,
                     bool accumulate, float *gradient, ptrdiff_t stride);

    int places(int n) const { return (n + numbers - 1) / numbers; }
};

struct LaneKernels {
    int tile; // divides GROUP

    // to[c][r] = from[r][c]; steps are from one row to the next.
    void (*transpose)(const float *from, ptrdiff_t from_step, int rows, int columns, float *to,
                      ptrdiff_t to_step);
    DenseLanes dense;

    // y = x W^T (+ y if accumulate, + bias unless null) for rows begin to end, `begin` a multiple of
    // GROUP, of sparse weights.
    void (*product)(const LaneMatrix &W, int begin, int end, LaneArray x, const float *bias,
                    bool accumulate, LaneArray y, int lanes);
    // The same of weights in blocks, for any rows ...
    void (*block_product)(const LaneBlocks &W, int begin, int end, LaneArray x, const float *bias,
                          bool accumulate, LaneArray y, int lanes);
    // ... and with their transpose, y = x W, for columns begin to end.
    void (*block_product_back)(const LaneBlocks &W, int begin, int end, LaneArray x, LaneArray y,
                               int lanes);
    void (*cell)(const LaneCell &step, int begin, int end);
    void (*cell_back)(const LaneCellBack &step, int begin, int end);
    // near and tape = leaky_relu(sums) * scales; scales and tape may be null, the tape is on cache lines.
    void (*activate)(LaneArray sums, float slope, LaneArray scales, LaneArray near, LaneArray tape,
                     int begin, int end, int lanes);
    // gradient, in place, and delta = gradient * scales * slope of what became `value`.
    void (*activate_back)(LaneArray gradient, float slope, LaneArray scales, LaneArray value,
                          LaneArray delta, int begin, int end, int lanes);
    // to = 1 / keep or 0, as growprune.native.training.dropout_kept draws them: `to` is a step's units,
    // all of a layer, `first_row` the row in memory of its first lane and `row_step` the rows from a lane
    // to the next.
    void (*dropout)(LaneArray to, int units, int lanes, int64_t first_row, int row_step,
                    uint64_t seed, float keep);
    // out[e] += the sum over lanes of delta[row] * x[indices[e]] for the connections of each row.
    void (*dots)(const int32_t *starts, const int32_t *indices, int begin, int end, LaneArray delta,
                 LaneArray x, int lanes, float *out);
    // The same for connections in blocks: of rows `begin`, the first of a panel, to `end`. `out` begins with
    // the matrix and has its active connections row after row; W's values are not read.
    void (*block_dots)(const LaneBlocks &W, int begin, int end, LaneArray delta, LaneArray x, int lanes,
                       float *out);
    // sums[u] += the sum of its lanes.
    void (*sums)(LaneArray x, int begin, int end, int lanes, float *sums);
};

} // namespace growprune
