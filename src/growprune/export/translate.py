"""Turns the calls that a module's `forward` makes into nodes of a packed network."""

import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from growprune.export import layers, values
from growprune.export.builder import INPUT, Builder
from growprune.export.parameters import Parameters
from growprune.export.values import (
    BATCH,
    TIME,
    Axis,
    UnsupportedError,
    Value,
    axis_at,
    features_of,
    text,
)
from growprune.nn import HLSTM


@dataclass(frozen=True)
class Packed:
    """A `PackedSequence` of a value."""

    value: Value


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


LENGTHS, CELL = Ignored("the lengths"), Ignored("a cell state")
ZEROS = Ignored("a tensor of zeros")


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
                _check_not_overwritten(node)
                self._values[node] = self._result(node)
            except UnsupportedError as error:
                raise ValueError(f"{_described(node)} cannot be packed: {error}") from None
            except (IndexError, TypeError) as error:
                raise ValueError(
                    f"{_described(node)} cannot be packed as it is called ({error})"
                ) from error
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
        return values.arranged(self._builder, value, features)

    # Layers

    def _layer(self, path: str, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        layer = self._modules[path]
        _check_is_as_torch_made_it(layer)
        x = arguments[0] if arguments else options.pop("input")
        if isinstance(layer, nn.LSTM | nn.GRU | HLSTM):
            return self._recurrent(path, layer, x, *arguments[1:], **options)
        if not isinstance(x, Value):
            raise UnsupportedError(f"it reads {_name(x)}")
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            return self._convolution(path, layer, x)
        if isinstance(layer, nn.ConstantPad1d) and not layer.value:
            return self._pad(x, layer.padding)
        return self._framewise(path, layer, self._plain(x))

    def _framewise(self, path: str, layer: nn.Module, x: Value) -> Value:
        """A layer that works on each step by itself."""
        add = (self._builder, self._parameters, path)
        match layer:
            case nn.Identity() | nn.Dropout() | nn.Dropout1d() | nn.Dropout2d():
                return x
            case nn.Flatten():
                return values.flatten(self._builder, path, x, layer.start_dim, layer.end_dim)
            case nn.Linear():
                return self._on_axis(x, -1, partial(layers.linear, *add, layer))
            case nn.LayerNorm():
                return self._on_axis(x, -1, partial(layers.layer_norm, self._builder, path, layer))
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                return self._on_axis(x, 1, partial(layers.batch_norm, self._builder, path, layer))
            case nn.Softmax():
                return self._softmax(path, "softmax", x, layer.dim)
            case nn.LogSoftmax():
                return self._softmax(path, "log_softmax", x, layer.dim)
            case nn.Embedding():
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
                    f"it reads ({text((*ahead, 0))}), but is given ({text(value.axes)}); "
                    "say with `axes` how the module's input is laid out, or transpose"
                )
        outputs = layers.recurrent(self._builder, self._parameters, path, layer, value.name)
        name = layers.joined(self._builder, layers.within(path, "both"), outputs[-1])
        output = replace(value, name=name)
        states = States(tuple(name for both in outputs for name in both), len(outputs[0]))
        last = states if isinstance(layer, nn.GRU) else (states, CELL)
        return (Packed(output) if isinstance(x, Packed) else output), last

    def _convolution(self, path: str, layer: nn.Conv1d | nn.Conv2d, x: Value) -> Value:
        wanted = 2 + len(layer.kernel_size)
        if len(x.axes) != wanted or x.axes[0] != BATCH or x.axes[1] == TIME or TIME not in x.axes:
            raise UnsupportedError(
                f"it reads (batch, channels, ...) with time among the last {wanted - 2} axes, but "
                f"is given ({text(x.axes)}); say with `axes` how the module's input is laid out, "
                "or transpose"
            )
        time_axis = x.axes.index(TIME) - 2
        features = [axis for axis in x.axes[2:] if isinstance(axis, int)]
        arranged = values.arranged(self._builder, x, [*features, *features_of(x.axes[1:2])])
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
        feature = axis_at(x, axis)
        if not isinstance(feature, int):
            raise UnsupportedError(f"it works on the {text([feature])} axis of ({text(x.axes)})")
        others = [other for other in features_of(x.axes) if other != feature]
        arranged = values.arranged(self._builder, x, [*others, feature])
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
        if function.__name__ in ("_assert", "_assert_is_none"):
            return None
        if all(isinstance(argument, int | float | None) for argument in arguments):
            return function(*arguments, **options)
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
        if isinstance(x, Ignored) and (x is not ZEROS or name in _UNCHANGED):
            return x
        if isinstance(x, States) and name == "squeeze" and len(x.outputs) == 1:
            return self._last(node.name, x, 0)
        if not isinstance(x, Value):
            raise UnsupportedError(f"it reads {_name(x)}")
        methods: dict[str, Callable[..., Any]] = {
            "flatten": partial(values.flatten, self._builder, node.name),
            "transpose": values.transposed,
            "swapaxes": values.transposed,
            "permute": values.permuted,
            "unsqueeze": partial(values.unsqueeze, self._builder, node.name),
            "squeeze": partial(values.squeeze, self._builder, node.name),
            "view": partial(values.reshape, self._builder, node.name),
            "reshape": partial(values.reshape, self._builder, node.name),
            "size": partial(values.size, self._builder),
            "mean": partial(values.mean, self._builder, node.name),
            "softmax": partial(self._softmax_call, node.name, "softmax"),
            "log_softmax": partial(self._softmax_call, node.name, "log_softmax"),
        }
        if name in methods:
            return methods[name](self._plain(x), *others, **options)
        if name in _UNCHANGED:
            _check_changes_nothing(name, others, options)
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
        self, name: str, op: str, x: Value, dim: int | None = None, **_: Any
    ) -> Value:
        return self._softmax(name, op, x, dim)

    def _attribute(self, x: Any, name: str) -> Any:
        if isinstance(x, Value) and name == "shape":
            return values.size(self._builder, x)
        if isinstance(x, Value) and name in ("device", "dtype"):
            return Ignored(f"a {name}")
        raise UnsupportedError(f"the attribute {name} of {_name(x)} is not known")

    def _item(self, name: str, x: Any, index: Any) -> Any:
        if isinstance(x, tuple | list):
            return x[index]
        if isinstance(x, States):
            return self._last(name, x, index)
        if not isinstance(x, Value):
            raise UnsupportedError(f"it picks from {_name(x)}")
        return values.picked(
            self._builder, name, self._plain(x), index if isinstance(index, tuple) else (index,)
        )

    def _last(self, name: str, states: States, index: Any) -> Value:
        """The last hidden state of one layer and direction: `h[-1]` or `h[-1, :, :]`."""
        if isinstance(index, tuple) and all(other == slice(None) for other in index[1:]):
            index = index[0]
        if not isinstance(index, int):
            raise UnsupportedError(
                "the hidden states can be picked one at a time only, as in h[-1]"
            )
        number = range(len(states.outputs))[index]
        op = "first" if states.directions == 2 and number % 2 else "last"
        return Value(self._builder.add(name, op, [states.outputs[number]]), (BATCH, 0))

    def _add(self, name: str, x: Any, y: Any, alpha: int = 1) -> Value:
        if not (isinstance(x, Value) and isinstance(y, Value)) or alpha != 1:
            raise UnsupportedError("two values of the network can be added, nothing else")
        return self._join(name, "add", [x, y])

    def _concatenate(self, name: str, tensors: Any, dim: int = 0) -> Value:
        if not all(isinstance(x, Value) for x in tensors):
            raise UnsupportedError(f"it joins {', '.join(map(_name, tensors))}")
        feature = axis_at(tensors[0], dim)
        if not isinstance(feature, int):
            raise UnsupportedError(
                f"values can be joined along features only, not {text([feature])}"
            )
        others = [axis for axis in features_of(tensors[0].axes) if axis != feature]
        return self._join(name, "concatenate", tensors, [*others, feature])

    def _join(
        self, name: str, op: str, inputs: Iterable[Value], order: Sequence[int] | None = None
    ) -> Value:
        """Join values whose axes agree, their features in the order of the first one's."""
        plain = [self._plain(x) for x in inputs]
        first = plain[0].axes
        if any(_kinds(x.axes) != _kinds(first) for x in plain):
            raise UnsupportedError(f"it joins {' and '.join(f'({text(x.axes)})' for x in plain)}")
        places = [first.index(axis) for axis in (order or features_of(first))]
        arranged = [
            values.arranged(self._builder, x, features_of(x.axes[place] for place in places))
            for x in plain
        ]
        if len(arranged) == 1:
            return arranged[0]
        return replace(arranged[0], name=self._builder.add(name, op, [x.name for x in arranged]))

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
            raise UnsupportedError(f"({text(value.axes)}) is not what it reads; mind batch_first")
        return Packed(value)

    def _unpack_sequence(
        self, x: Any, batch_first: bool = False, padding_value: float = 0.0, **_: Any
    ) -> tuple[Value, Ignored]:
        if not isinstance(x, Packed) or padding_value:
            raise UnsupportedError("it unpacks sequences, padded with zeros")
        axes = (BATCH, TIME, 0) if batch_first else (TIME, BATCH, 0)
        return replace(x.value, axes=axes), LENGTHS


