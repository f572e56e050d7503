// A recurrent layer in one direction: whole sequences or single steps.
#pragma once

#include "kernels.h"
#include "prepare.h"

#include <vector>

namespace growprune {

enum class Kind { lstm, gru };

// A later stage of an H-LSTM's gate.
struct Stage {
    Prepared weight;
    std::vector<float> bias;
};

// The formulas are growprune.native.Recurrent's. Shapes are trusted. Not for two threads at once:
// the object's buffers serve all its calls.
class Recurrent {
  public:
    // hidden_bias is empty for an LSTM; stages hold a list for each gate, empty for none.
    Recurrent(const Kernels &kernels, Kind kind, Prepared ih, Prepared hh, std::vector<float> bias,
              std::vector<float> hidden_bias, std::vector<std::vector<Stage>> stages, float slope);

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
    // One gate and its buffers. The buffers hold one stage of all sequences, then the next.
    struct GateNetwork {
        std::vector<Stage> stages;
        int first_row;
        int first_width;
        bool fused; // the cell itself computes the last stage's product
        std::vector<float> activations, sums;
    };
    // Where the states of the sequences are and where they go.
    struct States {
        std::vector<const float *> h, c;
        std::vector<float *> new_h, new_c;
    };

    void reserve(int batch);
    const float *project(const std::vector<const float *> &x);
    void advance(const float *projected, int n);
    void run_stages(GateNetwork &gate, const float *projected, int n);
    void update_states(const float *projected, int sequence);
    Gate ends_of(const GateNetwork &gate, const float *projected, int sequence) const;
    bool fuses(const Matrix &matrix, int n) const;
    void product(const Matrix &matrix, const float *const *x, int n, float *y, ptrdiff_t stride,
                 const float *bias);

    const Kernels &kernels_;
    Kind kind_;
    Prepared ih_, hh_;
    std::vector<float> bias_, hidden_bias_; // padded to whole panels
    std::vector<GateNetwork> gates_;
    float slope_;
    int hidden_;
    ptrdiff_t stride_; // of the first stage's sums: any 16 of them from a row on can be read

    States states_;
    bool first_stage_fused_ = false;
    std::vector<const float *> inputs_, stage_inputs_;
    std::vector<float> projected_, sums_, scratch_;
};

} // namespace growprune
