// Threads that work through one layer together.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>

namespace growprune {

// Lets all members of a team wait for each other. They wait awake, since a step of a layer takes no
// longer than falling asleep does, but give way where there are more threads than cores.
class Barrier {
  public:
    void wait(int members) {
        if (members == 1) return;
        const int round = round_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) == members - 1) {
            arrived_.store(0, std::memory_order_relaxed);
            round_.store(round + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins)
            if (spins > SPINS) std::this_thread::yield();
    }

  private:
    static constexpr int SPINS = 4000;
    std::atomic<int> arrived_{0}, round_{0};
};

// A member of a team, and the share of anything that is its own.
struct Member {
    int number;
    int members;
    Barrier &barrier;

    void wait() const { barrier.wait(members); }

    // Of `n` things in pieces of `piece`, those from first to second.
    std::pair<int, int> share(int n, int piece = 1) const {
        const int64_t pieces = (n + piece - 1) / piece;
        const auto until = [&](int m) {
            return std::min<int64_t>(n, pieces * m / members * piece);
        };
        return {static_cast<int>(until(number)), static_cast<int>(until(number + 1))};
    }
};

// A team of at most so many threads, the caller's among them, calls run(work, member).
void run_team(int most, void (*run)(const void *work, const Member &member), const void *work);

// Calls work(member) on each of at most so many threads. It must not throw.
template <class Work> void together(int most, const Work &work) {
    const auto run = [](const void *work, const Member &member) {
        (*static_cast<const Work *>(work))(member);
    };
    run_team(most, run, &work);
}

} // namespace growprune
