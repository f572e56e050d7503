"""What commands name: a packed model, or the folder of a run; only the latter loads torch."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, Union

from growprune import runtime
from growprune.errors import DataError
from growprune.pipelines import Captioner, Recognizer

if TYPE_CHECKING:
    from growprune.tasks import captioning, speech

AnyRecognizer: TypeAlias = Union[Recognizer, "speech.Recognizer"]
AnyCaptioner: TypeAlias = Union[Captioner, "captioning.Captioner"]


def open_model(path: Path) -> AnyRecognizer | AnyCaptioner:
    """A recogniser or captioner, as the file or the run says.

    Raises:
        ModelFileError: the file is missing, damaged, or of neither task.
        CheckpointError: the folder is not a finished run's.
    """
    if path.is_dir():
        from growprune.tasks import open_run

        return open_run(path)
    model = runtime.load(path)
    kind = Captioner if model.info.get("task") == "captioning" else Recognizer
    return kind(model, path)


def open_recognizer(path: Path) -> AnyRecognizer:
    """A packed file's recogniser, or a run's.

    Raises:
        ModelFileError: the file is missing, damaged or not a recogniser's.
        CheckpointError: the folder is not a finished run's.
    """
    if not path.is_dir():
        return Recognizer.load(path)
    from growprune.tasks import speech

    return speech.Recognizer.from_run(path)


def open_captioner(path: Path) -> AnyCaptioner:
    """A packed file's captioner, or a run's.

    Raises:
        ModelFileError: the file is missing, damaged or not a captioner's.
        CheckpointError: the folder is not a finished run's.
    """
    if not path.is_dir():
        return Captioner.load(path)
    from growprune.tasks import captioning

    return captioning.Captioner.from_run(path)


def is_captioner(model: AnyRecognizer | AnyCaptioner) -> TypeGuard[AnyCaptioner]:
    """Whether a model writes captions."""
    return hasattr(model, "caption")


def is_recognizer(model: AnyRecognizer | AnyCaptioner) -> TypeGuard[AnyRecognizer]:
    """Whether a model writes transcripts."""
    return hasattr(model, "transcribe")


_REMEMBERED = {
    "data": "corpus; name one with --data",
    "features": "features; name them with --features",
}


def remembered(model: Path, key: str) -> Path:
    """Where a run's `data` or `features` lie.

    Raises:
        DataError: a packed model, which does not know, or a run that does not.
        CheckpointError: the folder is not a run's.
    """
    if not model.is_dir():
        raise DataError(f"{model}: a packed model does not know its {_REMEMBERED[key]}")
    from growprune.training import load_local

    if key not in (found := load_local(model)):
        raise DataError(f"{model}: the run does not know its {_REMEMBERED[key]}")
    return Path(found[key])


def is_other_corpus(model: Path, name: str) -> bool:
    """Whether a run learnt from another corpus than the one of this name; packed models never did.

    Raises:
        CheckpointError: the folder is not a finished run's.
    """
    if not model.is_dir():
        return False
    from growprune.training import read_record

    return bool(read_record(model)["data"]["name"] != name)


def torch_on_one_thread(
    models: Iterable[AnyRecognizer | AnyCaptioner],
) -> AbstractContextManager[None]:
    """A block in which torch computes on one thread, if any model uses it."""
    if all(isinstance(model, Captioner | Recognizer) for model in models):
        return nullcontext()
    from growprune.bench.engines import one_thread

    return one_thread()


def enter(
    model: Path,
    *,
    scores: Mapping[str, Mapping[str, float]] | None = None,
    latency: Mapping[str, Any] | None = None,
    flops_per_caption: Mapping[str, float] | None = None,
) -> None:
    """Write figures into a run's record; a packed model has none."""
    if not model.is_dir():
        return
    from growprune.training import read_record, write_record

    record = read_record(model)
    record["scores"] |= scores or {}
    if latency is not None:
        record["latency"] = latency
    if flops_per_caption is not None:
        record["cost"]["flops_per_caption"] |= flops_per_caption
    write_record(model, record)
