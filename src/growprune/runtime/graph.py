"""The network a packed file describes: nodes, their parameters, and the shapes between them.

A value is an array `(batch, time, *features)`. Each operation has a rule that says which
parameters and attributes it takes and what shape it gives, so that a description can be checked
whole before anything is computed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, prod
from typing import Any, NamedTuple

GATES = "ifgo"
LARGEST = 2**31 - 1
"""No size may exceed this: indices are 32-bit."""

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        name: unique in its graph.
        op: key of `RULES`.
        inputs: names of earlier nodes, or `input`.
        attributes: settings, as the rule asks for them.
        parameters: names of the matrices and vectors, by the names the rule gives them.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Shape:
    """What is known of a value before any input is seen.

    Attributes:
        features: sizes of the axes after batch and time.
        clock: the changes in length on the way from the input, as `(steps lost, stride)` of each
            convolution; None once there is no time axis. Values can be joined if theirs agree.
        is_ids: integers that number the rows of a table.
        held: numbers kept in memory for one step, more than the features where windows overlap.
    """

    features: Sizes
    clock: tuple[tuple[int, int], ...] | None = ()
    is_ids: bool = False
    held: int = field(default=0, compare=False)

    def with_features(self, *features: int) -> "Shape":
        """The same with other features."""
        return Shape(features, self.clock)


class Rule(NamedTuple):
    """What one operation takes and gives.

    Attributes:
        shape: the output's shape, from the node, the inputs' shapes and the parameters' sizes;
            raises ValueError where they do not fit.
        attributes: what each attribute must be.
        matrices: the parameters that are matrices, from the attributes.
        vectors: the parameters that are vectors, from the attributes.
        inputs: how many there are; None for two or more.
    """

    shape: Callable[[Node, Sequence[Shape], Mapping[str, Sizes]], Shape]
    attributes: Mapping[str, "Check"] = {}
    matrices: Callable[[Mapping[str, Any]], list[str]] = lambda _: []
    vectors: Callable[[Mapping[str, Any]], list[str]] = lambda _: []
    inputs: int | None = 1


class Check(NamedTuple):
    """A condition on an attribute, and how to say it."""

    holds: Callable[[Any], bool]
    text: str


def output_shape(node: Node, inputs: Sequence[Shape], sizes: Mapping[str, Sizes]) -> Shape:
    """Check a node and give the shape of its output.

    Args:
        node: the node.
        inputs: shapes of its inputs.
        sizes: shapes of its parameters, by the rule's names for them.

    Raises:
        ValueError: an operation, attribute, parameter or shape that does not fit.
    """
    if node.op not in RULES:
        raise ValueError(f"operation {node.op!r} is unknown; this version knows {sorted(RULES)}")
    rule = RULES[node.op]
    check_attributes(rule, node)
    if len(inputs) != rule.inputs if rule.inputs else len(inputs) < 2:
        raise ValueError(
            f"{node.op} takes {rule.inputs or 'two or more'} inputs, not {len(inputs)}"
        )
    if any(shape.is_ids for shape in inputs) and node.op != "embedding":
        raise ValueError(f"{node.op} cannot read ids; an embedding has to come first")
    _check_parameters(rule, node, sizes)
    return rule.shape(node, inputs, sizes)


def check_attributes(rule: Rule, node: Node) -> None:
    """Raise ValueError unless the node has exactly the rule's attributes, each as it must be."""
    _check_names("attributes", list(rule.attributes), node.attributes)
    for name, check in rule.attributes.items():
        if not check.holds(node.attributes[name]):
            raise ValueError(
                f"attribute {name!r} must be {check.text}, got {node.attributes[name]!r:.80}"
            )


def _check_parameters(rule: Rule, node: Node, sizes: Mapping[str, Sizes]) -> None:
    matrices, vectors = rule.matrices(node.attributes), rule.vectors(node.attributes)
    _check_names("parameters", [*matrices, *vectors], node.parameters)
    for name, axes in [*((m, 2) for m in matrices), *((v, 1) for v in vectors)]:
        if len(sizes[name]) != axes:
            kind = {2: "matrix", 1: "vector"}[axes]
            raise ValueError(f"parameter {name!r} must be a {kind}, got shape {sizes[name]}")


