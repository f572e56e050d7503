// Threads that work through one layer together.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

namespace growprune {

// Lets all members of a team wait for each other. They wait awake, since a step of a layer takes no
// longer than falling asleep does, but give way where there are more threads than cores.
class Barrier {
  public:
    explicit Barrier(int members) : members_(members), missing_(members) {}

    void wait() {
        if (members_ == 1) return;
        const int round = round_.load(std::memory_order_relaxed);
        if (missing_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            missing_.store(members_, std::memory_order_relaxed);
            round_.store(round + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins)
            if (spins > SPINS) std::this_thread::yield();
    }

  private:
    static constexpr int SPINS = 4000;
    const int members_;
    std::atomic<int> missing_;
    std::atomic<int> round_{0};
};

// A member of a team, and the share of anything that is its own.
struct Member {
    int number;
    int members;
    Barrier &barrier;

    // Of `n` things in pieces of `piece`, those from first to second.
    std::pair<int, int> share(int n, int piece = 1) const {
        const int64_t pieces = (n + piece - 1) / piece;
        const auto until = [&](int m) {
            return std::min<int64_t>(n, pieces * m / members * piece);
        };
        return {static_cast<int>(until(number)), static_cast<int>(until(number + 1))};
    }
};

// Calls work(member) on each of so many threads, the caller's among them. It must not throw.
template <class Work> void together(int members, const Work &work) {
    Barrier barrier(members);
    std::vector<std::thread> others;
    for (int number = 1; number < members; ++number)
        others.emplace_back([&, number] { work(Member{number, members, barrier}); });
    work(Member{0, members, barrier});
    for (std::thread &other : others) other.join();
}

} // namespace growprune
