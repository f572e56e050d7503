"""The plan: what grow-and-prune training does and when, as data."""

import math
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from growprune.errors import RecipeError
from growprune.settings import Settings, settings_error

GrowScore = Literal["gradient", "momentum", "random"]
PruneScore = Literal["magnitude", "momentum", "random"]


class Grow(Settings):
    """Growth: every so often, activate the dormant connections that score best."""

    epochs: int = Field(ge=1)
    """Length of the growth phase in epochs."""
    interval: int = Field(default=100, ge=1)
    """Optimizer steps between two growths."""
    fraction: float = Field(default=0.05, ge=0, le=1)
    """Share of all the connections of the matrix, active or not, activated at each growth."""
    gather_every: int = Field(default=1, ge=1)
    """Gradients of dormant connections are taken in at every so many steps, the last one before a
    growth among them where this divides `interval`; on a CPU the steps between cost less."""
    score: GrowScore = "gradient"
    """What ranks dormant connections: the mean gradient since the last growth, a running average
    of the gradient, or chance."""
    max_density: float | None = Field(default=None, gt=0, le=1)
    """Growth stops exactly at this density; without it, at a full matrix."""


class Prune(Settings):
    """Pruning in rounds, each followed by retraining and a look at the metric."""

    rounds: int = Field(ge=1)
    """How many times connections are taken away."""
    fraction: float | None = Field(default=None, gt=0, lt=1)
    """Share of the active connections that a round takes away; this or `final_density`."""
    final_density: float | None = Field(default=None, gt=0, le=1)
    """Density after the last round, reached through equal ratios; this or `fraction`."""
    score: PruneScore = "magnitude"
    """What ranks active connections, the lowest going first: |w|, the running average of the
    gradient, or chance."""
    retrain_epochs: int = Field(default=1, ge=1)
    """Epochs of training after each round."""
    target: float | None = None
    """The metric a round must hold, as an absolute value; this, `tolerance` or neither."""
    tolerance: float | None = Field(default=None, ge=0)
    """How much worse than at the end of growth the metric may get, relative to its value then."""
    mode: Literal["min", "max"] = "min"
    """Whether a good metric is small (an error rate) or large (an accuracy)."""
    on_miss: Literal["rollback", "continue"] = "rollback"
    """After a missed target: return to the last model that held it and end pruning, or go on."""

    @model_validator(mode="after")
    def _one_schedule_and_one_target(self) -> Self:
        if (self.fraction is None) == (self.final_density is None):
            raise ValueError("give exactly one of fraction and final_density")
        if self.target is not None and self.tolerance is not None:
            raise ValueError("give target or tolerance, not both")
        return self

    @property
    def is_judged(self) -> bool:
        """Whether rounds are judged by a metric at all."""
        return self.target is not None or self.tolerance is not None

    def holds(self, metric: float, reference: float | None) -> bool:
        """Whether `metric` is good enough; NaN never is.

        Args:
            metric: the metric at the end of a round's retraining.
            reference: the metric at the end of growth; only `tolerance` needs it.
        """
        if self.tolerance is not None and reference is not None:
            slack = self.tolerance * abs(reference)
            limit = reference + slack if self.mode == "min" else reference - slack
        elif self.target is not None:
            limit = self.target
        else:
            return True
        return metric <= limit if self.mode == "min" else metric >= limit


class Shift(Settings):
    """The activation shift: leaky ReLU becomes ReLU, and the network retrains briefly."""

    epochs: int = Field(ge=1)
    """Epochs of retraining after the shift."""
    negative_slope: float = Field(default=0.0, ge=0, le=1)
    """The slope set on every submodule that has a `negative_slope`."""


class Rewire(Settings):
    """Rewiring at constant density: prune some connections, grow as many others."""

    epochs: int = Field(ge=1)
    """Length of the rewiring phase in epochs."""
    interval: int = Field(default=100, ge=1)
    """Optimizer steps between two rewirings."""
    gather_every: int = Field(default=1, ge=1)
    """As in growth."""
    fraction: float = Field(default=0.3, ge=0, le=1)
    """Share of the active connections replaced at each rewiring."""
    grow_score: GrowScore = "gradient"
    """What ranks dormant connections: "gradient" is RigL, "random" is SET."""
    prune_score: PruneScore = "magnitude"
    """What ranks active connections, the lowest going first."""
    anneal: Literal["none", "cosine"] = "none"
    """Keep `fraction`, or lower it epoch by epoch along half a cosine towards zero."""

    def fraction_at(self, epoch: int) -> float:
        """The share replaced during the phase's epoch number `epoch`, from 0."""
        if self.anneal == "none":
            return self.fraction
        return self.fraction / 2 * (1 + math.cos(math.pi * epoch / self.epochs))