def _check_names(what: str, expected: Sequence[str], found: Mapping[str, Any]) -> None:
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    if missing or unknown:
        raise ValueError(f"wrong {what}: missing {missing[:8]}, unknown {unknown[:8]}")


# Attributes


def _is_size(value: Any) -> bool:
    return type(value) is int and 1 <= value <= LARGEST


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e38 and isfinite(value)


def _is_list(value: Any, lengths: Sequence[int], holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and len(value) in lengths and all(map(holds, value))


def _is_padding(value: Any) -> bool:
    return _is_list(value, [2], lambda side: side == 0 or _is_size(side)) and not any(
        isinstance(side, bool) for side in value
    )


def _is_depth(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 64


BOOL = Check(lambda value: isinstance(value, bool), "true or false")
NUMBER = Check(_is_number, "a number")
POSITIVE = Check(lambda value: _is_number(value) and value > 0, "a number above 0")
FRACTION = Check(lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1")
AXES = Check(lambda value: _is_list(value, [1, 2], _is_size), "1 or 2 positive integers")
PADDING = Check(
    lambda value: _is_list(value, [1, 2], _is_padding), "1 or 2 pairs of integers from 0"
)
SIZES = Check(lambda value: _is_list(value, range(1, 9), _is_size), "1 to 8 positive integers")
ORDER = Check(
    lambda value: (
        _is_list(value, range(1, 9), lambda axis: type(axis) is int)
        and sorted(value) == list(range(len(value)))
    ),
    "the numbers of the axes in a new order",
)
DEPTHS = Check(lambda value: _is_list(value, [4], _is_depth), "4 integers from 0 to 64")


# Rules


def stages(attributes: Mapping[str, Any]) -> list[str]:
    """Names of an lstm's later stages: `i_1` is the gate i's first one after the shared stage."""
    depths = zip(GATES, attributes["depths"], strict=True)
    return [f"{gate}_{stage}" for gate, depth in depths for stage in range(1, depth + 1)]


def _same(node: Node, inputs: Sequence[Shape], sizes: Mapping[str, Sizes]) -> Shape:  # noqa: ARG001
    return inputs[0].with_features(*_some(inputs[0]))


def _some(shape: Shape) -> Sizes:
    """The features, at least one axis of them."""
    if not shape.features:
        raise ValueError("the input has no features")
    return shape.features


def _last_axis(inputs: Sequence[Shape], expected: int, what: str) -> None:
    features = _some(inputs[0])
    if features[-1] != expected:
        raise ValueError(f"the input has {features[-1]} features, but {what} takes {expected}")


def _match(sizes: Mapping[str, Sizes], name: str, expected: Sizes) -> None:
    if sizes[name] != expected:
        raise ValueError(f"parameter {name!r} has shape {sizes[name]}, expected {expected}")


def _linear(node: Node, inputs: Sequence[Shape], sizes: Mapping[str, Sizes]) -> Shape:  # noqa: ARG001
    rows, columns = sizes["weight"]
    _last_axis(inputs, columns, "the weight")
    _match(sizes, "bias", (rows,))
    return inputs[0].with_features(*inputs[0].features[:-1], rows)


def _embedding(node: Node, inputs: Sequence[Shape], sizes: Mapping[str, Sizes]) -> Shape:  # noqa: ARG001
    if not inputs[0].is_ids:
        raise ValueError("an embedding reads ids, but its input is numbers")
    return inputs[0].with_features(sizes["weight"][1])


def _scaled(*names: str) -> Callable[[Node, Sequence[Shape], Mapping[str, Sizes]], Shape]:
    """Rule of an operation with vectors as long as the last axis."""

    def shape(node: Node, inputs: Sequence[Shape], sizes: Mapping[str, Sizes]) -> Shape:
        _last_axis(inputs, sizes[names[0]][0], node.op)
        for name in names:
            _match(sizes, name, sizes[names[0]])
        return _same(node, inputs, sizes)

    return shape


def _convolution(node: Node, inputs: Sequence[Shape], sizes: Mapping[str, Sizes]) -> Shape:
    rows, columns = sizes["weight"]
    axes = len(node.attributes["kernel"])
    shape = inputs[0]
    if shape.clock is None:
        raise ValueError("a convolution needs a time axis")
    if len(shape.features) != axes:
        raise ValueError(f"a kernel of {axes} axes cannot read features of shape {shape.features}")
    settings = [node.attributes[name] for name in ("kernel", "stride", "dilation", "padding")]
    if any(len(setting) != axes for setting in settings):
        raise ValueError("kernel, stride, dilation and padding must name the same axes")
    if (wanted := prod(node.attributes["kernel"]) * shape.features[-1]) != columns:
        raise ValueError(
            f"a kernel of {node.attributes['kernel']} over {shape.features[-1]} channels needs a "
            f"weight of {wanted} columns, not {columns}"
        )
    _match(sizes, "bias", (rows,))
    changes = [_length_change(*axis) for axis in zip(*settings, strict=True)]
    features = [rows]
    if axes == 2:
        lost, stride = changes[1]
        if shape.features[0] <= lost:
            raise ValueError(f"the kernel does not fit {shape.features[0]} positions")
        features = [(shape.features[0] - lost - 1) // stride + 1, rows]
    window = (node.attributes["kernel"][0] - 1) * node.attributes["dilation"][0] + 1
    held = max(window * prod(shape.features), prod(features[:-1]) * columns, prod(features))
    clock = shape.clock if changes[0] == (0, 1) else (*shape.clock, changes[0])
    return Shape(tuple(features), clock, held=held)


def _length_change(
    kernel: int, stride: int, dilation: int, padding: tuple[int, int]
) -> tuple[int, int]:
    """Steps lost at the edges, negative where padding adds some, and the stride."""
    reach = (kernel - 1) * dilation
    if max(padding) > reach:
        raise ValueError(f"padding {list(padding)} reaches beyond a kernel that spans {reach + 1}")
    return reach - sum(padding), stride


def _lstm(node: Node, inputs: Sequence[Shape], sizes: Mapping[str, Sizes]) -> Shape:
    hidden = sizes["hh"][1]
    first = 0
    for gate, depth in zip(GATES, node.attributes["depths"], strict=True):
        widths = [sizes[f"{gate}_{stage}"] for stage in range(1, depth + 1)]
        first += widths[0][1] if widths else hidden
        for stage, (rows, _) in enumerate(widths, start=1):
            following = widths[stage][1] if stage < depth else hidden
            if rows != following:
                raise ValueError(
                    f"stage {gate}_{stage} has {rows} rows, but what follows reads {following}"
                )
            _match(sizes, f"bias_{gate}_{stage}", (rows,))
    return _recurrent(inputs, sizes, first)


def _gru(node: Node, inputs: Sequence[Shape], sizes: Mapping[str, Sizes]) -> Shape:  # noqa: ARG001
    hidden = sizes["hh"][1]
    _match(sizes, "bias_new", (hidden,))
    return _recurrent(inputs, sizes, 3 * hidden)


def _recurrent(inputs: Sequence[Shape], sizes: Mapping[str, Sizes], rows: int) -> Shape:
    if inputs[0].clock is None or len(inputs[0].features) != 1:
        raise ValueError(
            f"a recurrent layer needs a time axis and one axis of features, not features of shape "
            f"{inputs[0].features}" + (" without time" if inputs[0].clock is None else "")
        )
    _last_axis(inputs, sizes["ih"][1], "the layer")
    _match(sizes, "ih", (rows, sizes["ih"][1]))
    _match(sizes, "hh", (rows, sizes["hh"][1]))
    _match(sizes, "bias", (rows,))
    return inputs[0].with_features(sizes["hh"][1])


def _check_clocks(inputs: Sequence[Shape]) -> None:
    if any(shape.clock != inputs[0].clock for shape in inputs):
        raise ValueError("the inputs run at different rates or lengths and cannot be joined")


def _add(node: Node, inputs: Sequence[Shape], sizes: Mapping[str, Sizes]) -> Shape:
    _check_clocks(inputs)
    if any(shape.features != inputs[0].features for shape in inputs):
        raise ValueError(f"the inputs have features {[shape.features for shape in inputs[:8]]}")
    return _same(node, inputs, sizes)


def _concatenate(node: Node, inputs: Sequence[Shape], sizes: Mapping[str, Sizes]) -> Shape:  # noqa: ARG001
    _check_clocks(inputs)
    ahead = _some(inputs[0])[:-1]
    if any(_some(shape)[:-1] != ahead for shape in inputs):
        raise ValueError(f"the inputs have features {[shape.features for shape in inputs[:8]]}")
    return inputs[0].with_features(*ahead, sum(shape.features[-1] for shape in inputs))


def _pick(node: Node, inputs: Sequence[Shape], sizes: Mapping[str, Sizes]) -> Shape:  # noqa: ARG001
    if inputs[0].clock is None:
        raise ValueError(f"{node.op} needs a time axis")
    return Shape(_some(inputs[0]), None)


def _reshape(node: Node, inputs: Sequence[Shape], sizes: Mapping[str, Sizes]) -> Shape:  # noqa: ARG001
    wanted = tuple(node.attributes["features"])
    if prod(wanted) != prod(_some(inputs[0])):
        raise ValueError(f"features of shape {inputs[0].features} cannot become {wanted}")
    return inputs[0].with_features(*wanted)


def _permute(node: Node, inputs: Sequence[Shape], sizes: Mapping[str, Sizes]) -> Shape:  # noqa: ARG001
    order = node.attributes["order"]
    if len(order) != len(inputs[0].features):
        raise ValueError(f"order {order} does not fit features of shape {inputs[0].features}")
    return inputs[0].with_features(*(inputs[0].features[axis] for axis in order))


_PLAIN = ("relu", "sigmoid", "tanh", "silu", "softmax", "log_softmax")

RULES: dict[str, Rule] = {
    "linear": Rule(_linear, {}, lambda _: ["weight"], lambda _: ["bias"]),
    "embedding": Rule(_embedding, {}, lambda _: ["weight"]),
    "affine": Rule(_scaled("scale", "shift"), {}, vectors=lambda _: ["scale", "shift"]),
    "layer_norm": Rule(
        _scaled("weight", "bias"), {"epsilon": POSITIVE}, vectors=lambda _: ["weight", "bias"]
    ),
    "convolution": Rule(
        _convolution,
        {"kernel": AXES, "stride": AXES, "dilation": AXES, "padding": PADDING},
        lambda _: ["weight"],
        lambda _: ["bias"],
    ),
    "lstm": Rule(
        _lstm,
        {"reverse": BOOL, "slope": FRACTION, "depths": DEPTHS},
        lambda attributes: ["ih", "hh", *stages(attributes)],
        lambda attributes: ["bias", *(f"bias_{stage}" for stage in stages(attributes))],
    ),
    "gru": Rule(_gru, {"reverse": BOOL}, lambda _: ["ih", "hh"], lambda _: ["bias", "bias_new"]),
    "leaky_relu": Rule(_same, {"slope": NUMBER}),
    "hardtanh": Rule(_same, {"low": NUMBER, "high": NUMBER}),
    "gelu": Rule(_same, {"tanh": BOOL}),
    "add": Rule(_add, inputs=None),
    "concatenate": Rule(_concatenate, inputs=None),
    "first": Rule(_pick),
    "last": Rule(_pick),
    "mean": Rule(_pick),
    "reshape": Rule(_reshape, {"features": SIZES}),
    "permute": Rule(_permute, {"order": ORDER}),
    **{name: Rule(_same) for name in _PLAIN},
}
"""Every operation a packed file may name."""
