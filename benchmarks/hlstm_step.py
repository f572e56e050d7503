"""Time of one training step (forward and backward) of the recurrent layers.

Compares `growprune.nn.HLSTM` with the same layer as a plain autograd loop, and with
`torch.nn.LSTM`, which has fewer weights: compare those two by FLOP rate. All run interleaved in
one process, so that a busy machine slows them alike; the table gives medians.

    python benchmarks/hlstm_step.py --threads 1 --json step.json
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from machine import describe, write_figures
from torch import Tensor, nn

from growprune.nn import HLSTM

DEFAULT_SHAPES = ["150,16,320", "150,16,512", "100,16,256", "60,16,256"]


class PlainLoop(nn.Module):
    """The layer of `HLSTM` with one hidden layer per gate, left to autograd step by step."""

    def __init__(self, layer: HLSTM) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Map (time, batch, features) to (time, batch, hidden)."""
        p = self.layer
        h = c = x.new_zeros(x.shape[1], p.hidden_size)
        outputs = []
        for x_t in x:
            first = F.linear(x_t, p.weight_ih_l0, p.bias_ih_l0)
            first = first + F.linear(h, p.weight_hh_l0, p.bias_hh_l0)
            a = F.leaky_relu(first, p.negative_slope).chunk(4, -1)
            i = torch.sigmoid(F.linear(a[0], p.weight_i_1_l0, p.bias_i_1_l0))
            f = torch.sigmoid(F.linear(a[1], p.weight_f_1_l0, p.bias_f_1_l0))
            g = torch.tanh(F.linear(a[2], p.weight_g_1_l0, p.bias_g_1_l0))
            o = torch.sigmoid(F.linear(a[3], p.weight_o_1_l0, p.bias_o_1_l0))
            c = f * c + i * g
            h = o * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs)


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(describe(args.threads))
    print(f"{'time,batch,width':18}{'layer':14}{'ms/step':>9}{'GFLOP/s':>9}{'x plain':>9}")
    rows = [row for shape in args.shape for row in measure(shape, args.repeats)]
    if args.json:
        write_figures(args.json, args.threads, rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=15, help="steps timed per layer")
    parser.add_argument(
        "--shape",
        nargs="+",
        default=DEFAULT_SHAPES,
        help="time,batch,width; input, hidden and gate layers all have this width",
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


def measure(shape: str, repeats: int) -> list[dict[str, object]]:
    """Time every layer at one shape, print the rows and return them."""
    steps, batch, width = map(int, shape.split(","))
    x = torch.randn(steps, batch, width)
    hlstm = HLSTM(width, width, gate_hidden_sizes=(width,))
    lstm = nn.LSTM(width, width)
    plain = PlainLoop(hlstm)
    layers: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]] = {
        "plain loop": (hlstm, plain),
        "HLSTM": (hlstm, lambda x: hlstm(x)[0]),
        "torch.nn.LSTM": (lstm, lambda x: lstm(x)[0]),
    }
    torch.testing.assert_close(hlstm(x)[0], plain(x), rtol=1e-4, atol=1e-5)
    seconds = interleaved(layers, x, repeats)
    rows = []
    for name, (layer, _) in layers.items():
        weights = sum(p.numel() for p in layer.parameters() if p.dim() == 2)
        flop = 3 * 2 * weights * steps * batch  # forward once, backward twice
        rate, ratio = flop / seconds[name] / 1e9, seconds["plain loop"] / seconds[name]
        print(f"{shape:18}{name:14}{1e3 * seconds[name]:9.1f}{rate:9.1f}{ratio:9.2f}")
        rows.append({"shape": shape, "layer": name, "seconds": seconds[name], "gflops": rate})
    return rows


def interleaved(
    layers: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]], x: Tensor, repeats: int
) -> dict[str, float]:
    """Median seconds of a training step of each layer."""
    taken: dict[str, list[float]] = {name: [] for name in layers}
    for _ in range(repeats + 2):
        for name, (layer, run) in layers.items():
            taken[name].append(step_seconds(layer, run, x))
    return {name: statistics.median(times[2:]) for name, times in taken.items()}


def step_seconds(layer: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> float:
    x = x.detach().requires_grad_()
    layer.zero_grad()
    start = time.perf_counter()
    run(x).sum().backward()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
