"""Traced values: packed values with torch's order of their axes.

Torch orders axes as each layer likes; a packed network always has `(batch, time, *features)`. So
transposing a traced value only changes the order kept beside it, and its features are put in order
where a layer needs them to be. The functions that add nodes take a builder, a name for the node,
and the value, in this order.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from growprune.export.builder import Builder

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
class Extent:
    """The length of the batch or time axis, which is not known."""

    axis: str


class UnsupportedError(ValueError):
    """Something that a packed network cannot do."""


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


def arranged(builder: Builder, x: Value, order: Sequence[int]) -> Value:
    """The value with its features in the order given, and numbered so."""
    numbers = {axis: number for number, axis in enumerate(order)}
    axes = tuple(numbers[axis] if isinstance(axis, int) else axis for axis in x.axes)
    if list(order) == sorted(order):
        return replace(x, axes=axes)
    name = builder.add(f"{x.name}.permuted", "permute", [x.name], order=list(order))
    return replace(x, name=name, axes=axes)


def picked(builder: Builder, name: str, x: Value, index: tuple[Any, ...]) -> Value:
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
            f"({text(x.axes)}) can be indexed by the first or the last step only"
        )
    step = builder.add(name, "first" if chosen[TIME] == 0 else "last", [x.name])
    return Value(step, tuple(axis for axis in x.axes if axis != TIME))


def mean(builder: Builder, name: str, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    """The mean over time."""
    dims = [dim] if isinstance(dim, int) else list(dim or [])
    if keepdim or [axis_at(x, axis) for axis in dims] != [TIME]:
        raise UnsupportedError("a mean can be taken over time only, without keepdim")
    average = builder.add(name, "mean", [x.name])
    return Value(average, tuple(axis for axis in x.axes if axis != TIME))


def flatten(builder: Builder, name: str, x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    """Several axes of features as one."""
    places = range(len(x.axes))
    first, last = places[start_dim], places[end_dim]
    flat = [axis for axis in x.axes[first : last + 1] if isinstance(axis, int)]
    if len(flat) != last + 1 - first:
        raise UnsupportedError(
            f"({text(x.axes)}) cannot be flattened from axis {first} to {last}: "
            "batch and time have to stay apart"
        )
    sizes = builder.features(x.name)
    before, after = features_of(x.axes[:first]), features_of(x.axes[last + 1 :])
    wanted = [
        *(sizes[axis] for axis in before),
        math.prod(sizes[axis] for axis in flat),
        *(sizes[axis] for axis in after),
    ]
    axes = (*x.axes[:first], 0, *x.axes[last + 1 :])
    return _with_features(builder, name, x, wanted, axes)


def unsqueeze(builder: Builder, name: str, x: Value, dim: int) -> Value:
    """A new axis of size 1."""
    place = range(len(x.axes) + 1)[dim]
    axes = (*x.axes[:place], 0, *x.axes[place:])
    sizes = builder.features(x.name)
    wanted = [sizes[axis] for axis in features_of(x.axes)]
    wanted.insert(len(features_of(x.axes[:place])), 1)
    return _with_features(builder, name, x, wanted, axes)


def squeeze(builder: Builder, name: str, x: Value, dim: int | None = None) -> Value:
    """Without an axis of size 1."""
    axis = None if dim is None else axis_at(x, dim)
    sizes = builder.features(x.name)
    if not isinstance(axis, int) or sizes[axis] != 1 or len(sizes) == 1:
        raise UnsupportedError("one axis of features, of size 1, can be left out")
    wanted = [sizes[other] for other in features_of(x.axes) if other != axis]
    return _with_features(builder, name, x, wanted, tuple(a for a in x.axes if a != axis))


def reshape(builder: Builder, name: str, x: Value, *sizes: Any) -> Value:
    """A reshape that leaves batch and time alone."""
    wanted = list(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else [*sizes]
    kept = [size.axis for size in wanted if isinstance(size, Extent)]
    if kept != [axis for axis in x.axes if isinstance(axis, str)] or not _are_sizes(wanted):
        raise UnsupportedError(
            "batch and time have to stay apart, with their sizes taken from the tensor: "
            "x.reshape(x.size(0), x.size(1), ...); or use flatten"
        )
    known = builder.features(x.name)
    whole: list[int] = []
    for own, new in zip(_groups(x.axes), _groups(wanted), strict=True):
        whole += _completed([known[axis] for axis in own], new)
    axes = tuple(size.axis if isinstance(size, Extent) else 0 for size in wanted)
    return _with_features(builder, name, x, whole, axes)


def size(builder: Builder, x: Value, dim: int | None = None) -> Any:
    """The lengths of all axes, or of one."""
    sizes = builder.features(x.name)
    extents = [sizes[axis] if isinstance(axis, int) else Extent(axis) for axis in x.axes]
    return tuple(extents) if dim is None else extents[dim]


def transposed(x: Value, dim0: int, dim1: int) -> Value:
    """Two axes exchanged."""
    axes = list(x.axes)
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return replace(x, axes=tuple(axes))


def permuted(x: Value, *dims: Any) -> Value:
    """All axes in another order."""
    order = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
    return replace(x, axes=tuple(x.axes[axis] for axis in order))


def axis_at(x: Value, dim: int) -> Axis:
    """What an axis of the tensor is."""
    if not -len(x.axes) <= dim < len(x.axes):
        raise UnsupportedError(f"({text(x.axes)}) has no axis {dim}")
    return x.axes[dim]


def text(axes: Iterable[Axis]) -> str:
    """Axes in words."""
    names = {BATCH: "batch", TIME: "time"}
    return ", ".join(names[axis] if isinstance(axis, str) else "features" for axis in axes)


def features_of(axes: Iterable[Axis]) -> list[int]:
    """The features among the axes, as they stand."""
    return [axis for axis in axes if isinstance(axis, int)]


def _with_features(
    builder: Builder, name: str, x: Value, sizes: Sequence[int], axes: Sequence[Axis]
) -> Value:
    """The value with other sizes of its features, numbered as they stand in `axes`."""
    x = arranged(builder, x, features_of(x.axes))
    numbers = iter(range(len(sizes)))
    numbered = tuple(next(numbers) if isinstance(axis, int) else axis for axis in axes)
    if tuple(sizes) == builder.features(x.name):
        return Value(x.name, numbered)
    return Value(builder.add(name, "reshape", [x.name], features=list(sizes)), numbered)


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
