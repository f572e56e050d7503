"""A run's folder: the checkpoint to resume from, and the weights to use.

- `checkpoint.pt`: model, optimizer, masks and progress; read with `weights_only=True`.
- `weights.safetensors`: the model's tensors by name, masks as uint8 under `mask:NAME`, and as
  metadata the resolved recipe and what else the task needs to use the model.
- `run.json`: where the data lie on this machine, and the seed.
- `record.json`: see `training.record`.
"""

import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from growprune.errors import CheckpointError, TrainingError
from growprune.files import write_bytes, write_text

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"
LOCAL = "run.json"
_KIND = "growprune run, format 1"
_MASK = "mask:"


@dataclass(frozen=True)
class Weights:
    """What `weights.safetensors` holds."""

    tensors: dict[str, torch.Tensor]
    masks: dict[str, torch.Tensor]
    recipe: dict[str, Any]
    negative_slopes: dict[str, float]
    extras: dict[str, Any]
    """What the task needs beside, such as a vocabulary."""

    def load_into(self, model: torch.nn.Module, source: str | Path) -> None:
        """Copy the tensors into `model` and set its leaky ReLUs' slopes.

        Raises:
            CheckpointError: names or shapes differ from the model's.
        """
        try:
            model.load_state_dict(self.tensors)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise CheckpointError(
                f"{source}: the weights do not fit the recipe's model ({reason})"
            ) from None
        for name, module in model.named_modules():
            if name in self.negative_slopes:
                module.negative_slope = self.negative_slopes[name]


def check_finite(weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Check that a model's weights are numbers.

    Raises:
        TrainingError: one is not finite.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise TrainingError(
                f"weights of {name} are not finite; the last good checkpoint is kept in {folder}. "
                "Lower training.optimizer.learning_rate or training.max_grad_norm and start again"
            )


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the folder's checkpoint.

    Raises:
        TrainingError: a weight is not finite; the last good checkpoint stays.
        DataError: the folder cannot be written; the last good checkpoint stays.
    """
    check_finite(state["model"], folder)
    content = io.BytesIO()
    torch.save(dict(state), content)
    write_bytes(folder / CHECKPOINT, content.getbuffer())


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """The folder's checkpoint.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint to resume from; start without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError("not a table")
    except (OSError, RuntimeError, EOFError, TypeError, ValueError, pickle.UnpicklingError):
        raise CheckpointError(
            f"{path}: damaged or not a checkpoint; delete the folder and start again"
        ) from None
    return state


def save_weights(
    folder: Path,
    model: torch.nn.Module,
    masks: Mapping[str, torch.Tensor],
    recipe: Mapping[str, Any],
    extras: Mapping[str, Any] | None = None,
) -> None:
    """Write `weights.safetensors`: all that is needed to use the model.

    Raises:
        DataError: the folder cannot be written.
    """
    # Copies: the format has no two names for one tensor, which a tied one has.
    tensors = {
        name: tensor.cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    tensors |= {_MASK + name: mask.to(torch.uint8).cpu() for name, mask in masks.items()}
    slopes = {
        name: float(module.negative_slope)
        for name, module in model.named_modules()
        if hasattr(module, "negative_slope")
    }
    details = {
        "kind": _KIND,
        "recipe": json.dumps(recipe),
        "negative_slopes": json.dumps(slopes),
        "extras": json.dumps(dict(extras or {})),
    }
    write_bytes(folder / WEIGHTS, save(tensors, metadata=details))


def load_weights(folder: Path) -> Weights:
    """A run's weights, masks and recipe.

    Raises:
        CheckpointError: the file is missing, damaged or not of a run.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; {folder} is not a run with finished weights")
    try:
        with safe_open(path, framework="pt") as file:
            details = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if details.get("kind") != _KIND:
            raise ValueError("it was not written by a run")
        recipe = json.loads(details["recipe"])
        slopes = json.loads(details["negative_slopes"])
        extras = json.loads(details.get("extras", "{}"))  # older files have none
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: cannot be used ({error}); repeat the run") from None
    masks = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_MASK)}
    return Weights(
        tensors=tensors,
        masks={name.removeprefix(_MASK): mask.bool() for name, mask in masks.items()},
        recipe=recipe,
        negative_slopes=slopes,
        extras=extras,
    )


def save_local(folder: Path, settings: Mapping[str, Any]) -> None:
    """Remember what belongs to this machine and this start: the data's folder, the seed."""
    write_text(folder / LOCAL, json.dumps(settings, indent=1) + "\n")


def load_local(folder: Path) -> dict[str, Any]:
    """What `save_local` wrote.

    Raises:
        CheckpointError: the folder is not a run's.
    """
    path = folder / LOCAL
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise CheckpointError(f"{path}: missing or not JSON; {folder} is not a run") from None
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path}: not a run's settings; repeat the run")
    return settings
