// A recurrent layer in one direction: whole sequences or single steps.
#pragma once

#include "aligned.h"
#include "kernels.h"
#include "prepare.h"

#include <mutex>
#include <vector>

namespace growprune {

enum class Kind { lstm, gru };

// A later stage of an H-LSTM's gate.
struct Stage {
    Prepared weight;
    AlignedFloats bias;
};

// The formulas are growprune.native.Recurrent's. Shapes are trusted. The object's buffers serve all
// its calls, so calls from several threads take turns.
class Recurrent {
  public:
    // bias goes with ih, and hidden_bias, for a GRU only, with hh: one number for each row. stages
    // holds a list for each gate, which may be empty.
    Recurrent(const Kernels &kernels, Kind kind, Prepared ih, Prepared hh, AlignedFloats bias,
              AlignedFloats hidden_bias, std::vector<std::vector<Stage>> stages, float slope);

    // x (batch, time, input); h, c (batch, hidden), advanced in place, c null for a GRU;
    // outputs (batch, time, hidden).
    void run(const float *x, const int64_t *lengths, int batch, int time, float *h, float *c,
             float *outputs, bool reverse);

    // x (batch, input); the rest (batch, hidden).
    void step(const float *x, int batch, const float *h, const float *c, float *new_h,
              float *new_c);

    int input() const { return ih_.matrix.columns; }
    int hidden() const { return hidden_; }
    Kind kind() const { return kind_; }

  private:
    // The k of Kernels::squash. Panels that are alike share theirs, which stay in the nearest cache.
    struct Squashing {
        explicit Squashing(AlignedFloats of_units = {});
        Squashing(Squashing &&) = default; // a copy's pointers would be to the other's units
        Squashing &operator=(Squashing &&) = default;

        AlignedFloats units; // padded to panels
        std::vector<const float *> k;
    };
    // One gate and its buffers. The buffers hold one stage of all sequences, then the next.
    struct GateNetwork {
        std::vector<Stage> stages;
        int first_row;
        Squashing squashing;
        AlignedFloats inputs, sums;
    };
    // Where the states of the sequences are and where they go.
    struct States {
        std::vector<const float *> h, c;
        std::vector<float *> new_h, new_c;
    };

    void reserve(int batch);
    float *project(const std::vector<const float *> &x);
    void advance(float *projected, int n);
    void advance_lstm(float *projected, int n);
    void advance_gru(const float *projected, int n);
    void run_stages(GateNetwork &gate, float *sums, int n);
    void product(const Matrix &matrix, const float *const *x, int n, const float *addend,
                 ptrdiff_t addend_stride, const float *const *k, float *y, ptrdiff_t y_stride);

    const Kernels &kernels_;
    Kind kind_;
    Prepared ih_, hh_;
    AlignedFloats bias_, hidden_bias_;
    std::vector<GateNetwork> gates_;
    Squashing squashing_; // of all gates' units; of none if a gate has later stages
    float slope_;
    int hidden_;
    ptrdiff_t stride_; // of the first stage's sums

    std::mutex mutex_; // held while what follows is in use
    bool backwards_ = false;
    States states_;
    std::vector<const float *> inputs_, stage_inputs_;
    AlignedFloats projected_, hidden_sums_, scratch_;
};

} // namespace growprune
