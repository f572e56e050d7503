#include "team.h"

#include <dlfcn.h>
#include <thread>
#include <vector>

namespace growprune {
namespace {

// The OpenMP of the process, where it has one: torch's, whose threads lie in wait for a while after
// each of torch's operations. Threads of our own would share the cores with them.
struct OpenMP {
    OpenMP() {
        find(parallel, "GOMP_parallel");
        find(number, "omp_get_thread_num");
        find(members, "omp_get_num_threads");
    }

    explicit operator bool() const { return parallel && number && members; }

    void (*parallel)(void (*function)(void *), void *data, unsigned threads, unsigned flags);
    int (*number)();
    int (*members)();

  private:
    template <class Function> static void find(Function *&function, const char *name) {
        function = reinterpret_cast<Function *>(dlsym(RTLD_DEFAULT, name));
    }
};

} // namespace

void run_team(int most, void (*run)(const void *work, const Member &member), const void *work) {
    Barrier barrier;
    if (most == 1) return run(work, Member{0, 1, barrier});
    static const OpenMP openmp;
    if (openmp) {
        const auto one = [&] { run(work, Member{openmp.number(), openmp.members(), barrier}); };
        const auto call = [](void *one_of) { (*static_cast<decltype(one) *>(one_of))(); };
        openmp.parallel(call, const_cast<void *>(static_cast<const void *>(&one)),
                        static_cast<unsigned>(most), 0);
        return;
    }
    std::vector<std::thread> others;
    for (int number = 1; number < most; ++number)
        others.emplace_back([&, number] { run(work, Member{number, most, barrier}); });
    run(work, Member{0, most, barrier});
    for (std::thread &other : others) other.join();
}

} // namespace growprune
