"""Recipes: everything that decides a run's result, as frozen, typed data read from TOML.

A recipe may say `extends = "name"`: it then holds only what differs from that recipe. Tables merge
key by key; every other value replaces the one below it.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from growprune.errors import RecipeError
from growprune.recipes import recipe_names, recipe_text, shipped_recipes
from growprune.settings import Settings, settings_error
from growprune.sparsity import Plan

Table = dict[str, Any]


class OptimizerSettings(Settings):
    """The optimizer and its learning-rate schedule.

    `learning_rate` is the highest rate reached. Schedules, over the whole run's steps:
    `one_cycle` rises linearly over the first `warmup` part, then falls along a cosine to
    `final_scale` times the rate, and stays there for the last `final_epochs`; `exponential` divides
    by `anneal` after each epoch; `constant`. Whatever the schedule, the optimizer begins the last
    `final_epochs` without what it remembers of the epochs before.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of SGD."""
    nesterov: bool = False
    schedule: Literal["one_cycle", "exponential", "constant"] = "one_cycle"
    warmup: float = Field(default=0.2, ge=0, lt=1)
    final_scale: float = Field(default=1e-3, ge=0, le=1)
    final_epochs: NonNegativeInt = 0
    anneal: float = Field(default=1.1, ge=1)


class TrainingSettings(Settings):
    """The loop: how long, how many at once, on what, and what to keep."""

    epochs: PositiveInt
    batch_size: PositiveInt = 16
    """Examples per process and step."""
    max_grad_norm: PositiveFloat | None = None
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Of products: float32, or bfloat16 under autocast, where an H-LSTM keeps states and sums in
    float32 and is faster on a processor with AVX512_BF16."""
    accelerator: Literal["cpu", "cuda", "auto"] = "cpu"
    threads: PositiveInt | None = Field(
        default=None, description="None: as many as there are cores"
    )
    checkpoint_minutes: float = Field(default=5.0, ge=0)
    keep: Literal["last", "best"] = "last"
    """Final weights: those of the last epoch, or of the best on dev once pruning is over."""
    patience: PositiveInt | None = None
    """Stop early, after so many epochs in a row that were not the best; needs keep = "best"."""
    average_epochs: NonNegativeInt = 0
    """Stochastic weight averaging (Izmailov et al., arXiv 1803.05407) over so many last epochs:
    the mean of the parameters after each of their steps, all steps alike, is what dev is scored
    with and what is kept, while training goes on from the weights as they are. The optimizer's
    `final_epochs` follow them, and begin from that mean. The paper samples
    once an epoch; every step costs one more pass over the weights and gives short runs as many
    samples as long ones. Connections must not change in these epochs. Batch norm is refused: its
    running statistics belong to the weights of a step and not to the mean, whose own would take a
    pass over the training data before every look at dev; layer norm has none."""
    optimizer: OptimizerSettings = OptimizerSettings()

    @model_validator(mode="after")
    def _patience_keeps_the_best(self) -> Self:
        if self.patience is not None and self.keep != "best":
            raise ValueError("patience needs keep = 'best'")
        return self

    @model_validator(mode="after")
    def _averages_the_last_epochs(self) -> Self:
        if self.average_epochs > self.epochs:
            raise ValueError(
                f"average_epochs is {self.average_epochs}, but there are only {self.epochs} "
                "epochs; lower it"
            )
        if self.average_epochs and self.patience is not None:
            raise ValueError(
                "average_epochs are the last of all epochs, and patience may end the run before "
                "them; give one of the two"
            )
        return self


class Recipe(Settings):
    """What every task's recipe has; a task adds its own tables."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    task: str
    summary: str = ""
    training: TrainingSettings
    plan: Plan | None = None
    """How to grow and prune; without it training is dense."""

    def is_of(self, table: Mapping[str, Any]) -> bool:
        """Whether a record's table is this recipe, but for its summary.

        Settings younger than the record have their defaults.
        """
        try:
            return type(self).model_validate({**table, "summary": self.summary}) == self
        except ValidationError:
            return False


RecipeType = TypeVar("RecipeType", bound=Recipe)


def read_table(source: str | Path, overrides: Sequence[str] = ()) -> Table:
    """The merged table of a recipe, before validation.

    Args:
        source: a TOML file's path, or the name of a recipe in this package.
        overrides: `key.subkey=value` settings; a value is read as TOML, else as plain text.

    Raises:
        RecipeError: no such recipe, not TOML, or an override without `=`.
    """
    table = _read_with_base(source, seen=())
    for override in overrides:
        _set(table, override)
    return table


def validate(kind: type[RecipeType], table: Mapping[str, Any], source: str) -> RecipeType:
    """The table as a typed recipe.

    Raises:
        RecipeError: an unknown key or a value out of range, in one line.
    """
    try:
        recipe = kind.model_validate(table)
    except ValidationError as error:
        raise settings_error(error, kind, f"recipe {source}") from None
    _check_epochs(recipe, source)
    return recipe


def _check_epochs(recipe: Recipe, source: str) -> None:
    """Check that what is to be done in the run's epochs fits into them."""
    if recipe.plan is not None and recipe.plan.epochs > recipe.training.epochs:
        raise RecipeError(
            f"recipe {source}: the plan's phases take {recipe.plan.epochs} epochs but "
            f"training.epochs is {recipe.training.epochs}; raise it or shorten the phases"
        )
    final = recipe.training.optimizer.final_epochs
    if final >= recipe.training.epochs:
        raise RecipeError(
            f"recipe {source}: training.optimizer.final_epochs is {final}, which leaves no epoch "
            f"of the {recipe.training.epochs} to learn in; lower it"
        )
    averaged = recipe.training.average_epochs
    changing = recipe.plan.changing_epochs if recipe.plan else 0
    settled = recipe.training.epochs - changing - final
    if averaged > settled:
        raise RecipeError(
            f"recipe {source}: training.average_epochs is {averaged}, but the plan and the final "
            f"epochs leave only {settled} of the {recipe.training.epochs} epochs in which no "
            "connections change; lower it or shorten the plan's phases"
        )


def _read_with_base(source: str | Path, seen: tuple[str, ...]) -> Table:
    if str(source) in seen:
        raise RecipeError(f"recipe {source} extends itself: {' -> '.join((*seen, str(source)))}")
    table = _parse(source)
    base = table.pop("extends", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise RecipeError(f"recipe {source}: extends is {base!r}; give one recipe's name or path")
    beside = Path(source).parent / base
    found = beside if str(source).endswith(".toml") and beside.is_file() else base
    lower = _read_with_base(found, (*seen, str(source)))
    lower.pop("summary", None)
    return _merge(lower, table)


def _parse(source: str | Path) -> Table:
    try:
        return tomllib.loads(_text(source))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {source} is not valid TOML: {error}") from None


def _text(source: str | Path) -> str:
    if str(source).endswith(".toml"):
        try:
            return Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"recipe file {source} cannot be read ({error})") from None
    if str(source) in recipe_names():
        return recipe_text(str(source))
    raise RecipeError(
        f"no recipe named {str(source)!r}; there are {', '.join(shipped_recipes())}, "
        "or give the path of a .toml file"
    )


def _merge(lower: Table, upper: Table) -> Table:
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            value = _merge(below, value)
        merged[key] = value
    return merged


def _set(table: Table, override: str) -> None:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise RecipeError(f"--set {override!r}: give it as key=value, e.g. training.epochs=20")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for part in path[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {override!r}: {part} is a value, not a table")
        table = inner
    table[path[-1]] = value
