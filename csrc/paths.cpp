// Which paths were compiled (GROWPRUNE_X86 or GROWPRUNE_NEON) and which this processor runs.

#include "paths.h"

namespace growprune {

#if defined(GROWPRUNE_X86)

namespace avx512 { extern const Kernels kernels; }
namespace avx2 { extern const Kernels kernels; }

static bool runs_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

// The instruction sets that CMakeLists.txt turns on for this path.
static bool runs_avx512() {
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

#elif defined(GROWPRUNE_NEON)

namespace neon { extern const Kernels kernels; }

#endif

#if !defined(GROWPRUNE_NEON)
namespace baseline { extern const Kernels kernels; }
#endif

std::vector<const Kernels *> available_kernels() {
    std::vector<const Kernels *> found;
#if defined(GROWPRUNE_X86)
    __builtin_cpu_init();
    if (runs_avx512()) found.push_back(&avx512::kernels);
    if (runs_avx2()) found.push_back(&avx2::kernels);
#endif
#if defined(GROWPRUNE_NEON)
    found.push_back(&neon::kernels); // every 64-bit ARM has it
#else
    found.push_back(&baseline::kernels);
#endif
    return found;
}

#if defined(GROWPRUNE_AVX512_BF16)
namespace avx512_bf16 { extern const DenseLanes rounded; }
#endif

const DenseLanes *rounded_products(const Kernels &kernels) {
#if defined(GROWPRUNE_AVX512_BF16)
    if (&kernels == &avx512::kernels && __builtin_cpu_supports("avx512bf16"))
        return &avx512_bf16::rounded;
#endif
    static_cast<void>(kernels);
    return nullptr;
}

} // namespace growprune
