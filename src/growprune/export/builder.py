"""Collects the nodes and weights of a network, and makes a packed model of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from growprune import runtime
from growprune.export.layouts import KINDS, LAYOUTS, Choice, Weight, store
from growprune.export.network import Network
from growprune.runtime.graph import Node, Shape, output_shape

INPUT = "input"


@dataclass(frozen=True)
class Packed:
    """A network packed for `growprune.runtime`.

    Attributes:
        contents: what a file of it holds.
        choices: the layout each matrix got, and why.
    """

    contents: runtime.PackedModel
    choices: tuple[Choice, ...]

    def save(self, path: str | Path) -> None:
        """Write the packed file, whole or not at all.

        Raises:
            DataError: the file cannot be written.
        """
        runtime.write(path, self.contents)

    def model(self) -> runtime.Model:
        """The model, ready to run, without a file."""
        return runtime.build(self.contents, "packed model")


class Builder:
    """A network in the making. Values are named by the node they come from.

    Args:
        features: sizes of the input's axes after batch and time; none for ids.
        takes_ids: whether the input are ids.
    """

    def __init__(self, features: Sequence[int], takes_ids: bool = False) -> None:
        self._features, self._takes_ids = tuple(features), takes_ids
        self._shapes = {INPUT: Shape(self._features, is_ids=takes_ids)}
        self._nodes: list[Node] = []
        self._weights: dict[str, Weight] = {}
        self._vectors: dict[str, np.ndarray] = {}

    def features(self, value: str) -> tuple[int, ...]:
        """Sizes of a value's axes after batch and time."""
        return self._shapes[value].features

    def add(
        self,
        name: str,
        op: str,
        inputs: Sequence[str],
        weights: Mapping[str, tuple[str, Weight]] | None = None,
        vectors: Mapping[str, np.ndarray] | None = None,
        **attributes: Any,
    ) -> str:
        """Add a node and name its value.

        Args:
            name: of the node, made unique by a number if it is taken; `op` if empty.
            op: operation of `growprune.runtime`.
            inputs: names of values.
            weights: for each matrix the operation takes, the name to store it by and itself. The
                same name means the same matrix.
            vectors: the vectors the operation takes.
            **attributes: of the operation.

        Raises:
            ValueError: the operation cannot read these inputs; names the node.
        """
        name = self._unique(name or op)
        stored = {role: key for role, (key, _) in (weights or {}).items()}
        stored |= {role: f"{name}.{role}" for role in vectors or {}}
        node = Node(name, op, tuple(inputs), attributes, stored)
        self._weights |= dict((weights or {}).values())
        self._vectors |= {f"{name}.{role}": _float32(v) for role, v in (vectors or {}).items()}
        sizes = {role: self._size(key) for role, key in stored.items()}
        try:
            shape = output_shape(node, [self._shapes[value] for value in inputs], sizes)
        except ValueError as error:
            raise ValueError(f"{name!r} cannot be packed: {error}") from None
        self._shapes[name] = shape
        self._nodes.append(node)
        return name

    def finish(
        self,
        output: str,
        *,
        layout: str = "auto",
        weights: str = "float32",
        info: Mapping[str, Any] | None = None,
    ) -> Packed:
        """Fold, drop what the output does not depend on, and choose layouts.

        Args:
            output: the value that is the model's output.
            layout: auto, dense, csr or blocks, for every matrix but the tables of embeddings.
            weights: float32, or int8 with a scale per row.
            info: description of the model; JSON types only.

        Raises:
            ValueError: an unknown layout or kind of weights, or an output that is the input.
        """
        check_options(layout, weights)
        if output == INPUT:
            raise ValueError("the output is the input itself: there is nothing to pack")
        network = Network(list(self._nodes), output, dict(self._weights), dict(self._vectors))
        network.drop_unneeded()
        # A column scaled up would leave the rest of its row few of int8's steps.
        network.fold_affine(forward=weights == "float32")
        matrices, choices = _store(network, layout, weights)
        contents = runtime.PackedModel(
            features=self._features,
            takes_ids=self._takes_ids,
            nodes=tuple(network.nodes),
            output=network.output,
            matrices=matrices,
            vectors=network.vectors,
            info=dict(info or {}),
        )
        return Packed(contents, tuple(choices))

    def _unique(self, name: str) -> str:
        names = (f"{name}#{number}" if number > 1 else name for number in count(1))
        return next(name for name in names if name not in self._shapes)

    def _size(self, key: str) -> tuple[int, ...]:
        return self._weights[key].values.shape if key in self._weights else self._vectors[key].shape


def check_options(layout: str, weights: str) -> None:
    """Raise ValueError for an unknown layout or kind of weights."""
    if layout not in ("auto", *LAYOUTS):
        raise ValueError(f"layout must be auto or one of {', '.join(LAYOUTS)}, got {layout!r}")
    if weights not in KINDS:
        raise ValueError(f"weights must be one of {', '.join(KINDS)}, got {weights!r}")


def _store(
    network: Network, layout: str, kind: str
) -> tuple[dict[str, runtime.StoredMatrix], list[Choice]]:
    """Every matrix in its layout, and what was chosen."""
    tables = {node.parameters["weight"] for node in network.nodes if node.op == "embedding"}
    matrices, choices = {}, []
    for name, weight in network.weights.items():
        wanted = "dense" if name in tables else layout
        matrices[name], choice = store(name, weight, wanted, kind)
        if name in tables:
            choice = replace(choice, reason="its rows are looked up, not multiplied")
        choices.append(choice)
    return matrices, choices


def _float32(vector: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(vector, np.float32)
