"""The check of a network as a whole, before anything of it runs."""

from collections.abc import Mapping
from math import prod

import numpy as np

from growprune.runtime.graph import RULES, Node, Shape, output_shape
from growprune.runtime.packed_file import INPUT, PackedModel

_SMALL = 1 << 20
"""Numbers a step may always hold, however small the file."""


def checked_shapes(packed: PackedModel) -> dict[str, Shape]:
    """Check a network as a whole.

    Returns:
        The shape of every value by its name, the input first, in the order of computation.

    Raises:
        ValueError: a node, matrix or vector that does not fit; names it.
    """
    _check_weights(packed)
    sizes = {name: matrix.shape for name, matrix in packed.matrices.items()}
    sizes |= {name: vector.shape for name, vector in packed.vectors.items()}
    shapes = {INPUT: Shape(packed.features, is_ids=packed.takes_ids)}
    held, limit = prod(packed.features), max(_SMALL, packed.nbytes)
    for node in packed.nodes:
        shapes[node.name] = _node_shape(packed, node, shapes, sizes)
        held += max(shapes[node.name].held, prod(shapes[node.name].features))
        if held > limit:
            raise ValueError(
                f"node {node.name!r}: a step needs {held} numbers in memory, more than the "
                f"{limit} that weights of this size allow"
            )
    if packed.output not in shapes or packed.output == INPUT:
        raise ValueError(f"the output {packed.output!r} is no node")
    _check_all_used(packed)
    return shapes


def _check_weights(packed: PackedModel) -> None:
    for name, matrix in packed.matrices.items():
        try:
            matrix.check()
        except ValueError as error:
            raise ValueError(f"matrix {name!r}: {error}") from None
    for name, vector in packed.vectors.items():
        if vector.dtype != np.float32 or not np.isfinite(vector).all():
            raise ValueError(f"vector {name!r} must be finite float32 numbers")
        if name in packed.matrices:
            raise ValueError(f"vector {name!r} has the name of a matrix")


def _node_shape(
    packed: PackedModel,
    node: Node,
    shapes: Mapping[str, Shape],
    sizes: Mapping[str, tuple[int, ...]],
) -> Shape:
    """The shape of a node's output, after a check of the node."""
    try:
        if node.name in shapes:
            raise ValueError("another value has this name already")
        for name in node.inputs:
            if name not in shapes:
                raise ValueError(f"input {name!r} is no earlier node")
        for name in node.parameters.values():
            if name not in sizes:
                raise ValueError(f"parameter {name!r} is missing")
        by_rule = {name: sizes[stored] for name, stored in node.parameters.items()}
        shape = output_shape(node, [shapes[name] for name in node.inputs], by_rule)
        _check_kinds(packed, node)
    except ValueError as error:
        raise ValueError(f"node {node.name!r}: {error}") from None
    return shape


def _check_kinds(packed: PackedModel, node: Node) -> None:
    """Check that matrices stand where the rule wants matrices."""
    wanted = RULES[node.op].matrices(node.attributes)
    for name, stored in node.parameters.items():
        if (name in wanted) != (stored in packed.matrices):
            raise ValueError(
                f"parameter {stored!r} must {'' if name in wanted else 'not '}be a matrix"
            )


def _check_all_used(packed: PackedModel) -> None:
    used = {name for node in packed.nodes for name in node.parameters.values()}
    left = sorted({*packed.matrices, *packed.vectors} - used)
    if left:
        raise ValueError(f"no node uses the arrays {left[:8]}")
    read_by = {name for node in packed.nodes for name in node.inputs} | {packed.output}
    unread = sorted({node.name for node in packed.nodes} - read_by)
    if unread:
        raise ValueError(f"no node reads the outputs of {unread[:8]}")
