"""Matrix products of the recurrence, through the library that is fastest at them.

`torch.mm` calls MKL for float32, which on AMD processors leaves the 512-bit registers unused. The
oneDNN operator that TorchInductor emits for `nn.Linear` uses them: at the sizes of a recurrent
layer it ran at 1.2 to 2.3 times the rate of `torch.mm` (benchmarks/hlstm_step.py shows what is
left of it in a whole step). Anywhere else products go through `torch.nn.functional.linear`.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear as torch_linear


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x @ weight.T + bias, with the product in weight's dtype and the rest in x's.

    Args:
        x: (rows, in), contiguous or the transpose of something contiguous.
        weight: (out, in), likewise; fastest as a transpose.
        bias: (out,), in x's dtype.

    Returns:
        (rows, out), in x's dtype.
    """
    if x.dtype != weight.dtype:
        y = torch_linear(x.to(weight.dtype), weight).to(x.dtype)
        return y if bias is None else y.add_(bias)
    onednn = _onednn_linear()
    if onednn is not None and x.dtype == torch.float32 and x.device.type == "cpu":
        return onednn(x, weight, bias, "none", [], "")
    return torch_linear(x, weight, bias)


@functools.cache
def _onednn_linear() -> Callable[..., Tensor] | None:
    """The operator where it is the faster one, else None."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    # Not part of the public interface: builds without oneDNN lack it, and later ones may.
    return getattr(getattr(torch.ops.mkldnn, "_linear_pointwise", None), "default", None)