_UNCHANGED = (
    *("contiguous", "clone", "detach", "float", "to", "cpu", "requires_grad_"),
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


def _check_is_as_torch_made_it(layer: nn.Module) -> None:
    """Make sure that a layer does what its class says."""
    if not type(layer).__module__.startswith(("torch.nn.", "growprune.nn.")):
        raise UnsupportedError(f"{type(layer).__name__} is not a layer of torch.nn")
    hooks = [*layer._forward_hooks.values(), *layer._forward_pre_hooks.values()]
    if not all(isinstance(hook, BasePruningMethod) for hook in hooks):
        raise UnsupportedError("it has forward hooks, whose effect is not known; remove them")


def _check_not_overwritten(node: fx.Node) -> None:
    """Make sure that nothing reads a value that a call has changed in place."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    in_place = name == "iadd" or (name.endswith("_") and not name.startswith("_"))
    if node.op == "call_module" or not (in_place or node.kwargs.get("inplace")):
        return
    source = node.args[0] if node.args else None
    later = set(itertools.takewhile(lambda other: other is not node, reversed(node.graph.nodes)))
    if isinstance(source, fx.Node) and later & set(source.users):
        raise UnsupportedError("it changes in place what is read again later; use its plain form")


def _check_changes_nothing(name: str, others: Sequence[Any], options: dict[str, Any]) -> None:
    """Make sure that a call of `_UNCHANGED` leaves the numbers as they are."""
    if "dropout" in name and any(value is True for value in [*others[1:2], *_modes(options)]):
        raise UnsupportedError("it drops in evaluation too; pass it training=self.training")
    dtypes = [value for value in [*others, *options.values()] if isinstance(value, torch.dtype)]
    if not all(dtype.is_floating_point for dtype in dtypes):
        raise UnsupportedError(f"a packed network computes in float32, not {dtypes[0]}")


def _modes(options: dict[str, Any]) -> list[Any]:
    return [options.get("training"), options.get("train")]


def _kinds(axes: Sequence[Axis]) -> list[str]:
    return [axis if isinstance(axis, str) else "f" for axis in axes]


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
    return f"{kind} {target!r}" if target else "the layer"
