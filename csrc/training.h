// Forward and backward pass of a recurrent layer in one direction over a batch of sequences, for
// training. The formulas are growprune.nn's.
#pragma once

#include "kernels.h"
#include "memory.h"
#include "team.h"

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace growprune {

// Floats that are zeros at first.
class Lines {
  public:
    explicit Lines(size_t n = 0);
    float *data() const { return memory_.data(); }
    LaneArray array(int64_t stride) const { return {data(), static_cast<ptrdiff_t>(stride)}; }

  private:
    Memory memory_;
};

// The arrangement of sparse LaneMatrix parts, all but the weights. Rows count from their part's
// first.
struct Bands {
    std::vector<int32_t> starts, rows, indices;
    std::vector<int> first; // band of each part
};

// Which connections of a matrix are active, by row and by column.
class Connections {
  public:
    // mask (rows, columns): not 0 where active
    Connections(const uint8_t *mask, int rows, int columns);

    // Of a vector of the active connections, row after row, `places` has those by column.
    struct Order {
        std::vector<int32_t> starts, indices, places;
    };
    const Order &by(bool column) const { return column ? by_column_ : by_row_; }
    // Where all rows of each panel have the same columns, the first panel's, the second's and so on.
    struct Blocks {
        std::vector<int32_t> starts, columns;
    };
    const Blocks *blocks() const { return in_blocks_ ? &blocks_ : nullptr; }
    // The rows, or columns, in parts of so many; kept for the next time.
    const Bands &bands(bool of_columns, const std::vector<int> &parts) const;
    int rows() const { return rows_; }
    int columns() const { return columns_; }
    // Rows that have, of all connections, the member's share; whole panels of blocks.
    std::pair<int, int> share(const Member &member) const;
    // Those of some rows, which count from the first of them; kept for the next time.
    const Connections &of_rows(int begin, int end) const;

  private:
    Connections(const Connections &all, int begin, int end);
    void order_by_column();
    bool same_as_above(int row) const; // the row's columns
    void find_blocks();

    int rows_, columns_;
    Order by_row_, by_column_;
    bool in_blocks_;
    Blocks blocks_;
    mutable std::mutex mutex_; // held while what follows is in use
    mutable std::map<std::pair<bool, std::vector<int>>, Bands> bands_;
    mutable std::map<std::pair<int, int>, std::unique_ptr<const Connections>> of_rows_;
};

// Copies the active connections of a matrix, (rows, columns), to a vector of them, row after row, or
// back; a member's share.
void gather(const Connections &connections, const float *matrix, float *vector,
            const Member &member);
void scatter(const Connections &connections, const float *vector, float *matrix,
             const Member &member);

// A weight matrix: all of it, (rows, columns), or a vector of its active connections, row after row.
struct Weights {
    const float *data;
    int rows, columns;
    const Connections *connections;

    Weights of_rows(int begin, int end) const; // these rows of it
    int64_t count(int begin, int end) const; // of those rows, that are not left out
};

// Units that a product reads: as they are, and as the places of a dense one where these are not floats.
struct OperandArray {
    LaneArray exact, places;
};

struct Operand {
    Operand(const DenseLanes &dense, int units, int64_t lanes)
        : exact(units * static_cast<size_t>(lanes)),
          places(dense.numbers > 1 ? dense.places(units) * static_cast<size_t>(lanes) : 0) {}

    OperandArray array(int64_t stride) const { return {exact.array(stride), places.array(stride)}; }

    Lines exact, places;
};

// A matrix, or its transpose, in the kernels' arrangement and in parts of some rows each.
class LaneWeights {
  public:
    LaneWeights(const Weights &weights, bool transposed, std::vector<int> parts,
                const LaneKernels &kernels, const DenseLanes &dense);
    void fill(const Member &member); // the member's share; all are needed before use
    // y = (+ y if accumulate, + bias unless null) the product of some rows of a part with x.
    void product(int part, std::pair<int, int> rows, const OperandArray &x, const float *bias,
                 bool accumulate, LaneArray y, int lanes) const;

  private:
    static const Connections::Blocks *usable_blocks(const Weights &weights, bool transposed,
                                                    const std::vector<int> &first_rows);
    void fill_tiles(const Member &member);
    void fill_bands(const Member &member);
    void fill_blocks(const Member &member);

    const LaneKernels &kernels_;
    const DenseLanes &dense_;
    Weights weights_;
    bool transposed_;
    Memory memory_;
    std::vector<int> first_rows_;
    const Connections::Blocks *blocks_; // of weights that are sparse so
    const Bands *bands_ = nullptr;      // of other sparse weights
    std::vector<LaneMatrix> parts_;
    std::vector<LaneBlocks> block_parts_;
};

// Some units over all steps. A chunk of a few steps lies together, in it unit after unit, so that
// the lanes of a step are near each other, and those of a unit are long enough for sums over them.
struct Record {
    float *data;
    int units;
    int64_t lanes; // of all steps; or of the longest chunk, in whose place all others come, too

    explicit operator bool() const { return data; }
};

// Consecutive steps whose lanes lie together.
struct Chunk {
    int64_t first_lane;
    int lanes;
};

// Consecutive steps of a chunk, whose input products are computed together.
struct Piece {
    int first_step, end_step;
    int lanes;
};

// Where sequences of a packed batch are: rows in memory, step after step, and lanes here. Of `parts`
// parts this has every parts-th sequence, so that long ones are shared like short ones.
struct Steps {
    Steps(const int64_t *batch_sizes, int count, bool reverse, int part, int parts);

    int count() const { return static_cast<int>(live.size()); }
    int at(int i) const { return reverse ? count() - 1 - i : i; } // the i-th step computed
    // Whether the i-th step computed is the first of its piece, or chunk.
    bool begins(const std::vector<int> &group_of_step, int i) const {
        return i == 0 || group_of_step[at(i)] != group_of_step[at(i - 1)];
    }
    // Lets the lanes follow those of other parts, in records of all steps and in those of a chunk.
    void follow(int64_t lanes, int64_t chunk_lanes);
    int64_t own_lanes() const;
    int most_chunk_lanes() const;
    int most_piece_lanes() const;

    LaneArray of(const Record &record, const Chunk &chunk) const {
        const int64_t first = record.lanes == all_lanes ? chunk.first_lane : first_chunk_lane;
        return {record ? record.data + record.units * first : nullptr, chunk.lanes};
    }
    LaneArray of(const Record &record, int step) const {
        const Chunk &chunk = chunks[chunk_of_step[step]];
        return record ? of(record, chunk).at_lane(first_lane[step] - chunk.first_lane)
                      : LaneArray{};
    }
    const Piece &piece_of(int step) const { return pieces[piece_of_step[step]]; }
    // The piece that is computed after that of the step; null after the last.
    const Piece *piece_after(int step) const {
        const int next = piece_of_step[step] + (reverse ? -1 : 1);
        return next < 0 || next == static_cast<int>(pieces.size()) ? nullptr : &pieces[next];
    }
    // What has the lanes of a step's piece, at the step.
    LaneArray in_piece(const Lines &lines, int step) const {
        const Piece &piece = piece_of(step);
        return lines.array(piece.lanes).at_lane(first_lane[step] - first_lane[piece.first_step]);
    }

    bool reverse;
    int row_step; // rows from one sequence to the next
    int64_t all_lanes = 0, first_chunk_lane = 0; // of all parts, and before this one
    std::vector<int> live, lanes, chunk_of_step, piece_of_step; // of each step
    std::vector<int64_t> first_row, first_lane;
    std::vector<Chunk> chunks;
    std::vector<Piece> pieces;
};

// A packed batch, in one part or in several that threads can go through without each other.
class Batch {
  public:
    // The most parts whose number divides `most_parts` and whose longest has hardly more lanes than
    // an even share: lanes come in whole vectors, and one thread may have to do with those of a part.
    Batch(const int64_t *batch_sizes, int count, bool reverse, int most_parts);

    const std::vector<Steps> &parts() const { return parts_; }
    int64_t all_lanes() const { return parts_[0].all_lanes; }
    int64_t chunk_lanes() const; // room for a chunk of each part

  private:
    std::vector<Steps> parts_;
};

// One for each hidden layer of each gate; some may be null.
using PerStage = std::vector<std::vector<Record>>;
using Biases = std::vector<std::vector<const float *>>;

// Everything over lanes; h_before and what follows are null where no backward pass will come.
struct Tape {
    Record x;
    PerStage scales; // dropout's factors, or null
    Record h_before, c_before;
    std::vector<Record> gates;
    PerStage hidden;
};

// Gradients of the sums: of the first stages of all gates, of the hidden layers after the first, and
// of gates that have hidden layers.
struct Deltas {
    Record first;
    PerStage stages; // from the second on
    std::vector<Record> gates;
};

// The sums over all lanes of delta (rows) times value (columns): a vector of those of active
// connections, and a matrix of them and zeros.
struct ConnectionGradient {
    const Connections *connections;
    Record delta, value;
    float *vector, *matrix;
};

// The same for all connections; the gradient may hold anything at first.
struct DenseGradient {
    const DenseLanes *dense;
    Record delta, value;
    float *gradient;
};

// The sums over all lanes, (units).
struct BiasGradient {
    Record delta;
    float *gradient;
};

struct Gradients {
    std::vector<ConnectionGradient> weights;
    std::vector<DenseGradient> dense_weights;
    std::vector<BiasGradient> biases;
};

// A pass that is ready to be made, by all members of a team. What it was made from must outlive it.
using ReadyPass = std::function<void(const Member &)>;

// Makes passes that do not need each other, side by side where there are threads enough.
void make(const std::vector<ReadyPass> &passes, int threads);

class TrainingLayer {
  public:
    // `dense` makes the products with dense weights.
    TrainingLayer(const Kernels &kernels, const DenseLanes &dense, const Weights &ih,
                  const Weights &hh, const std::vector<std::vector<Weights>> &later, float slope);

    // x (rows, input), h and c (batch, hidden) and the results are rows in memory.
    ReadyPass forward(const Batch &batch, const float *x, const float *h, const float *c,
                      const float *bias, const Biases &later_biases, const Tape &tape,
                      float *outputs, float *last_h, float *last_c) const;

    // dx may be null. Sums over lanes depend in their rounding on the batch's parts.
    ReadyPass backward(const Batch &batch, const float *doutputs, const float *dlast_h,
                       const float *dlast_c, const Tape &tape, const Deltas &deltas,
                       const Gradients &gradients, float *dx, float *dh, float *dc) const;

    int input() const { return ih_.columns; }
    int hidden() const { return hh_.columns; }
    int first_units() const { return hh_.rows; }

  private:
    struct Matrices;
    struct Forward;
    struct Backward;

    int depth(int gate) const { return static_cast<int>(later_[gate].size()); }
    int width(int gate, int stage) const;
    int deepest() const;
    std::vector<int> first_widths() const;
    int64_t work(int gate) const;
    int groups() const;

    const Kernels &kernels_;
    const DenseLanes &dense_;
    Weights ih_, hh_;
    std::vector<std::vector<Weights>> later_;
    float slope_;
};

// From rows (one a sequence and step) to lanes, zeros where there is no sequence; some units of a step.
void rows_to_lanes(const LaneKernels &kernels, const Steps &steps, int t, const float *rows,
                   Record to, std::pair<int, int> some);

// Dropout's factors of all the units of a hidden layer, drawn by LaneKernels::dropout; those of steps
// in the member's share.
void draw_dropout(const Kernels &kernels, const Steps &steps, uint64_t seed, float keep, Record to,
                  const Member &member);

} // namespace growprune
