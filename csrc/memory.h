// Memory for training.
#pragma once

#include <cstddef>

namespace growprune {

// Floats that begin on a cache line. Large pieces are kept for the next who asks for as many: pages
// new from the system took a tenth to a fifth of a training step. No more is kept than was once in
// use at the same time.
class Memory {
  public:
    explicit Memory(size_t floats = 0);
    ~Memory();
    Memory(Memory &&other) noexcept : data_(other.data_), room_(other.room_) { other.data_ = nullptr; }
    Memory &operator=(Memory &&other) noexcept;

    float *data() const { return data_; }

  private:
    float *data_;
    size_t room_;
};

} // namespace growprune
