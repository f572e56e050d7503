// Which paths there are.
#pragma once

#include "kernels.h"

#include <vector>

namespace growprune {

// The paths that were compiled and that this processor runs, fastest first.
std::vector<const Kernels *> available_kernels();

// A path's products of numbers rounded to bfloat16; null where it, or this processor, has none.
const DenseLanes *rounded_products(const Kernels &kernels);

} // namespace growprune
