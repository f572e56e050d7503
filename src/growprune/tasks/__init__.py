"""What can be learnt: each task brings model, data set, loss and metric."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from growprune.errors import RecipeError
from growprune.export import Packed
from growprune.tasks.speech import SpeechRecipe
from growprune.tasks.speech import packing as speech_packing
from growprune.training import load_weights, read_table, validate

RECIPES = {"speech": SpeechRecipe}
"""Every task's kind of recipe."""

PACKERS = {"speech": speech_packing.pack_run}
"""How each task's runs become packed models."""


def open_recipe(source: str | Path, overrides: Sequence[str] = ()) -> SpeechRecipe:
    """A recipe by name or path, with `key=value` overrides, checked.

    Raises:
        RecipeError: no such recipe, an unknown key, or a value out of range.
    """
    table = read_table(source, overrides)
    return validate(RECIPES[_task(table, f"recipe {source}")], table, str(source))


def pack_run(
    folder: Path, *, layout: str, weights: str, info: Mapping[str, Any] | None = None
) -> Packed:
    """Pack the model of a finished run.

    Args:
        folder: the run's.
        layout: as in `growprune.export.pack`, and so is `weights`.
        weights: see there.
        info: what to write in the file beside what the task says of the model; JSON types.

    Raises:
        CheckpointError: there is no finished model, or it is damaged.
        RecipeError: it is of an unknown task.
    """
    task = _task(load_weights(folder).recipe, str(folder))
    return PACKERS[task](folder, layout=layout, weights=weights, info=info)


def _task(table: Mapping[str, Any], source: str) -> str:
    task = table.get("task")
    if task not in RECIPES:
        raise RecipeError(f"{source}: task is {task!r}; it must be one of {list(RECIPES)}")
    return task
