"""Kernels of the runtime: sparse products, recurrent layers and activations, on NumPy arrays.

The same functions run on one of several paths. `kernel()` names it: the instruction set the
compiled kernels were built for, or "numpy", the specification all others are tested against and
the fallback where nothing could be compiled. The path is chosen once, when this room is imported;
the environment variable GROWPRUNE_KERNEL forces one (docs/kernels.md).

Shapes and types are checked here, contents are not: whoever reads a matrix from a file must have
checked that its indices lie inside it.
"""

from growprune.native.functions import layer_norm, leaky_relu, log_softmax, sigmoid, tanh
from growprune.native.matrix import Matrix, blocks, csr, dense, product
from growprune.native.paths import kernel
from growprune.native.recurrent import Recurrent
from growprune.native.reference import PANEL

__all__ = [
    "PANEL",
    "Matrix",
    "Recurrent",
    "blocks",
    "csr",
    "dense",
    "kernel",
    "layer_norm",
    "leaky_relu",
    "log_softmax",
    "product",
    "sigmoid",
    "tanh",
]
