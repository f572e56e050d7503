// Dense products of numbers rounded to bfloat16. Compiled once, with the instructions for them, and in
// a namespace of its own as kernels.cpp is.

#include "../kernels.h"

#include "lanes.h"

#include "lanes_dense.h"

namespace growprune::KERNEL_PATH {

struct Rounded {
    static constexpr int NUMBERS = 2;

    static INLINE void add(Vec &sum, Vec x, float weights) {
        sum = (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)_mm512_set1_ps(weights));
    }

    static INLINE Four four_places(const float *from) {
        return (Four)_mm256_cvtneps_pbh(_mm256_loadu_ps(from));
    }

    // Of `left` lanes, 16 or more.
    static INLINE Vec places(const float *from, int left) {
        const __m512 second = _mm512_maskz_loadu_ps(left > WIDTH ? 0xffff : 0, from + WIDTH);
        return (Vec)_mm512_cvtne2ps_pbh(second, _mm512_loadu_ps(from));
    }

    // A number of each row, and the next one if there is any left.
    static INLINE void lay(const float *from, ptrdiff_t stride, int left, int rows, float *to) {
        for (int row = 0; row < rows; row += WIDTH) {
            const __mmask16 live = rows - row < WIDTH ? (1 << (rows - row)) - 1 : 0xffff;
            const __m512 first = _mm512_maskz_loadu_ps(live, from + row);
            const __m512 second =
                _mm512_maskz_loadu_ps(left > 1 ? live : 0, from + stride + row);
            const __m512i apart = (__m512i)_mm512_cvtne2ps_pbh(second, first);
            const __m512i pairs = _mm512_permutexvar_epi16((__m512i)by_turns(), apart);
            _mm512_mask_storeu_epi32(to + row, live, pairs);
        }
    }

  private:
    // From two halves to pairs.
    static INLINE IntVec by_turns() {
        IntVec pairs;
        for (int i = 0; i < WIDTH; ++i) pairs[i] = i | (i + WIDTH) << 16;
        return pairs;
    }
};

extern const DenseLanes rounded = DENSE_LANES<Rounded>;

} // namespace growprune::KERNEL_PATH
