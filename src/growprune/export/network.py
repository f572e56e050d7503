"""A whole network before it is stored, and how it is made smaller without changing its results."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from growprune.export.layouts import Weight
from growprune.runtime.graph import Node

_READS_WITH = {"linear": "weight", "lstm": "ih", "gru": "ih"}
"""Operations that multiply each step's input, nothing else, and by which matrix. A convolution is
not one of them: where it reads zeros beyond the ends, a shift of its input would be missing."""


@dataclass
class Network:
    """Nodes in the order of computation, the output's name, weights and vectors by name."""

    nodes: list[Node]
    output: str
    weights: dict[str, Weight]
    vectors: dict[str, np.ndarray]

    def readers(self, value: str) -> list[Node]:
        """Nodes that read a value."""
        return [node for node in self.nodes if value in node.inputs]

    def is_shared(self, weight: str) -> bool:
        """Whether several nodes use a matrix."""
        return sum(weight in node.parameters.values() for node in self.nodes) > 1

    def drop_unneeded(self) -> None:
        """Drop what the output does not depend on."""
        needed = {self.output}
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        self.nodes = [node for node in self.nodes if node.name in needed]
        used = {name for node in self.nodes for name in node.parameters.values()}
        self.weights = {name: w for name, w in self.weights.items() if name in used}
        self.vectors = {name: v for name, v in self.vectors.items() if name in used}

    def fold_affine(self, forward: bool) -> None:
        """Work scales and shifts (batch norms) into the matrices before them.

        Args:
            forward: whether into the matrices after them too, which scales their columns.
        """
        for node in [node for node in self.nodes if node.op == "affine"]:
            if self._fold_back(node) or (forward and self._fold_forward(node)):
                self._remove(node)
        self.drop_unneeded()

    def _fold_back(self, affine: Node) -> bool:
        """`s (W x + b) + t = (s W) x + (s b + t)`, if nothing else reads `W x + b`."""
        source = next((node for node in self.nodes if node.name == affine.inputs[0]), None)
        if source is None or source.op not in ("linear", "convolution"):
            return False
        weight, bias = source.parameters["weight"], source.parameters["bias"]
        read_elsewhere = self.readers(source.name) != [affine] or self.output == source.name
        if read_elsewhere or self.is_shared(weight):
            return False
        scale, shift = self._scale_and_shift(affine)
        self.weights[weight] = self.weights[weight].scaled(rows=scale)
        self.vectors[bias] = (self.vectors[bias] * scale + shift).astype(np.float32)
        return True

    def _fold_forward(self, affine: Node) -> bool:
        """`W (s x + t) + b = (W s) x + (W t + b)`, if all readers are such products."""
        readers = self.readers(affine.name)
        if self.output == affine.name or not all(node.op in _READS_WITH for node in readers):
            return False
        matrices = [node.parameters[_READS_WITH[node.op]] for node in readers]
        if any(self.is_shared(name) for name in matrices):
            return False
        scale, shift = self._scale_and_shift(affine)
        for node, matrix in zip(readers, matrices, strict=True):
            weight, bias = self.weights[matrix], node.parameters["bias"]
            moved = self.vectors[bias] + weight.values.astype(np.float64) @ shift
            self.vectors[bias] = moved.astype(np.float32)
            self.weights[matrix] = weight.scaled(columns=scale)
        return True

    def _scale_and_shift(self, affine: Node) -> tuple[np.ndarray, np.ndarray]:
        scale, shift = (self.vectors[affine.parameters[name]] for name in ("scale", "shift"))
        return scale.astype(np.float64), shift.astype(np.float64)

    def _remove(self, node: Node) -> None:
        """Let the node's readers read its input."""
        source = node.inputs[0]
        names: Mapping[str, str] = {node.name: source}
        self.nodes = [
            replace(other, inputs=tuple(names.get(name, name) for name in other.inputs))
            for other in self.nodes
            if other is not node
        ]
        self.output = names.get(self.output, self.output)
