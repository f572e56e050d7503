"""LSTM whose four gates are small networks (Dai, Yin and Jha, arXiv 1805.11797)."""

import warnings
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from growprune.nn._gates import (
    GateHiddenSizes,
    initialize,
    parameter_shapes,
    parse_gate_hidden_sizes,
)
from growprune.nn._layers import State, check_input, check_state, run_layers, suffixes
from growprune.nn._recurrence import Direction, Plan, product_dtype, recur


class _GateNetworks(nn.Module):
    """What `HLSTM` and `HLSTMCell` share: settings and parameters of the gates."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        gate_hidden_sizes: GateHiddenSizes,
        gate_dropout: float,
        negative_slope: float,
    ) -> None:
        super().__init__()
        _check_size("input_size", input_size)
        _check_size("hidden_size", hidden_size)
        _check_fraction("gate_dropout", gate_dropout)
        if gate_dropout == 1:
            raise ValueError("gate_dropout must be below 1: a gate needs something to read")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self.gate_widths = parse_gate_hidden_sizes(gate_hidden_sizes)
        self.gate_dropout = gate_dropout
        self.negative_slope = negative_slope

    @property
    def negative_slope(self) -> float:
        """Slope of the gates' leaky ReLU below zero, 0 to 1; may be set at any time."""
        return self._negative_slope

    @negative_slope.setter
    def negative_slope(self, slope: float) -> None:
        _check_fraction("negative_slope", slope)
        self._negative_slope = float(slope)

    def _register(self, suffix: str, input_size: int, factory: dict[str, Any]) -> None:
        for name, shape in self._shapes(input_size).items():
            wanted = self.bias or name.startswith("weight")
            parameter = nn.Parameter(torch.empty(shape, **factory)) if wanted else None
            self.register_parameter(name + suffix, parameter)

    def _initialize(self, suffix: str) -> None:
        named = {name: getattr(self, name + suffix) for name in self._shapes(self.input_size)}
        present = {name: value for name, value in named.items() if value is not None}
        initialize(present, self.hidden_size, self.gate_widths, self.negative_slope)

    def _shapes(self, input_size: int) -> dict[str, tuple[int, ...]]:
        return parameter_shapes(input_size, self.hidden_size, self.gate_widths)

    def _direction(self, suffix: str, batch_sizes: list[int], h: Tensor, c: Tensor) -> Direction:
        """One layer and direction over packed rows."""
        parameters = [getattr(self, name + suffix) for name in self._shapes(self.input_size)]
        plan = Plan(
            widths=self.gate_widths,
            batch_sizes=batch_sizes,
            reverse=suffix.endswith("_reverse"),
            slope=self.negative_slope,
            keep=1 - self.gate_dropout if self.training else 1.0,
            product_dtype=product_dtype(parameters[0]),
        )
        return Direction(plan, h, c, parameters)


