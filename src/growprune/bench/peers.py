"""The same LSTM layer in other engines, each with its best settings for one thread."""

from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np

from growprune.bench import onnx_graphs
from growprune.bench.engines import missing, onnxruntime_session, openvino_request, quantised
from growprune.bench.lstm import Array, LstmWeights, sigmoid


@dataclass(frozen=True)
class Prepared:
    """A layer with its inputs in place.

    Attributes:
        call: runs through them; what it returns is the engine's own.
        outputs: the outputs `(time, hidden)` in what `call` returned.
    """

    call: Callable[[], Any]
    outputs: Callable[[Any], Array]


Builder = Callable[[LstmWeights, Array, Array, Array], Prepared]
"""Takes weights, `x (time, input)` and the state before, `h` and `c (hidden,)`."""


@dataclass(frozen=True)
class Peer:
    """An engine to measure against.

    Attributes:
        build: makes the layer.
        needs: packages it takes; the first is the engine.
        sparse: whether it profits from zeros among the weights.
        steps_only: whether it runs single steps only.
        tolerance: by how much its outputs may differ from the specification's.
    """

    build: Builder
    needs: tuple[str, ...]
    sparse: bool = False
    steps_only: bool = False
    tolerance: float = 1e-4

    @property
    def missing(self) -> tuple[str, ...]:
        """Those of the packages that are not installed."""
        return missing(*self.needs)


def _torch_layer(weights: LstmWeights, cell: bool) -> Any:
    import torch

    layer = (torch.nn.LSTMCell if cell else torch.nn.LSTM)(weights.ih.shape[1], weights.hidden)
    suffix = "" if cell else "_l0"
    arrays = {
        f"weight_ih{suffix}": weights.ih,
        f"weight_hh{suffix}": weights.hh,
        f"bias_ih{suffix}": weights.bias,
        f"bias_hh{suffix}": np.zeros_like(weights.bias),
    }
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return layer.eval().requires_grad_(False)


def _torch_lstm(weights: LstmWeights, x: Array, h: Array, c: Array) -> Prepared:
    import torch

    layer = _torch_layer(weights, cell=False)
    row, state = (
        torch.from_numpy(x[:, None]),
        tuple(torch.from_numpy(s[None, None]) for s in (h, c)),
    )
    return Prepared(lambda: layer(row, state), lambda found: found[0][:, 0].numpy())


def _torch_cell(weights: LstmWeights, x: Array, h: Array, c: Array) -> Prepared:
    import torch

    layer = _torch_layer(weights, cell=True)
    row, state = torch.from_numpy(x), tuple(torch.from_numpy(array[None]) for array in (h, c))
    return Prepared(lambda: layer(row, state), lambda found: found[0].numpy())


def _torch_compiled(weights: LstmWeights, x: Array, h: Array, c: Array) -> Prepared:
    """Weights frozen into the code; a lone step as a cell, whose product is tuned."""
    import torch
    from torch import _inductor as inductor

    torch._dynamo.reset()
    tensors = [torch.from_numpy(array) for array in (x, h[None], c[None])]
    if len(x) > 1:
        tensors = [tensors[0][:, None], *(state[None] for state in tensors[1:])]
    row, *state = tensors
    compiled = torch.compile(_torch_layer(weights, cell=len(x) == 1))
    freezing = inductor.config.patch(freezing=True, max_autotune=len(x) == 1)
    # Without `allow_rnn` torch compiles around an LSTM; tuning reports on standard error.
    with freezing, torch._dynamo.config.patch(allow_rnn=True), redirect_stderr(StringIO()):
        compiled(row, tuple(state))
        compiled(row, tuple(state))
    return Prepared(
        lambda: compiled(row, tuple(state)),
        lambda found: found[0].reshape(len(x), -1).numpy(),
    )


def _onnxruntime(weights: LstmWeights, x: Array, h: Array, c: Array) -> Prepared:
    return _onnxruntime_bound(onnx_graphs.lstm(weights, len(x)), x, h, c)


def _onnxruntime_int8(weights: LstmWeights, x: Array, h: Array, c: Array) -> Prepared:
    return _onnxruntime_bound(quantised(onnx_graphs.lstm(weights, len(x))), x, h, c)


def _onnxruntime_bound(model: bytes, x: Array, h: Array, c: Array) -> Prepared:
    """Inputs and outputs stay where they are, so that no call copies or allocates."""
    from onnxruntime import OrtValue

    session = onnxruntime_session(model)
    binding = session.io_binding()
    for name, array in {"x": x[:, None], "h": h[None, None], "c": c[None, None]}.items():
        binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array))
    y = OrtValue.ortvalue_from_numpy(np.zeros((len(x), 1, 1, len(h)), np.float32))
    binding.bind_ortvalue_output("y", y)
    for name in ("h_last", "c_last"):
        value = OrtValue.ortvalue_from_numpy(np.zeros((1, 1, len(h)), np.float32))
        binding.bind_ortvalue_output(name, value)
    return Prepared(
        lambda: session.run_with_iobinding(binding), lambda _: y.numpy().reshape(len(x), -1)
    )


def _openvino(weights: LstmWeights, x: Array, h: Array, c: Array) -> Prepared:
    import openvino

    request = openvino_request(onnx_graphs.lstm(weights, len(x)))
    for index, array in enumerate((x[:, None], h[None, None], c[None, None])):
        request.set_input_tensor(index, openvino.Tensor(np.ascontiguousarray(array)))
    return Prepared(
        request.infer, lambda _: request.get_output_tensor(0).data.reshape(len(x), -1).copy()
    )


def _scipy(weights: LstmWeights, x: Array, h: Array, c: Array) -> Prepared:
    """Sparse products by SciPy, everything else by NumPy; a sequence's inputs at once."""
    from scipy.sparse import csr_array

    ih, hh, bias = csr_array(weights.ih), csr_array(weights.hh), weights.bias

    def run() -> Array:
        state, cell = h, c
        outputs = np.empty((len(x), len(h)), np.float32)
        for number, from_x in enumerate((ih @ x.T).T + bias):
            i, f, g, o = (from_x + hh @ state).reshape(4, -1)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            state = outputs[number] = sigmoid(o) * np.tanh(cell)
        return outputs

    return Prepared(run, lambda found: found)


PEERS = {
    "torch.nn.LSTM": Peer(_torch_lstm, ("torch",)),
    "torch.nn.LSTMCell": Peer(_torch_cell, ("torch",), steps_only=True),
    "torch compiled": Peer(_torch_compiled, ("torch",)),
    "onnxruntime": Peer(_onnxruntime, ("onnxruntime", "onnx")),
    "onnxruntime int8": Peer(_onnxruntime_int8, ("onnxruntime", "onnx"), tolerance=0.05),
    "OpenVINO": Peer(_openvino, ("openvino", "onnx")),
    "SciPy CSR": Peer(_scipy, ("scipy",), sparse=True),
}
"""Every engine that is measured against, by the name tables give it."""
