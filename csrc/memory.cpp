#include "memory.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <new>
#include <tuple>
#include <utility>

namespace growprune {
namespace {

constexpr std::align_val_t LINE{64};

// Fewer are not kept here: the C library keeps them.
constexpr size_t LARGE = 1 << 14;

float *fresh(size_t floats) {
    return static_cast<float *>(::operator new[](sizeof(float) * floats, LINE));
}

void drop(float *data) { ::operator delete[](data, LINE); }

class Store {
  public:
    // A piece, and how many floats it has room for.
    std::pair<float *, size_t> take(size_t floats) {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto fitting = kept_.lower_bound(floats);
        if (fitting != kept_.end() && fitting->first <= floats + floats / 4) {
            const std::pair<float *, size_t> piece = {fitting->second, fitting->first};
            forget(fitting);
            count(piece.second);
            return piece;
        }
        count(floats);
        while (!kept_.empty() && used_ + all_kept_ > most_) {
            drop(kept_.rbegin()->second);
            forget(std::prev(kept_.end()));
        }
        return {fresh(floats), floats};
    }

    void give_back(float *data, size_t floats) {
        const std::lock_guard<std::mutex> lock(mutex_);
        used_ -= floats;
        all_kept_ += floats;
        // Before its equals: what was in use last may still be in a cache.
        kept_.emplace_hint(kept_.lower_bound(floats), floats, data);
    }

  private:
    using Kept = std::multimap<size_t, float *>;

    void count(size_t floats) {
        used_ += floats;
        most_ = std::max(most_, used_);
    }

    void forget(Kept::iterator piece) {
        all_kept_ -= piece->first;
        kept_.erase(piece);
    }

    std::mutex mutex_;
    Kept kept_;
    size_t used_ = 0, most_ = 0, all_kept_ = 0;
};

// Never destroyed: who uses its memory may live longer.
Store &store() {
    static Store &one = *new Store;
    return one;
}

} // namespace

Memory::Memory(size_t floats) : data_(nullptr), room_(floats) {
    if (floats >= LARGE)
        std::tie(data_, room_) = store().take(floats);
    else if (floats)
        data_ = fresh(floats);
}

Memory::~Memory() {
    if (!data_) return;
    room_ < LARGE ? drop(data_) : store().give_back(data_, room_);
}

Memory &Memory::operator=(Memory &&other) noexcept {
    std::swap(data_, other.data_);
    std::swap(room_, other.room_);
    return *this;
}

} // namespace growprune
