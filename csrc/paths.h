// Which paths there are.
#pragma once

#include "kernels.h"

#include <vector>

namespace growprune {

// The paths that were compiled and that this processor runs, fastest first.
std::vector<const Kernels *> available_kernels();

} // namespace growprune
