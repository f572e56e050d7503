"""Packs any module that is made of supported layers."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, fx, nn

from growprune.export.builder import Builder, Packed, check_options
from growprune.export.parameters import Parameters
from growprune.export.trace import trace
from growprune.export.translate import Translator
from growprune.export.values import input_axes

_INPUT_SIZES: dict[type[nn.Module], str] = {
    nn.Linear: "in_features",
    nn.Conv1d: "in_channels",
    nn.RNNBase: "input_size",
    nn.BatchNorm1d: "num_features",
}


def pack(
    module: nn.Module,
    masks: Mapping[str, Tensor] | None = None,
    *,
    axes: str | None = None,
    features: Sequence[int] | None = None,
    layout: str = "auto",
    weights: str = "float32",
    zeros_are_pruned: bool = False,
    info: Mapping[str, Any] | None = None,
) -> Packed:
    """Pack a module made of supported layers (docs/packed-models.md lists them).

    The module is left as it is. What it computes in evaluation mode is packed; `torch.fx` follows
    its `forward`, which must not depend on the data.

    Args:
        module: takes one tensor (and, if it likes, lengths) and returns one.
        masks: which connections are active, bool by parameter name, as `GrowPrune.masks` gives
            them. A weight without a mask keeps all its connections.
        axes: order of the axes of the module's input, a letter each: b for batch, t for time, f
            for features. "bft" suits a module that begins with a Conv1d, "tbf" an LSTM without
            batch_first. "btf" if not given, or "bt" where an embedding reads ids.
        features: sizes of the input's axes of features; needed only where the first layer does
            not tell, as a Conv2d.
        layout: layout of the matrices: dense, csr, blocks, or auto for what is probably fastest.
        weights: float32, or int8 with a scale per row.
        zeros_are_pruned: whether zeros in a weight without a mask are pruned connections.
            What `torch.nn.utils.prune` has pruned is known without that.
        info: description to keep in the file; JSON types only.

    Raises:
        ValueError: a layer, operation or option that is not supported; names it.
    """
    check_options(layout, weights)
    parameters = Parameters(module, masks, zeros_are_pruned)
    graph = trace(module)
    first = _first_layer(module, graph)
    takes_ids = isinstance(first, nn.Embedding)
    parsed = input_axes(axes or ("bt" if takes_ids else "btf"))
    sizes = [] if takes_ids else _input_sizes(first, features)
    wanted = sum(isinstance(axis, int) for axis in parsed)
    if len(sizes) != wanted:
        raise ValueError(
            f"the input's axes {axes or 'btf'!r} have {wanted} of features, but {len(sizes)} sizes "
            f"are known, {list(sizes)}; give both `axes` and `features`"
        )
    builder = Builder(sizes, takes_ids)
    output = Translator(module, parameters, builder, parsed).translate(graph)
    parameters.check_all_used()
    return builder.finish(output, layout=layout, weights=weights, info=info)


def _first_layer(module: nn.Module, graph: fx.Graph) -> nn.Module | None:
    """The first layer called that tells what it reads."""
    for node in graph.nodes:
        if node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            if isinstance(layer, nn.Embedding | nn.Conv2d) or _size_attribute(layer):
                return layer
    return None


def _input_sizes(first: nn.Module | None, given: Sequence[int] | None) -> list[int]:
    if given is not None:
        return list(given)
    name = _size_attribute(first)
    if name is None:
        raise ValueError(
            "the module's first layer does not tell the size of its input; give `features`"
        )
    return [getattr(first, name)]


def _size_attribute(layer: nn.Module | None) -> str | None:
    """The attribute that tells how many features a layer reads."""
    for kind, name in _INPUT_SIZES.items():
        if isinstance(layer, kind):
            return name
    return "input_size" if hasattr(layer, "gate_widths") else None
