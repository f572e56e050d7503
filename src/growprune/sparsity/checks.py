"""Does a plan fit a model, and a saved state both? Said before anything is changed."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch.nn import Module
from torch.optim import Optimizer

from growprune.errors import CheckpointError, RecipeError
from growprune.sparsity.masks import MaskedMatrix
from growprune.sparsity.plan import Plan
from growprune.sparsity.snapshot import snapshot_fits

STATE_KEYS = {
    "phase",
    "round",
    "epoch",
    "steps",
    "phase_epochs",
    "phase_steps",
    "reference",
    "masks",
    "scorer",
    "negative_slopes",
    "snapshot",
    "history",
}


def sloped_modules(model: Module) -> dict[str, Any]:
    """The submodules with a `negative_slope`, by name: HLSTM and leaky ReLU."""
    modules = model.named_modules()
    return {name: module for name, module in modules if hasattr(module, "negative_slope")}


def check_fit(
    parameters: Mapping[str, Any], model: Module, optimizer: Optimizer, plan: Plan
) -> None:
    """Check that the optimizer trains these parameters and that the plan has something to act on.

    Raises:
        ValueError: a parameter is not the optimizer's, or nothing has a `negative_slope` to shift.
        RecipeError: an override matches none of the parameters.
    """
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    foreign = [name for name, parameter in parameters.items() if id(parameter) not in held]
    if foreign:
        raise ValueError(
            f"the optimizer does not hold {_listed(foreign)}; build it with the model's "
            "parameters, or exclude these"
        )
    if plan.shift is not None and not sloped_modules(model):
        raise ValueError(
            "the plan shifts activations, and no submodule has a negative_slope; use HLSTM "
            "or nn.LeakyReLU, or leave [shift] out"
        )
    for override in plan.overrides:
        if not any(fnmatchcase(name, override.pattern) for name in parameters):
            raise RecipeError(
                f"overrides: pattern {override.pattern!r} matches none of {_listed(parameters)}"
            )


def check_state(
    state: Mapping[str, Any], model: Module, plan: Plan, matrices: Sequence[MaskedMatrix]
) -> None:
    """Check that a saved state belongs to this model and plan.

    Raises:
        CheckpointError: it does not, or it is incomplete.
    """
    missing = STATE_KEYS - state.keys()
    if missing:
        raise CheckpointError(
            f"the grow-and-prune state lacks {_listed(sorted(missing))}; it is damaged or of "
            "another version, start a new run"
        )
    _check_phase(state, plan)
    _check_masks(state["masks"], matrices, plan)
    if state["negative_slopes"].keys() != sloped_modules(model).keys():
        raise CheckpointError(
            f"the state has slopes of {_listed(state['negative_slopes'])}, the model of "
            f"{_listed(sloped_modules(model))}; resume with the same model"
        )
    if state["snapshot"] is not None and not snapshot_fits(state["snapshot"], model, matrices):
        raise CheckpointError(
            "the state's last good model has other names or shapes than this one; resume with "
            "the same model"
        )


def _check_phase(state: Mapping[str, Any], plan: Plan) -> None:
    phase = state["phase"]
    averages = state["scorer"]["averages"].keys()
    in_plan = phase == "retrain" or getattr(plan, phase, None) is not None
    if not in_plan or averages != plan.averages_in(phase):
        raise CheckpointError(
            f"the state is in phase '{phase}' with gradients for {_listed(averages)}, which the "
            "plan does not have; resume with the plan it was started with"
        )


def _check_masks(masks: Mapping[str, Any], matrices: Sequence[MaskedMatrix], plan: Plan) -> None:
    names = [matrix.name for matrix in matrices]
    if masks.keys() != set(names):
        raise CheckpointError(
            f"the state has masks for {_listed(masks)}, the model for {_listed(names)}; resume "
            "with the same model, include and exclude"
        )
    for matrix in matrices:
        mask = masks[matrix.name]
        if not matrix.fits(mask):
            raise CheckpointError(
                f"{matrix.name} is {tuple(matrix.parameter.shape)} and the state's mask "
                f"{tuple(mask.shape)} of {mask.dtype}, or not made of whole {plan.granularity}s; "
                "resume with the same model and plan"
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
