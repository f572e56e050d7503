// Floats that begin on a cache line, so that no vector of them lies in two.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace growprune {

template <class Value> struct LineAllocator {
    using value_type = Value;
    static constexpr std::align_val_t LINE{64};

    LineAllocator() = default;
    template <class Other> LineAllocator(const LineAllocator<Other> &) {}

    Value *allocate(size_t n) {
        return static_cast<Value *>(::operator new(sizeof(Value) * n, LINE));
    }
    void deallocate(Value *values, size_t) { ::operator delete(values, LINE); }

    template <class Other> bool operator==(const LineAllocator<Other> &) const { return true; }
    template <class Other> bool operator!=(const LineAllocator<Other> &) const { return false; }
};

using AlignedFloats = std::vector<float, LineAllocator<float>>;

} // namespace growprune
