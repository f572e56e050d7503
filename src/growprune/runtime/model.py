"""A packed network, checked and ready to run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from growprune.runtime.checks import checked_shapes
from growprune.runtime.graph import Node, Shape
from growprune.runtime.layers import (
    Array,
    Layer,
    Reduction,
    State,
    Streaming,
    make_embedding,
    make_layer,
    without_padding,
)
from growprune.runtime.matrices import MatrixInfo, Table
from growprune.runtime.packed_file import PackedModel, read, unusable


def load(path: str | Path) -> "Model":
    """Read a packed model and check all of it, so that it runs without further checks.

    Raises:
        ModelFileError: the file is missing, damaged, of another version, or describes a network
            that cannot be; names the node, matrix or array and what is wrong with it.
    """
    return build(read(path), path)


def build(packed: PackedModel, source: str | Path) -> "Model":
    """Check a network as a whole and make it ready.

    Args:
        packed: the network.
        source: file it comes from, named in errors.

    Raises:
        ModelFileError: see `load`.
    """
    try:
        parts = {name: _part(name, part) for name, part in packed.parts.items()}
        return Model(packed, checked_shapes(packed), parts)
    except ValueError as error:
        raise unusable(source, error) from None
    except MemoryError:
        raise unusable(source, "there is not enough memory for its weights") from None


def _part(name: str, packed: PackedModel) -> "Model":
    try:
        return Model(packed, checked_shapes(packed))
    except ValueError as error:
        raise ValueError(f"part {name!r:.80}: {error}") from None


@dataclass(frozen=True)
class Step:
    """One node in the order of computation.

    Attributes:
        name: the node's.
        layer: what it computes.
        inputs: indices of its inputs among all values, of which 0 is the model's input.
        done: indices of values that no later step reads.
    """

    name: str
    layer: Layer
    inputs: tuple[int, ...]
    done: tuple[int, ...]


class Model:
    """A network that runs on NumPy arrays; made by `load`.

    It keeps scratch memory: give every thread a model of its own.

    Attributes:
        info: what the maker of the file wrote about the model.
        matrices: the weight matrices.
        features: sizes of the input's axes after batch and time; empty for ids.
        takes_ids: whether the input are ids rather than numbers.
        output_features: sizes of the output's axes after batch and time.
        keeps_time: whether the output has a time axis; if not, it is one result per sequence.
        least_steps: how short a sequence may be.
        parts: networks beside it in the same file, by name.
    """

    def __init__(
        self,
        packed: PackedModel,
        shapes: Mapping[str, Shape],
        parts: Mapping[str, "Model"] | None = None,
    ) -> None:
        self.info: Mapping[str, Any] = packed.info
        self.parts = dict(parts or {})
        self.matrices: list[MatrixInfo] = [
            matrix.info(name) for name, matrix in packed.matrices.items()
        ]
        self.features = packed.features
        self.takes_ids = packed.takes_ids
        self.output_features = shapes[packed.output].features
        self.keeps_time = shapes[packed.output].clock is not None
        self.least_steps = max(_least_steps(shape) for shape in shapes.values())
        self._steps = _make_steps(packed, shapes)
        self._not_steppable = _first_reason(
            (step.name, step.layer.not_steppable) for step in self._steps
        )
        self._states = sum(step.layer.states for step in self._steps)
        self._output = list(shapes).index(packed.output)

    def run(self, x: Array, lengths: Any = None) -> tuple[Array, Array | None]:
        """Run whole sequences, each from zero states.

        Args:
            x: `(batch, time, *features)` numbers, or `(batch, time)` ids.
            lengths: `(batch,)` steps of each sequence; what follows them in `x` changes nothing.
                All of `time` if missing.

        Returns:
            The output `(batch, time, *features)`, zero in the padding, and the `(batch,)` steps of
            each sequence in it; `(batch, *features)` and None if the network reduces a sequence to
            one result.

        Raises:
            ValueError: shapes, ids or lengths that do not fit, or a sequence shorter than
                `least_steps`.
        """
        x = self._checked(x, ("batch", "time"))
        steps = self._checked_lengths(lengths, *x.shape[:2])
        full = None if (steps == x.shape[1]).all() else steps
        values: list[Any] = [without_padding(x, full)]
        counts: list[Array | None] = [full]
        for step in self._steps:
            inputs = [values[index] for index in step.inputs]
            y, count = step.layer.run(inputs, counts[step.inputs[0]])
            values.append(y)
            counts.append(count)
            for index in step.done:
                values[index] = None
        y, count = values[self._output], counts[self._output]
        if not self.keeps_time:
            return y, None
        if count is None:
            return y, np.full(len(y), y.shape[1])
        return without_padding(y, count), count

    def step(self, x: Array, state: State | None = None) -> tuple[Array, State]:
        """Run one step.

        Args:
            x: `(batch, *features)` numbers, or `(batch,)` ids.
            state: what the step before returned; None before the first.

        Returns:
            The output `(batch, *features)` and the state for the next step: a tuple of arrays
            `(batch, ...)`, whose rows may be picked and repeated, as a beam search does.

        Raises:
            ValueError: a shape or id that does not fit, or a network that cannot run step by step;
                names the node.
        """
        if self._not_steppable:
            raise ValueError(f"the model cannot run step by step: {self._not_steppable}; use run()")
        x = self._checked(x, ("batch",))
        if state is None:
            state = self._first_state(len(x))
        elif len(state) != self._states:
            raise ValueError(f"state must hold {self._states} arrays, got {len(state)}")
        values: list[Any] = [x]
        following: list[Array] = []
        for step in self._steps:
            assert not isinstance(step.layer, Reduction)
            inputs = [values[index] for index in step.inputs]
            carried = state[len(following) : len(following) + step.layer.states]
            y, carried = step.layer.step(inputs, carried)
            values.append(y)
            following.extend(carried)
        return values[self._output], tuple(following)

    @property
    def not_streamable(self) -> str | None:
        """Why the network cannot run in a stream, naming the node; None if it can."""
        return _first_reason((step.name, step.layer.not_streamable) for step in self._steps)

    def stream(self, batch: int = 1) -> "Stream":
        """Begin `batch` streams that run side by side.

        Raises:
            ValueError: the network needs the whole sequence; names the node.
        """
        if self.not_streamable:
            raise ValueError(f"the model cannot stream: {self.not_streamable}; use run()")
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        return Stream(self, batch)

    def _first_state(self, batch: int) -> State:
        layers = [step.layer for step in self._steps if not isinstance(step.layer, Reduction)]
        return tuple(array for layer in layers for array in layer.first_state(batch))

    def _checked(self, x: Any, axes: tuple[str, ...]) -> Array:
        """The input as the layers take it, after a check of its type and shape."""
        x = np.asarray(x)
        if x.dtype.kind not in ("iu" if self.takes_ids else "f"):
            wanted = "integer" if self.takes_ids else "floating"
            raise ValueError(f"x must hold {wanted} numbers, got {x.dtype}")
        if x.ndim != len(axes) + len(self.features) or x.shape[len(axes) :] != self.features:
            text = ", ".join([*axes, *map(str, self.features)])
            raise ValueError(f"x must have shape ({text}), got {x.shape}")
        if len(x) == 0:
            raise ValueError("x holds no sequence")
        return x if self.takes_ids else x.astype(np.float32, copy=False)

    def _checked_lengths(self, lengths: Any, batch: int, time: int) -> Array:
        steps = np.full(batch, time) if lengths is None else np.asarray(lengths)
        if steps.shape != (batch,) or not np.issubdtype(steps.dtype, np.integer):
            raise ValueError(f"lengths must be {batch} integers, got {steps.dtype} {steps.shape}")
        if steps.max() > time or steps.min() < self.least_steps:
            raise ValueError(
                f"sequences must have {self.least_steps} (the model's least) to {time} (in x) "
                f"steps, got {steps.min()} to {steps.max()}"
            )
        return steps.astype(np.int64)


class Stream:
    """Sequences that arrive in pieces; made by `Model.stream`.

    All that `push` and `finish` give, joined along time, is what `Model.run` gives for all that
    was pushed, joined. An output comes as soon as all that it depends on is there.
    """

    def __init__(self, model: Model, batch: int) -> None:
        self._model, self._batch = model, batch
        self._layers: list[tuple[tuple[int, ...], Streaming]] = [
            (step.inputs, step.layer.stream(batch))
            for step in model._steps
            if not isinstance(step.layer, Reduction)
        ]
        self._pushed = 0
        self._finished = False

    def push(self, x: Array) -> Array:
        """Take the next steps.

        Args:
            x: `(batch, time, *features)` numbers or `(batch, time)` ids; time may be 0.

        Returns:
            The output steps that are ready, `(batch, time, *features)`; often none.

        Raises:
            ValueError: a shape or id that does not fit, or the stream is finished.
        """
        x = self._model._checked(x, ("batch", "time"))
        if len(x) != self._batch:
            raise ValueError(
                f"x holds {len(x)} sequences, but the stream was begun with {self._batch}"
            )
        return self._advance(x, is_last=False)

    def finish(self) -> Array:
        """End the sequences: the remaining output steps, `(batch, time, *features)`.

        Of sequences shorter than the model's `least_steps` there are none.

        Raises:
            ValueError: the stream is finished already.
        """
        dtype = np.int64 if self._model.takes_ids else np.float32
        nothing = np.empty((self._batch, 0, *self._model.features), dtype)
        rest = self._advance(nothing, is_last=self._pushed >= self._model.least_steps)
        self._finished = True
        return rest

    def _advance(self, x: Array, is_last: bool) -> Array:
        if self._finished:
            raise ValueError("the stream is finished; begin another one")
        self._pushed += x.shape[1]
        values = [x]
        for inputs, layer in self._layers:
            values.append(layer.advance([values[index] for index in inputs], is_last))
        return values[self._model._output]


def _first_reason(reasons: Iterable[tuple[str, str | None]]) -> str | None:
    """The first node that cannot do something, and why; None if all can."""
    return next((f"{name!r} {reason}" for name, reason in reasons if reason), None)


def _least_steps(shape: Shape) -> int:
    """The shortest input that gives one step of a value."""
    steps = 1
    for lost, stride in reversed(shape.clock or ()):
        steps = max(1, (steps - 1) * stride + lost + 1)
    return steps


def _make_steps(packed: PackedModel, shapes: Mapping[str, Shape]) -> list[Step]:
    index = {name: number for number, name in enumerate(shapes)}
    last_use = {
        index[name]: number for number, node in enumerate(packed.nodes) for name in node.inputs
    }
    last_use[index[packed.output]] = len(packed.nodes)
    prepared: dict[str, Any] = {}
    steps = []
    for number, node in enumerate(packed.nodes):
        layer = _make_layer(packed, node, [shapes[name] for name in node.inputs], prepared)
        done = tuple(value for value, last in last_use.items() if last == number)
        steps.append(Step(node.name, layer, tuple(index[name] for name in node.inputs), done))
    return steps


def _make_layer(
    packed: PackedModel, node: Node, inputs: Sequence[Shape], prepared: dict[str, Any]
) -> Layer:
    """The layer of a node; a matrix that several nodes share is prepared once."""
    matrices = {name: s for name, s in node.parameters.items() if s in packed.matrices}
    vectors = {n: packed.vectors[s] for n, s in node.parameters.items() if s in packed.vectors}
    if node.op == "embedding":
        return make_embedding(Table(packed.matrices[matrices["weight"]]))
    for stored in matrices.values():
        if stored not in prepared:
            prepared[stored] = packed.matrices[stored].prepare()
    return make_layer(node, inputs, {name: prepared[s] for name, s in matrices.items()}, vectors)
