"""Which parameters of a model are grown and pruned."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn import Module, Parameter
from torch.nn.modules.batchnorm import _NormBase

_OWNERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.Embedding,
)
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def choose_parameters(
    model: Module, include: Sequence[str] | None = None, exclude: Sequence[str] = ()
) -> dict[str, Parameter]:
    """Weight matrices by name, in the model's order; a shared one once, by its first name.

    Args:
        model: the network.
        include: shell-style patterns on parameter names. Without any: the matrices of Linear,
            Conv, RNN, LSTM, GRU (and their cells), Embedding and HLSTM modules. Frozen
            parameters, biases and norms are never taken.
        exclude: patterns of names to leave alone.

    Raises:
        ValueError: nothing matches, or an embedding has sparse gradients.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    chosen = {}
    for parameter, names in _names(model).items():
        if any(_matches(name, exclude) for name in names):
            continue
        if any(_is_wanted(name, parameter, modules, include) for name in names):
            chosen[names[0]] = parameter
    if not chosen:
        raise ValueError(
            f"no weight matrix to grow and prune: include={include} and exclude={list(exclude)} "
            f"leave none of {[name for name, _ in model.named_parameters()]}"
        )
    return chosen


def owners(model: Module, parameters: Iterable[Parameter]) -> list[Module]:
    """The modules of which at least one of these is a parameter."""
    wanted = {id(parameter) for parameter in parameters}
    return [
        module
        for module in model.modules()
        if any(id(parameter) in wanted for parameter in module.parameters(recurse=False))
    ]


def _names(model: Module) -> dict[Parameter, list[str]]:
    """Every parameter with all its names; a tied one has several."""
    names: dict[Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return names


def _is_wanted(
    name: str, parameter: Parameter, modules: dict[str, Module], include: Sequence[str] | None
) -> bool:
    owner_name, _, leaf = name.rpartition(".")
    owner = modules[owner_name]
    if parameter.ndim < 2 or "bias" in leaf or isinstance(owner, _NORMS):
        return False
    if not parameter.requires_grad:
        return False
    if include is not None:
        wanted = _matches(name, include)
    else:
        wanted = isinstance(owner, _OWNERS) or _is_in_hlstm(owner_name, modules)
    if wanted and getattr(owner, "sparse", False):
        raise ValueError(
            f"{name}: growing and pruning need dense gradients; build its Embedding with "
            "sparse=False or exclude it"
        )
    return wanted


def _is_in_hlstm(owner_name: str, modules: dict[str, Module]) -> bool:
    """Whether the module or one around it is an HLSTM, known by its `gate_hidden_sizes`."""
    parts = owner_name.split(".")
    around = [".".join(parts[:end]) for end in range(len(parts) + 1)]
    return any(hasattr(modules[name], "gate_widths") for name in around)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
