"""What can be learnt: each task brings model, data set, loss and metric."""

from collections.abc import Sequence
from pathlib import Path

from growprune.errors import RecipeError
from growprune.tasks.speech import SpeechRecipe
from growprune.training import read_table, validate

RECIPES = {"speech": SpeechRecipe}
"""Every task's kind of recipe."""


def open_recipe(source: str | Path, overrides: Sequence[str] = ()) -> SpeechRecipe:
    """A recipe by name or path, with `key=value` overrides, checked.

    Raises:
        RecipeError: no such recipe, an unknown key, or a value out of range.
    """
    table = read_table(source, overrides)
    task = table.get("task")
    if task not in RECIPES:
        raise RecipeError(f"recipe {source}: task is {task!r}; it must be one of {list(RECIPES)}")
    return validate(RECIPES[task], table, str(source))
