"""What can be learnt: each task brings model, data set, loss and metric."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from growprune.data import open_captions, open_corpus, open_features
from growprune.errors import DataError, RecipeError
from growprune.export import Packed
from growprune.tasks.captioning import Captioner, CaptioningRecipe, CaptioningTask
from growprune.tasks.captioning import packing as captioning_packing
from growprune.tasks.speech import Recognizer, SpeechRecipe, SpeechTask
from growprune.tasks.speech import packing as speech_packing
from growprune.training import Recipe, Task, load_weights, read_table, validate

RECIPES: dict[str, type[Recipe]] = {"captioning": CaptioningRecipe, "speech": SpeechRecipe}
"""Every task's kind of recipe."""

TASKS: dict[str, type[CaptioningTask] | type[SpeechTask]] = {
    "captioning": CaptioningTask,
    "speech": SpeechTask,
}
"""Every task; `metric` and `mode` of its class say what decides."""

PACKERS = {"captioning": captioning_packing.pack_run, "speech": speech_packing.pack_run}
"""How each task's runs become packed models."""

MODELS: dict[str, type[Captioner] | type[Recognizer]] = {
    "captioning": Captioner,
    "speech": Recognizer,
}
"""What each task's finished runs are used by."""


def open_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by name or path, with `key=value` overrides, checked.

    Raises:
        RecipeError: no such recipe, an unknown key, or a value out of range.
    """
    table = read_table(source, overrides)
    return validate(RECIPES[_task(table, f"recipe {source}")], table, str(source))


def with_defaults(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record's recipe, settings younger than the record at their defaults.

    As it is where it cannot be read any more.
    """
    kind = RECIPES.get(recipe.get("task", ""))
    try:
        return kind.model_validate(recipe).model_dump(mode="json") if kind else recipe
    except ValidationError:
        return recipe


def open_task(recipe: Recipe, data: Path, features: Path | None = None, seed: int = 0) -> Task:
    """A recipe on its data.

    Args:
        recipe: of any task.
        data: the corpus.
        features: of the corpus's images; captioning needs them, speech computes its own.
        seed: see the task.

    Raises:
        DataError: the data cannot be used, or features are missing or not wanted.
    """
    if isinstance(recipe, CaptioningRecipe):
        if features is None:
            raise DataError(
                f"recipe {recipe.name} captions images: name their features with --features "
                "(growprune data features computes them)"
            )
        return CaptioningTask(recipe, open_captions(data), open_features(features), seed)
    assert isinstance(recipe, SpeechRecipe)
    if features is not None:
        raise DataError(f"recipe {recipe.name} is of the speech task; leave out --features")
    return SpeechTask(recipe, open_corpus(data), seed)


def task_of(folder: Path) -> str:
    """The task of a finished run.

    Raises:
        CheckpointError: there is no finished model, or it is damaged.
        RecipeError: it is of an unknown task.
    """
    return _task(load_weights(folder).recipe, str(folder))


def open_run(folder: Path) -> Captioner | Recognizer:
    """The model of a finished run, ready for use.

    Raises:
        CheckpointError: there is no finished model, or it is damaged.
        RecipeError: it is of an unknown task.
    """
    return MODELS[task_of(folder)].from_run(folder)


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
    return PACKERS[task_of(folder)](folder, layout=layout, weights=weights, info=info)


def _task(table: Mapping[str, Any], source: str) -> str:
    task = table.get("task")
    if task not in RECIPES:
        raise RecipeError(f"{source}: task is {task!r}; it must be one of {list(RECIPES)}")
    return task