class HLSTM(_GateNetworks):
    """Stand-in for `torch.nn.LSTM` whose gates have hidden layers.

    For each gate k of i, f, g, o, with phi the leaky ReLU and one hidden layer:

        a_k = dropout(phi(W_k [x_t ; h_{t-1}] + b_k))
        z_k = V_k a_k + d_k
        i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o);  g = tanh(z_g)
        c_t = f * c_{t-1} + i * g;  h_t = o * tanh(c_t)

    Without hidden layers it is an ordinary LSTM with the parameters of `torch.nn.LSTM`.
    docs/hlstm.md describes the parameters' names and shapes.

    Args:
        input_size: features of the input.
        hidden_size: features of the hidden and the cell state.
        num_layers: layers stacked, each reading the outputs of the one before.
        bias: whether the gates have biases.
        batch_first: tensors are (batch, time, features) instead of (time, batch, features).
        dropout: probability of dropping an output between two layers.
        bidirectional: read the sequence both ways and concatenate the outputs.
        gate_hidden_sizes: widths of the gates' hidden layers: a sequence for all gates, or a
            mapping from "input", "forget", "cell", "output" where they differ (none if missing).
        gate_dropout: probability of dropping a hidden activation, drawn anew at each time step.
        negative_slope: slope of the leaky ReLU below zero, 0 to 1; a plain attribute later.
        device: where the parameters live.
        dtype: type of the parameters.

    Raises:
        ValueError: a size, probability, slope or gate name makes no sense.
    """

    weight_ih_l0: nn.Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        gate_hidden_sizes: GateHiddenSizes = (),
        gate_dropout: float = 0.0,
        negative_slope: float = 0.01,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, bias, gate_hidden_sizes, gate_dropout, negative_slope
        )
        _check_size("num_layers", num_layers)
        _check_fraction("dropout", dropout)
        if dropout and num_layers == 1:
            warnings.warn(
                "dropout acts between layers, so it does nothing with num_layers=1", stacklevel=2
            )
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        for layer in range(num_layers):
            ends = suffixes(self, layer)
            features = input_size if layer == 0 else hidden_size * len(ends)
            for suffix in ends:
                self._register(suffix, features, {"device": device, "dtype": dtype})
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew (docs/hlstm.md says from what)."""
        for layer in range(self.num_layers):
            for suffix in suffixes(self, layer):
                self._initialize(suffix)

    @torch.compiler.disable
    def forward(
        self,
        input: Tensor | PackedSequence,  # noqa: A002 - as torch.nn.LSTM names it
        hx: State | None = None,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Any, State]:
        """Run the layers over a batch of sequences.

        Args:
            input: (time, batch, input_size), (batch, time, input_size) with `batch_first`,
                (time, input_size) for a single sequence, or a `PackedSequence`.
            hx: first hidden and cell state, each (layers * directions, batch, hidden_size), or
                (layers * directions, hidden_size) for a single sequence; zeros if missing.
            lengths: steps of each sequence in a padded batch, (batch,), in any order. What
                follows them in `input` has no influence; the outputs there are zero.

        Returns:
            The outputs, laid out as the input, with hidden_size * directions features, and the
            hidden and cell state after each sequence's last step, shaped as `hx`.

        Raises:
            ValueError: shapes, dtypes or lengths do not fit.
        """
        return run_layers(self, self._direction, input, hx, lengths)

    @classmethod
    def from_lstm(cls, lstm: nn.LSTM) -> Self:
        """Make an ordinary LSTM (no gate has a hidden layer) with the weights of `lstm`.

        Raises:
            ValueError: `lstm` projects its hidden state.
        """
        if lstm.proj_size:
            raise ValueError(
                f"HLSTM has no projection, but this LSTM has proj_size={lstm.proj_size}"
            )
        weight: Tensor = lstm.get_parameter("weight_ih_l0")
        hlstm = cls(**_lstm_arguments(lstm), device=weight.device, dtype=weight.dtype)
        hlstm.load_state_dict(lstm.state_dict())
        return hlstm.train(lstm.training)

    def to_lstm(self) -> nn.LSTM:
        """Make a `torch.nn.LSTM` with the same weights.

        Raises:
            ValueError: a gate has hidden layers, which `torch.nn.LSTM` cannot have.
        """
        if any(self.gate_widths):
            raise ValueError(f"gates with hidden layers {self.gate_widths} have no torch.nn.LSTM")
        weight = self.weight_ih_l0
        lstm = nn.LSTM(**_lstm_arguments(self), device=weight.device, dtype=weight.dtype)
        lstm.load_state_dict(self.state_dict())
        return lstm.train(self.training)

    def extra_repr(self) -> str:
        """Settings, as the constructor takes them."""
        return _repr(self, ["num_layers", "bias", "batch_first", "dropout", "bidirectional"])


class HLSTMCell(_GateNetworks):
    """Stand-in for `torch.nn.LSTMCell` whose gates have hidden layers: one step of `HLSTM`.

    Parameters are named as those of `HLSTM` without the layer (`weight_ih`, `weight_i_1`, ...).

    Args:
        input_size: features of the input.
        hidden_size: features of the hidden and the cell state.
        bias: whether the gates have biases.
        gate_hidden_sizes: as in `HLSTM`.
        gate_dropout: as in `HLSTM`.
        negative_slope: as in `HLSTM`.
        device: where the parameters live.
        dtype: type of the parameters.

    Raises:
        ValueError: a size, probability, slope or gate name makes no sense.
    """

    weight_ih: nn.Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        gate_hidden_sizes: GateHiddenSizes = (),
        gate_dropout: float = 0.0,
        negative_slope: float = 0.01,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, bias, gate_hidden_sizes, gate_dropout, negative_slope
        )
        self._register("", input_size, {"device": device, "dtype": dtype})
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew (docs/hlstm.md says from what)."""
        self._initialize("")

    @torch.compiler.disable
    def forward(
        self,
        input: Tensor,  # noqa: A002 - as torch.nn.LSTMCell names it
        hx: State | None = None,
    ) -> State:
        """Advance one step.

        Args:
            input: (batch, input_size), or (input_size,) for a single sequence.
            hx: hidden and cell state, each (batch, hidden_size) or (hidden_size,); zeros if
                missing.

        Returns:
            The next hidden and cell state.

        Raises:
            ValueError: shapes or dtypes do not fit.
        """
        if input.dim() not in (1, 2):
            raise ValueError(f"input must have 1 or 2 dimensions, got shape {tuple(input.shape)}")
        check_input(input, self.input_size, self.weight_ih)
        shape = (*input.shape[:-1], self.hidden_size)
        dtype = self.weight_ih.dtype
        if hx is None:
            hx = input.new_zeros(shape, dtype=dtype), input.new_zeros(shape, dtype=dtype)
        check_state(hx, shape)
        h, c = (state.to(dtype).view(-1, self.hidden_size) for state in hx)
        direction = self._direction("", [len(h)], h, c)
        [(_, h, c)] = recur(input.view(-1, self.input_size), [direction])
        return h.view(shape), c.view(shape)

    def extra_repr(self) -> str:
        """Settings, as the constructor takes them."""
        return _repr(self, ["bias"])


def _lstm_arguments(lstm: Any) -> dict[str, Any]:
    names = ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"]
    return {name: getattr(lstm, name) for name in [*names, "bidirectional"]}


def _repr(module: _GateNetworks, names: Sequence[str]) -> str:
    settings = [*names, "gate_widths", "gate_dropout", "negative_slope"]
    values = [f"{name}={getattr(module, name)}" for name in settings]
    return ", ".join([str(module.input_size), str(module.hidden_size), *values])


def _check_size(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def _check_fraction(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}")
