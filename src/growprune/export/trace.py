"""Follows the `forward` of a module with `torch.fx` and turns what it calls into nodes.

Torch orders axes as each layer likes; a packed network always has `(batch, time, *features)`.
So a traced value is a packed value together with torch's order of its axes: transposing it only
changes that order, and the features are put in order where a layer needs them to be.
"""

import inspect
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from growprune.export import layers
from growprune.export.builder import INPUT, Builder
from growprune.export.parameters import Parameters
from growprune.nn import HLSTM

BATCH, TIME = "b", "t"
Axis = str | int


@dataclass(frozen=True)
class Value:
    """A packed value as the traced module sees it.

    Attributes:
        name: of the value in the builder.
        axes: what each axis of the tensor is: batch, time, or the number of an axis of features.
        padding: steps of zeros the module has put before and after it, for a convolution.
    """

    name: str
    axes: tuple[Axis, ...]
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Packed:
    """A `PackedSequence` of a value."""

    value: Value


@dataclass(frozen=True)
class Extent:
    """The length of the batch or time axis, which is not known."""

    axis: str


@dataclass(frozen=True)
class Ignored:
    """Something that may be passed on but has no place in a packed network.

    Attributes:
        what: it is, for the error where it is used after all.
    """

    what: str


@dataclass(frozen=True)
class States:
    """One of the last states of a recurrent layer, `(layers * directions, batch, hidden)`.

    Attributes:
        outputs: the outputs of each layer and direction.
        directions: 1 or 2.
    """

    outputs: tuple[str, ...]
    directions: int


class UnsupportedError(ValueError):
    """Something that a packed network cannot do."""


LENGTHS, CELL = Ignored("the lengths"), Ignored("a cell state")
ZEROS = Ignored("a tensor of zeros")


def input_axes(axes: str) -> tuple[Axis, ...]:
    """Axes from letters: b for batch, t for time, f for features.

    Raises:
        ValueError: other letters, or not one b and at most one t.
    """
    if axes.count(BATCH) != 1 or axes.count(TIME) > 1 or axes.strip("btf"):
        raise ValueError(
            f"axes must be made of one 'b', at most one 't', and 'f's, such as 'btf', got {axes!r}"
        )
    numbers = iter(range(len(axes)))
    return tuple(next(numbers) if axis == "f" else axis for axis in axes)


def trace(module: nn.Module) -> fx.Graph:
    """The calls that a module's `forward` makes, in evaluation mode.

    Raises:
        ValueError: its way depends on the data, or it uses something that cannot be followed.
    """
    tracer = _Tracer(autowrap_functions=(pack_padded_sequence, pad_packed_sequence))
    tracer._autowrap_search.append(nn.utils.rnn)
    parameters = list(inspect.signature(module.forward).parameters.values())
    defaults = {p.name: p.default for p in parameters[1:] if p.default is not p.empty}
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        graph = tracer.trace(module, concrete_args=defaults)
    except (fx.proxy.TraceError, TypeError, RuntimeError, AttributeError, NotImplementedError) as e:
        raise ValueError(
            f"{type(module).__name__}.forward cannot be packed, because torch.fx cannot follow it "
            f"({e}); move what depends on the data out of it"
        ) from e
    finally:
        for part, training in modes.items():
            part.training = training
    return graph


class _Tracer(fx.Tracer):
    """Goes no further into layers that are packed as a whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether `m` is one call."""
        return isinstance(m, HLSTM) or super().is_leaf_module(m, module_qualified_name)


