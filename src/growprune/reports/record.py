"""Run records as the reports see them: read, checked, and grouped by recipe."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from growprune.errors import CheckpointError

FILE = "record.json"
_REMEDY = "finish the run (growprune train ... --resume) or repeat it"


class _Part(BaseModel):
    """Base of a record's parts; keys that no report uses are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Epoch(_Part):
    """One point of a run's curves; error rates are fractions, CIDEr-D is in [0, 10].

    `seconds` are those of training and of scoring dev.
    """

    epoch: int
    phase: str
    train_loss: float | None = None
    dev_loss: float | None = None
    dev_wer: float | None = None
    dev_cider_d: float | None = None
    density: float | None = None
    seconds: float | None = None


class Matrix(_Part):
    """One weight matrix and how many of its connections are active."""

    name: str
    shape: tuple[int, ...] = Field(min_length=2)
    active: int
    density: float


class Weights(_Part):
    """Active connections and biases, and how many there would be without pruning."""

    recurrent: float
    whole: float
    recurrent_dense: float
    whole_dense: float


class Flops(_Part):
    """Floating-point operations, and how many there are where products skip zeros."""

    recurrent: float
    whole: float
    recurrent_measured: float | None = None
    whole_measured: float | None = None


class Cost(_Part):
    """What the model needs: per second of audio, or per caption."""

    weights: Weights
    flops_per_second: Flops | None = None
    flops_per_caption: Flops | None = None


class Latency(_Part):
    """Median time of one utterance or caption, and how it was measured."""

    milliseconds: float
    milliseconds_beam_3: float | None = None
    audio_seconds: float | None = None
    runs: int
    threads: int
    engine: str


class Split(_Part):
    """Size of one split of the data."""

    utterances: int | None = None
    seconds: float | None = None
    images: int | None = None
    captions: int | None = None


class Data(_Part):
    """What the run was trained on."""

    name: str
    splits: Mapping[str, Split]


class Hardware(_Part):
    """Where the run took place."""

    cpu: str
    cores: int | None = None
    threads: int
    device: str


class Record(_Part):
    """A finished run, format 1.

    `latencies` are of several engines, by what tables call them, measured side by side; they stand
    in for `latency`. A score's name is its split's, after the corpus's and ": " where that is not
    the one learnt from; the search follows, as in "test/beam 3".
    """

    format: Literal[1]
    name: str
    task: str
    recipe: Mapping[str, Any]
    seed: int
    commit: str | None = None
    dirty: bool = False
    versions: Mapping[str, str]
    hardware: Hardware
    seconds: float
    data: Data
    epochs: tuple[Epoch, ...]
    matrices: tuple[Matrix, ...]
    cost: Cost
    latency: Latency | None = None
    latencies: Mapping[str, Latency] = Field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float]]

    @property
    def learnt_splits(self) -> tuple[str, ...]:
        """Splits of the data that were learnt from: error rates on them say nothing."""
        data = self.recipe.get("data", {})
        return tuple(data.get("train_splits", ("train",)))


def read_record(run: str | Path) -> Record:
    """Read the record of a finished run, given its folder or the record file itself.

    Raises:
        CheckpointError: the file is missing, or is not a record of format 1.
    """
    path = record_path(run)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path}: no such run record; {_REMEDY}") from None
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error}); {_REMEDY}") from None
    return check_record(content, str(path))


def read_records(
    runs: Iterable[str | Path], with_defaults: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> list[Record]:
    """Read records of several ages, so that their recipes can be compared.

    Args:
        runs: as for `read_record`.
        with_defaults: gives a recipe settings that are younger than the record.

    Raises:
        CheckpointError: as `read_record` does.
    """
    records = [read_record(run) for run in runs]
    return [r.model_copy(update={"recipe": with_defaults(r.recipe)}) for r in records]


def record_path(run: str | Path) -> Path:
    """Where the record of a run lies, given the run's folder or the record file itself."""
    path = Path(run)
    return path if path.suffix == ".json" else path / FILE


def check_record(content: object, source: str) -> Record:
    """Return the parsed JSON of a record as a `Record`; `source` names it in errors.

    Raises:
        CheckpointError: a key is missing or has a value of the wrong kind.
    """
    try:
        return Record.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the record"
        raise CheckpointError(
            f"{source}: not a run record of format 1 ({place}: {first['msg']}); {_REMEDY}"
        ) from None


def group_by_recipe(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Gather runs that differ in nothing but the seed, under the recipe's name, in given order.

    Runs of one name whose settings or data differ stay apart, as "name", "name (2)" and so on;
    that one was trained on a GPU and another was not is no such difference.
    """
    groups: dict[str, list[Record]] = {}
    labels: dict[str, str] = {}
    for record in records:
        training = dict(record.recipe.get("training", {}))
        training.pop("accelerator", None)
        recipe = {**record.recipe, "training": training}
        settings = json.dumps([record.name, recipe, record.data.name], sort_keys=True)
        if settings not in labels:
            labels[settings] = _free_label(record.name, groups)
        groups.setdefault(labels[settings], []).append(record)
    return groups


def _free_label(name: str, taken: Mapping[str, object]) -> str:
    label, number = name, 1
    while label in taken:
        number += 1
        label = f"{name} ({number})"
    return label
