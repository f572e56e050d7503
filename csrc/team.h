// Threads that work through one layer together.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

namespace growprune {

// Lets all members of a team wait for each other. They wait awake, since a step of a layer takes no
// longer than falling asleep does. Who waits for long falls asleep all the same: there may be more
// threads than cores, or the others are kept from this very core, which the system does not part
// threads from that only yield.
class Barrier {
  public:
    void wait(int members) {
        if (members == 1) return;
        const int round = round_.load();
        if (arrived_.fetch_add(1) == members - 1) {
            arrived_.store(0);
            round_.store(round + 1);
            if (asleep_.load()) wake();
            return;
        }
        for (int spins = 0; spins < SPINS; ++spins) {
            if (round_.load(std::memory_order_acquire) != round) return;
            rest();
        }
        sleep(round);
    }

  private:
    // Some tens of microseconds.
    static constexpr int SPINS = 4000;

    static void rest() {
#if defined(__SSE2__)
        __builtin_ia32_pause();
#endif
    }

    // Either the last to arrive sees that someone sleeps, or who falls asleep sees the new round.
    void sleep(int round) {
        ++asleep_;
        std::unique_lock<std::mutex> lock(mutex_);
        new_round_.wait(lock, [&] { return round_.load() != round; });
        --asleep_;
    }

    void wake() {
        const std::lock_guard<std::mutex> lock(mutex_);
        new_round_.notify_all();
    }

    std::atomic<int> arrived_{0}, round_{0}, asleep_{0};
    std::mutex mutex_;
    std::condition_variable new_round_;
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

using Barriers = std::vector<Barrier>;

// Deals out parts of the work, one for each barrier, which need not wait for each other. Each is done by
// some of the team's members, as a team of their own, or a member does several: calls work(part, member
// of the part's team).
template <class Work> void apart(const Member &member, Barriers &barriers, const Work &work) {
    const int parts = static_cast<int>(barriers.size());
    for (int part = member.number % parts; part < parts; part += member.members) {
        const int members = (member.members - part + parts - 1) / parts;
        work(part, Member{member.number / parts, std::max(1, members), barriers[part]});
    }
}

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