class Translator:
    """Turns a traced module into nodes of a builder.

    Args:
        module: the traced module.
        parameters: its weights.
        builder: takes the nodes.
        axes: of the module's input.
    """

    def __init__(
        self, module: nn.Module, parameters: Parameters, builder: Builder, axes: tuple[Axis, ...]
    ) -> None:
        self._modules = dict(module.named_modules(remove_duplicate=False))
        self._parameters, self._builder = parameters, builder
        self._input = Value(INPUT, axes)
        self._values: dict[fx.Node, Any] = {}

    def translate(self, graph: fx.Graph) -> str:
        """Add the nodes of a graph; the name of its output.

        Raises:
            ValueError: something in it is not supported; names the layer or operation.
        """
        for node in graph.nodes:
            try:
                self._values[node] = self._result(node)
            except UnsupportedError as error:
                raise ValueError(f"{_described(node)} cannot be packed: {error}") from None
        return next(self._values[node].name for node in graph.nodes if node.op == "output")

    def _result(self, node: fx.Node) -> Any:
        arguments = fx.node.map_arg(node.args, self._values.__getitem__)
        options = dict(fx.node.map_arg(node.kwargs, self._values.__getitem__))
        if node.op == "placeholder":
            first = not any(isinstance(value, Value) for value in self._values.values())
            return self._input if first else node.args[0] if node.args else LENGTHS
        if node.op == "output":
            return self._output(arguments[0])
        if node.op == "call_module":
            return self._layer(str(node.target), arguments, options)
        if node.op == "call_function":
            return self._function(node, arguments, options)
        if node.op == "call_method":
            return self._method(node, arguments, options)
        raise UnsupportedError("the module uses a parameter or buffer outside of a layer")

    def _output(self, found: Any) -> Value:
        """The first of several outputs; the others must have no place in a packed network."""
        first, *others = found if isinstance(found, tuple | list) else [found]
        if not isinstance(first, Value) or any(isinstance(other, Value) for other in others):
            raise UnsupportedError("it must be one tensor; return just that, or that and lengths")
        value = self._plain(first)
        features = [axis for axis in value.axes if isinstance(axis, int)]
        return self._arranged(value, features)

    # Layers

    def _layer(self, path: str, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        layer = self._modules[path]
        add = (self._builder, self._parameters, path)
        x = arguments[0] if arguments else options.pop("input")
        if isinstance(layer, nn.LSTM | nn.GRU | HLSTM):
            return self._recurrent(path, layer, x, *arguments[1:], **options)
        if not isinstance(x, Value):
            raise UnsupportedError(f"it reads {_name(x)}")
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            return self._convolution(path, layer, x)
        if isinstance(layer, nn.ConstantPad1d) and not layer.value:
            return self._pad(x, layer.padding)
        x = self._plain(x)
        if isinstance(layer, nn.Identity | nn.Dropout | nn.Dropout1d | nn.Dropout2d):
            return x
        if isinstance(layer, nn.Flatten):
            return self._flatten(x, layer.start_dim, layer.end_dim)
        if isinstance(layer, nn.Linear):
            return self._on_axis(x, -1, partial(layers.linear, *add, layer))
        if isinstance(layer, nn.LayerNorm):
            return self._on_axis(x, -1, partial(layers.layer_norm, self._builder, path, layer))
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            return self._on_axis(x, 1, partial(layers.batch_norm, self._builder, path, layer))
        if isinstance(layer, nn.Softmax | nn.LogSoftmax):
            op = "softmax" if isinstance(layer, nn.Softmax) else "log_softmax"
            return self._softmax(path, op, x, layer.dim)
        if isinstance(layer, nn.Embedding):
            return Value(layers.embedding(*add, layer, x.name), (*x.axes, 0))
        return self._activation(path, layer, x)

    def _activation(self, path: str, layer: nn.Module, x: Value) -> Value:
        return replace(x, name=layers.activation(self._builder, path, layer, x.name))

    def _recurrent(
        self,
        path: str,
        layer: layers.Recurrent,
        x: Any,
        hx: Any = None,
        lengths: Any = None,  # noqa: ARG002 - lengths travel along with every packed value
    ) -> tuple[Any, Any]:
        if hx is not None and not (hx is ZEROS or hx == (ZEROS, ZEROS)):
            raise UnsupportedError("it starts from a state that is not zero; leave the state out")
        value = self._plain(x.value if isinstance(x, Packed) else x)
        if not isinstance(x, Packed):
            ahead = (BATCH, TIME) if layer.batch_first else (TIME, BATCH)
            if value.axes[:2] != ahead or len(value.axes) != 3:
                raise UnsupportedError(
                    f"it reads ({_text((*ahead, 0))}), but is given ({_text(value.axes)}); "
                    "say with `axes` how the module's input is laid out, or transpose"
                )
        outputs = layers.recurrent(self._builder, self._parameters, path, layer, value.name)
        name = layers.joined(self._builder, f"{path}.both", outputs[-1])
        output = replace(value, name=name)
        states = States(tuple(name for both in outputs for name in both), len(outputs[0]))
        last = states if isinstance(layer, nn.GRU) else (states, CELL)
        return (Packed(output) if isinstance(x, Packed) else output), last

    def _convolution(self, path: str, layer: nn.Conv1d | nn.Conv2d, x: Value) -> Value:
        wanted = 2 + len(layer.kernel_size)
        if len(x.axes) != wanted or x.axes[0] != BATCH or x.axes[1] == TIME or TIME not in x.axes:
            raise UnsupportedError(
                f"it reads (batch, channels, ...) with time among the last {wanted - 2} axes, but "
                f"is given ({_text(x.axes)}); say with `axes` how the module's input is laid out, "
                "or transpose"
            )
        time_axis = x.axes.index(TIME) - 2
        features = [axis for axis in x.axes[2:] if isinstance(axis, int)]
        arranged = self._arranged(x, [*features, *_features(x.axes[1:2])])
        name = layers.convolution(
            self._builder,
            self._parameters,
            path,
            layer,
            arranged.name,
            time_padding=x.padding,
            time_axis=time_axis,
        )
        return Value(name, arranged.axes)

    def _on_axis(self, x: Value, axis: int, add: Callable[[str], str]) -> Value:
        """Add a node that works on one axis of features."""
        feature = _axis_at(x, axis)
        if not isinstance(feature, int):
            raise UnsupportedError(f"it works on the {_text([feature])} axis of ({_text(x.axes)})")
        others = [other for other in _features(x.axes) if other != feature]
        arranged = self._arranged(x, [*others, feature])
        return replace(arranged, name=add(arranged.name))

    def _softmax(self, name: str, op: str, x: Value, dim: int | None) -> Value:
        if dim is None:
            raise UnsupportedError("it needs to say which axis it works on")
        return self._on_axis(x, dim, lambda value: self._builder.add(name, op, [value]))

    # Functions and methods

    def _function(self, node: fx.Node, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        function: Any = node.target
        if function is operator.getitem:
            return self._item(node.name, *arguments)
        if function is getattr:
            return self._attribute(*arguments)
        if function in (torch.zeros, torch.zeros_like):
            return ZEROS
        if function.__name__ == "_assert_is_none":
            return None
        if function is pack_padded_sequence:
            return self._pack_sequence(*arguments, **options)
        if function is pad_packed_sequence:
            return self._unpack_sequence(*arguments, **options)
        if function in (operator.add, operator.iadd, torch.add):
            return self._add(node.name, *arguments, **options)
        if function in (torch.cat, torch.concat, torch.concatenate):
            return self._concatenate(node.name, *arguments, **options)
        if function is F.pad:
            return self._functional_pad(*arguments, **options)
        return self._method(node, arguments, options)

    def _method(self, node: fx.Node, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        """A method of a tensor, or a function that does the same."""
        target: Any = node.target
        name = target if isinstance(target, str) else target.__name__
        x, *others = arguments if arguments else [options.pop("input", None)]
        if isinstance(x, Ignored):
            return x
        if isinstance(x, States) and name == "squeeze" and len(x.outputs) == 1:
            return self._last(node.name, x, 0)
        if not isinstance(x, Value):
            raise UnsupportedError(f"it reads {_name(x)}")
        methods: dict[str, Callable[..., Any]] = {
            "flatten": self._flatten,
            "transpose": _transposed,
            "swapaxes": _transposed,
            "permute": _permuted,
            "unsqueeze": partial(self._unsqueeze, node.name),
            "squeeze": partial(self._squeeze, node.name),
            "view": partial(self._reshape, node.name),
            "reshape": partial(self._reshape, node.name),
            "size": self._size,
            "mean": partial(self._mean, node.name),
            "softmax": partial(self._softmax_call, node.name, "softmax"),
            "log_softmax": partial(self._softmax_call, node.name, "log_softmax"),
        }
        if name in methods:
            return methods[name](self._plain(x), *others, **options)
        if name in _UNCHANGED:
            return x
        return self._functional_activation(node, name, self._plain(x), others, options)

    def _functional_activation(
        self, node: fx.Node, name: str, x: Value, others: Sequence[Any], options: dict[str, Any]
    ) -> Value:
        if name not in _ACTIVATIONS:
            raise UnsupportedError(
                f"{name} is not supported; docs/packed-models.md lists what is, and layers "
                "outside of that can run before or after the packed model"
            )
        options.pop("inplace", None)
        return self._activation(node.name, _ACTIVATIONS[name](*others, **options), x)

    def _softmax_call(
        self,
        name: str,
        op: str,
        x: Value,
        dim: int | None = None,
        **_: Any,
    ) -> Value:
        return self._softmax(name, op, x, dim)

    def _attribute(self, x: Any, name: str) -> Any:
        if isinstance(x, Value) and name == "shape":
            return self._size(x)
        if isinstance(x, Value) and name in ("device", "dtype"):
            return Ignored(f"a {name}")
        raise UnsupportedError(f"the attribute {name} of {_name(x)} is not known")

    def _size(self, x: Value, dim: int | None = None) -> Any:
        sizes = self._builder.features(x.name)
        extents = [sizes[axis] if isinstance(axis, int) else Extent(axis) for axis in x.axes]
        return tuple(extents) if dim is None else extents[dim]

    def _item(self, name: str, x: Any, index: Any) -> Any:
        if isinstance(x, tuple | list):
            return x[index]
        if isinstance(x, States):
            return self._last(name, x, index)
        if not isinstance(x, Value):
            raise UnsupportedError(f"it picks from {_name(x)}")
        return self._picked(name, self._plain(x), index if isinstance(index, tuple) else (index,))

    def _picked(self, name: str, x: Value, index: tuple[Any, ...]) -> Value:
        """`x[:, -1]` and the like: the first or the last step."""
        if Ellipsis in index:
            place = index.index(Ellipsis)
            missing = len(x.axes) - len(index) + 1
            index = (*index[:place], *[slice(None)] * missing, *index[place + 1 :])
        chosen = {a: i for a, i in zip(x.axes, index, strict=False) if i != slice(None)}
        if not chosen:
            return x
        if len(index) > len(x.axes) or set(chosen) != {TIME} or chosen[TIME] not in (0, -1):
            raise UnsupportedError(
                f"({_text(x.axes)}) can be indexed by the first or the last step only"
            )
        picked = self._builder.add(name, "first" if chosen[TIME] == 0 else "last", [x.name])
        return Value(picked, tuple(axis for axis in x.axes if axis != TIME))

    def _last(self, name: str, states: States, index: Any) -> Value:
        """The last hidden state of one layer and direction."""
        if not isinstance(index, int):
            raise UnsupportedError(
                "the hidden states can be picked one at a time only, as in h[-1]"
            )
        number = range(len(states.outputs))[index]
        op = "first" if states.directions == 2 and number % 2 else "last"
        return Value(self._builder.add(name, op, [states.outputs[number]]), (BATCH, 0))

    def _mean(self, name: str, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
        dims = [dim] if isinstance(dim, int) else list(dim or [])
        if keepdim or [_axis_at(x, axis) for axis in dims] != [TIME]:
            raise UnsupportedError("a mean can be taken over time only, without keepdim")
        mean = self._builder.add(name, "mean", [x.name])
        return Value(mean, tuple(axis for axis in x.axes if axis != TIME))

    def _add(self, name: str, x: Any, y: Any, alpha: int = 1) -> Value:
        if not (isinstance(x, Value) and isinstance(y, Value)) or alpha != 1:
            raise UnsupportedError("two values of the network can be added, nothing else")
        return self._join(name, "add", [x, y])

    def _concatenate(self, name: str, values: Any, dim: int = 0) -> Value:
        if not all(isinstance(value, Value) for value in values):
            raise UnsupportedError(f"it joins {', '.join(map(_name, values))}")
        feature = _axis_at(values[0], dim)
        if not isinstance(feature, int):
            raise UnsupportedError(
                f"values can be joined along features only, not {_text([feature])}"
            )
        others = [axis for axis in _features(values[0].axes) if axis != feature]
        return self._join(name, "concatenate", values, [*others, feature])

    def _join(
        self, name: str, op: str, values: Iterable[Value], order: Sequence[int] | None = None
    ) -> Value:
        """Join values whose axes agree, their features in the order of the first one's."""
        plain = [self._plain(value) for value in values]
        first = plain[0].axes
        if any(_kinds(value.axes) != _kinds(first) for value in plain):
            raise UnsupportedError(f"it joins {' and '.join(f'({_text(v.axes)})' for v in plain)}")
        places = [first.index(axis) for axis in (order or _features(first))]
        arranged = [self._arranged(v, [_as_feature(v.axes[p]) for p in places]) for v in plain]
        if len(arranged) == 1:
            return arranged[0]
        return replace(arranged[0], name=self._builder.add(name, op, [v.name for v in arranged]))

    def _flatten(self, x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
        places = range(len(x.axes))
        first, last = places[start_dim], places[end_dim]
        flat = [axis for axis in x.axes[first : last + 1] if isinstance(axis, int)]
        if len(flat) != last + 1 - first:
            raise UnsupportedError(
                f"({_text(x.axes)}) cannot be flattened from axis {first} to {last}: "
                "batch and time have to stay apart"
            )
        sizes = self._builder.features(x.name)
        before, after = _features(x.axes[:first]), _features(x.axes[last + 1 :])
        wanted = [
            *(sizes[axis] for axis in before),
            math.prod(sizes[axis] for axis in flat),
            *(sizes[axis] for axis in after),
        ]
        axes = (*x.axes[:first], 0, *x.axes[last + 1 :])
        return self._with_features("flatten", x, wanted, axes)

    def _unsqueeze(self, name: str, x: Value, dim: int) -> Value:
        place = range(len(x.axes) + 1)[dim]
        axes = (*x.axes[:place], 0, *x.axes[place:])
        sizes = self._builder.features(x.name)
        wanted = [sizes[axis] for axis in _features(x.axes)]
        wanted.insert(len(_features(x.axes[:place])), 1)
        return self._with_features(name, x, wanted, axes)

    def _squeeze(self, name: str, x: Value, dim: int | None = None) -> Value:
        axis = None if dim is None else _axis_at(x, dim)
        sizes = self._builder.features(x.name)
        if not isinstance(axis, int) or sizes[axis] != 1 or len(sizes) == 1:
            raise UnsupportedError("one axis of features, of size 1, can be left out")
        wanted = [sizes[other] for other in _features(x.axes) if other != axis]
        return self._with_features(name, x, wanted, tuple(a for a in x.axes if a != axis))

    def _reshape(self, name: str, x: Value, *sizes: Any) -> Value:
        """A reshape that leaves batch and time alone."""
        wanted = list(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else [*sizes]
        kept = [size.axis for size in wanted if isinstance(size, Extent)]
        if kept != [axis for axis in x.axes if isinstance(axis, str)] or not _are_sizes(wanted):
            raise UnsupportedError(
                "batch and time have to stay apart, with their sizes taken from the tensor: "
                "x.reshape(x.size(0), x.size(1), ...); or use flatten"
            )
        known = self._builder.features(x.name)
        whole: list[int] = []
        for own, new in zip(_groups(x.axes), _groups(wanted), strict=True):
            whole += _completed([known[axis] for axis in own], new)
        axes = tuple(size.axis if isinstance(size, Extent) else 0 for size in wanted)
        return self._with_features(name, x, whole, axes)

    def _with_features(
        self, name: str, x: Value, sizes: Sequence[int], axes: Sequence[Axis]
    ) -> Value:
        """The value with other sizes of its features, numbered as they stand in `axes`."""
        arranged = self._arranged(x, _features(x.axes))
        numbers = iter(range(len(sizes)))
        numbered = tuple(next(numbers) if isinstance(axis, int) else axis for axis in axes)
        if tuple(sizes) == self._builder.features(arranged.name):
            return Value(arranged.name, numbered)
        reshaped = self._builder.add(name, "reshape", [arranged.name], features=list(sizes))
        return Value(reshaped, numbered)

    # Padding and lengths

    def _functional_pad(
        self, x: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None
    ) -> Value:
        if mode != "constant" or value:
            raise UnsupportedError("a tensor can be padded with zeros only")
        return self._pad(x, pad)

    def _pad(self, x: Value, pad: Sequence[int]) -> Value:
        if len(pad) != 2 or x.axes[-1] != TIME or min(pad) < 0:
            raise UnsupportedError("only time, as the last axis, can be padded")
        before, after = x.padding
        return replace(x, padding=(before + pad[0], after + pad[1]))

    def _plain(self, x: Any) -> Value:
        """The value, which must not be waiting for a convolution to take its padding."""
        if not isinstance(x, Value):
            raise UnsupportedError(f"it reads {_name(x)}")
        if x.padding != (0, 0):
            raise UnsupportedError("padding must come right before a convolution")
        return x

    def _pack_sequence(self, x: Any, _: Any, batch_first: bool = False, **__: Any) -> Packed:
        value = self._plain(x)
        if value.axes != ((BATCH, TIME, 0) if batch_first else (TIME, BATCH, 0)):
            raise UnsupportedError(f"({_text(value.axes)}) is not what it reads; mind batch_first")
        return Packed(value)

    def _unpack_sequence(
        self, x: Any, batch_first: bool = False, padding_value: float = 0.0, **_: Any
    ) -> tuple[Value, Ignored]:
        if not isinstance(x, Packed) or padding_value:
            raise UnsupportedError("it unpacks sequences, padded with zeros")
        axes = (BATCH, TIME, 0) if batch_first else (TIME, BATCH, 0)
        return replace(x.value, axes=axes), LENGTHS

    # Axes

    def _arranged(self, x: Value, order: Sequence[int]) -> Value:
        """The value with its features in the order given, and numbered so."""
        numbers = {axis: number for number, axis in enumerate(order)}
        axes = tuple(numbers[axis] if isinstance(axis, int) else axis for axis in x.axes)
        if list(order) == sorted(order):
            return replace(x, axes=axes)
        name = self._builder.add(f"{x.name}.permuted", "permute", [x.name], order=list(order))
        return replace(x, name=name, axes=axes)


_UNCHANGED = (
    *("contiguous", "clone", "detach", "float", "to", "cpu"),
    *("dropout", "dropout1d", "dropout2d", "feature_dropout"),
)
"""Functions and methods that change nothing in evaluation mode."""

_ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "relu_": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "hardtanh": nn.Hardtanh,
    "relu6": nn.ReLU6,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": lambda approximate="none": nn.GELU(approximate),
}


def _transposed(x: Value, dim0: int, dim1: int) -> Value:
    axes = list(x.axes)
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return replace(x, axes=tuple(axes))


def _permuted(x: Value, *dims: Any) -> Value:
    order = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
    return replace(x, axes=tuple(x.axes[axis] for axis in order))


def _features(axes: Iterable[Axis]) -> list[int]:
    """The features among the axes, as they stand."""
    return [axis for axis in axes if isinstance(axis, int)]


def _as_feature(axis: Axis) -> int:
    assert isinstance(axis, int)
    return axis


def _axis_at(x: Value, dim: int) -> Axis:
    if not -len(x.axes) <= dim < len(x.axes):
        raise UnsupportedError(f"({_text(x.axes)}) has no axis {dim}")
    return x.axes[dim]


def _kinds(axes: Sequence[Axis]) -> list[str]:
    return [axis if isinstance(axis, str) else "f" for axis in axes]


def _groups(axes: Sequence[Any]) -> list[list[int]]:
    """The numbers between what is no number."""
    groups: list[list[int]] = [[]]
    for axis in axes:
        if isinstance(axis, int):
            groups[-1].append(axis)
        else:
            groups.append([])
    return groups


def _are_sizes(wanted: Sequence[Any]) -> bool:
    return all(isinstance(size, int | Extent) for size in wanted)


def _completed(own: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """The sizes wanted, with -1 replaced by what is left."""
    total, known = math.prod(own), math.prod(size for size in wanted if size != -1)
    completed = [total // known if size == -1 else size for size in wanted]
    if math.prod(completed) != total or list(wanted).count(-1) > 1:
        raise UnsupportedError(f"features of sizes {list(own)} cannot become {list(wanted)}")
    return completed


def _text(axes: Iterable[Axis]) -> str:
    names = {BATCH: "batch", TIME: "time"}
    return ", ".join(names[axis] if isinstance(axis, str) else "features" for axis in axes)


def _name(x: Any) -> str:
    """What something is, for an error."""
    if isinstance(x, Ignored):
        return x.what
    names = {Packed: "a packed sequence", States: "the hidden states of all layers"}
    return names.get(type(x), f"{x!r:.40}")


def _described(node: fx.Node) -> str:
    if node.op in ("placeholder", "output"):
        return f"the {'input' if node.op == 'placeholder' else 'output'}"
    kind = "layer" if node.op == "call_module" else "operation"
    target = node.target if isinstance(node.target, str) else node.target.__name__
    return f"{kind} {target!r}"