class Override(Settings):
    """Other densities for the parameters whose name matches a pattern; the first match counts."""

    pattern: str = Field(min_length=1)
    """Shell-style pattern on parameter names, for example "output.*"."""
    seed_density: float | None = Field(default=None, gt=0, le=1)
    """Replaces the plan's `seed_density`."""
    max_density: float | None = Field(default=None, gt=0, le=1)
    """Replaces `grow.max_density`."""
    prune_fraction: float | None = Field(default=None, ge=0, lt=1)
    """Replaces `prune.fraction` or `prune.final_density` by a fraction; 0 prunes nothing."""
    final_density: float | None = Field(default=None, gt=0, le=1)
    """Replaces `prune.fraction` or `prune.final_density` by a final density."""

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        if self.prune_fraction is not None and self.final_density is not None:
            raise ValueError("give prune_fraction or final_density, not both")
        return self


class Plan(Settings):
    """A whole grow-and-prune training run.

    Phases follow one another: `grow` or `rewire`, then `prune`, then `shift`; each is optional.
    What comes after is "retrain", where connections no longer change.
    """

    seed_density: float = Field(default=0.5, gt=0, le=1)
    """Share of the connections that is active at the start, chosen at random."""
    distribution: Literal["uniform", "erdos_renyi"] = "uniform"
    """How the seed is shared among matrices: the same density everywhere, or a density that
    falls with a matrix's size, proportional to (rows + columns) / (rows * columns)."""
    rescale_seed: bool = False
    """Whether the seed's weights are divided by the root of their matrix's density, so that sums
    of fewer inputs vary as those of all would (Evci et al., arXiv 2010.03533, for each matrix
    instead of each unit). For weights drawn at random, not for those of a trained model."""
    granularity: Literal["weight", "block", "row", "column"] = "weight"
    """What comes and goes as one: a weight, 16 consecutive rows of a column, a row, a column."""
    scope: Literal["matrix", "model"] = "matrix"
    """Whether connections compete within their matrix or across the model. Across the model,
    the matrices of an override compete among themselves."""
    overrides: tuple[Override, ...] = ()
    """Other densities for some parameters."""
    grow: Grow | None = None
    """The growth phase."""
    rewire: Rewire | None = None
    """The rewiring phase, in the place of growth."""
    prune: Prune | None = None
    """The pruning phase."""
    shift: Shift | None = None
    """The activation shift."""

    @model_validator(mode="after")
    def _phases_fit_together(self) -> Self:
        if self.grow is not None and self.rewire is not None:
            raise ValueError("give grow or rewire, not both")
        learning = self.learning
        if learning is not None and learning.gather_every > learning.interval:
            raise ValueError(
                f"gather_every={learning.gather_every} is longer than "
                f"interval={learning.interval}, so some changes would see no gradients; lower it"
            )
        if self.prune is not None and self.prune.tolerance is not None and self.learning is None:
            raise ValueError(
                "prune.tolerance compares with the end of growth, and there is no grow or rewire "
                "phase; give prune.target instead"
            )
        if self.prune is not None and self.prune.score == "momentum" and self.learning is None:
            raise ValueError(
                "prune.score='momentum' needs gradients seen before, and there is no grow or "
                "rewire phase; give 'magnitude' instead"
            )
        if self.grow is not None and (self.grow.max_density or 1.0) < self.seed_density:
            raise ValueError(
                f"grow.max_density={self.grow.max_density} is below "
                f"seed_density={self.seed_density}; raise it or lower the seed"
            )
        return self

    @property
    def learning(self) -> Grow | Rewire | None:
        """The phase in which connections are learnt."""
        return self.grow or self.rewire

    @property
    def epochs(self) -> int:
        """Epochs of all phases together; fewer are used when pruning ends early."""
        return self.changing_epochs + (self.shift.epochs if self.shift else 0)

    @property
    def changing_epochs(self) -> int:
        """Epochs of growth, rewiring and pruning; connections and slopes stay from then on."""
        learning = self.learning.epochs if self.learning else 0
        pruning = self.prune.rounds * self.prune.retrain_epochs if self.prune else 0
        return learning + pruning

    def averages_in(self, phase: str) -> set[str]:
        """Which averages of the gradient a phase keeps: "gradient", "momentum", both or none."""
        wanted: set[str] = set()
        if phase in ("grow", "rewire", "prune") and self.prune is not None:
            wanted.add(self.prune.score)
        if phase == "grow" and self.grow is not None:
            wanted.add(self.grow.score)
        if phase == "rewire" and self.rewire is not None:
            wanted |= {self.rewire.grow_score, self.rewire.prune_score}
        return wanted & {"gradient", "momentum"}

    @classmethod
    def from_dict(cls, settings: dict[str, Any], source: str = "plan") -> Self:
        """Make a plan from nested dictionaries, as TOML gives them.

        Args:
            settings: the plan's keys and values.
            source: where they come from, for the error's text.

        Raises:
            RecipeError: an unknown key or a value out of range.
        """
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            raise settings_error(error, cls, source) from error

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read a plan from a TOML file.

        Raises:
            RecipeError: the file is missing or not TOML, an unknown key, a value out of range.
        """
        try:
            settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise RecipeError(
                f"{path}: cannot be read ({error.strerror}); give the path of a TOML file"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: is not valid TOML: {error}") from error
        return cls.from_dict(settings, source=str(path))
