// The kernels of one path. Compiled once per instruction set, with its flags and with KERNEL_PATH
// defined as its name. Whatever is included here must not define functions outside the path's
// namespace: the linker would keep one path's version of them for all.

#include "../kernels.h"

#include "lanes.h"

#include "functions.h"

#include "elementwise.h"

#include "endings.h"

#include "zeros.h"

#include "dense.h"

#include "blocks.h"

#include "csr.h"

#include "products.h"

#include "cells.h"

#include "lanes_dense.h"

#include "lanes_layer.h"

#include "lanes_blocks.h"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

namespace growprune::KERNEL_PATH {

extern const Kernels kernels = {
    TEXT(KERNEL_PATH), BUNDLE,       product,   lstm,            gru,
    squash_each,       sigmoid_each, tanh_each, leaky_relu_each, layer_norm,
    log_softmax,
    {TILE, lane_transpose, DENSE_LANES<Exact>, sparse_product, block_product, block_product_back,
     lane_cell, lane_cell_back, lane_activate, lane_activate_back, lane_dropout, lane_dots, block_dots,
     lane_sums},
};

} // namespace growprune::KERNEL_PATH
