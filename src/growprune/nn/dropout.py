"""Dropout whose random numbers are cheap on a CPU."""

import torch
from torch import Tensor, nn

_VALUES = 2**16


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, with 16 random bits for each value of a float tensor on a CPU.

    torch's numbers took an eighth of a captioner's training step. `p` counts in units of 1/65536;
    what is kept is scaled by one over the probability that is then left.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        """Drop values of any shape."""
        dropped = round(self.p * _VALUES)
        cheap = input.device.type == "cpu" and input.is_floating_point() and not self.inplace
        if not (self.training and cheap and 0 < dropped < _VALUES):
            return super().forward(input)
        draws = -(-input.numel() // 4)
        bits = torch.empty(draws, dtype=torch.int64, device="cpu").random_(-(2**63), None)
        kept = bits.view(torch.int16)[: input.numel()] >= dropped - _VALUES // 2
        factors = kept.to(input.dtype).mul_(_VALUES / (_VALUES - dropped))
        return input * factors.view(input.shape)
