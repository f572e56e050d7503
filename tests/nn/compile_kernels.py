"""Compiles the GPU's kernels for a kind of GPU that need not be here: `compile_kernels.py 90`."""

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from growprune.nn import _triton_kernels

NUMBERS = {
    "steps": "i32",
    "rows": "i32",
    "all_rows": "i32",
    "N": "i32",
    "M": "i32",
    "slope": "fp32",
}
INTEGERS = ("starts", "counts", "barrier")
TILES = {"BM_1": 32, "BN_1": 16, "BM_2": 16, "BN_2": 16, "BK": 128}


def compiled(kernel, weights, constants):
    names = kernel.arg_names
    constants = {name: value for name, value in constants.items() if name in names}
    types = dict.fromkeys(names, "*fp32") | dict.fromkeys(INTEGERS, "*i32") | NUMBERS
    types |= {"hh": weights, "later": weights} | dict.fromkeys(constants, "constexpr")
    source = ASTSource(
        kernel,
        {name: types[name] for name in names},
        {(names.index(name),): value for name, value in constants.items()},
    )
    target = GPUTarget("cuda", int(sys.argv[1]), 32)
    return triton.compile(source, target=target, options={"num_warps": 4, "num_stages": 3}).asm[
        "ptx"
    ]


for kernel in (_triton_kernels.forward_kernel, _triton_kernels.backward_kernel):
    for weights, precision in (("*fp32", "tf32"), ("*fp32", "ieee"), ("*bf16", "tf32")):
        flags = dict.fromkeys(("REVERSE", "RECORD", "BIAS", "DROPOUT"), True)
        ptx = compiled(kernel, weights, {**flags, **TILES, "PRECISION": precision})
        assert "atom.global.gpu.acq_rel" in ptx
        assert ("mma" in ptx) == (precision == "tf32")
        print(kernel.__name__, weights, precision)
