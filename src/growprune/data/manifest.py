"""Utterances and the JSON-lines manifests that list them.

One JSON object a line, with the keys NeMo and deepspeech.pytorch use: `audio_filepath` (absolute or
relative to the manifest's folder), `text`, `duration` in seconds; optional are `duration`, `id`
and `speaker`. Other keys are left alone.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from growprune.errors import DataError
from growprune.files import write_text


@dataclass(frozen=True)
class Utterance:
    """A recording and what is said in it.

    Attributes:
        id: Name unique in its split.
        audio: The audio file.
        text: The transcript.
        duration: Length in seconds, where known.
        speaker: Who speaks, where known.
    """

    id: str
    audio: Path
    text: str
    duration: float | None = None
    speaker: str | None = None


@dataclass(frozen=True)
class Corpus:
    """Named splits (`train`, `dev`, `test`) of utterances."""

    name: str
    splits: Mapping[str, tuple[Utterance, ...]]

    def split(self, name: str) -> tuple[Utterance, ...]:
        """The utterances of one split.

        Raises:
            DataError: the corpus has no such split.
        """
        if name not in self.splits:
            raise DataError(
                f"corpus {self.name} has no {name} split, only {', '.join(self.splits)}; "
                f"add a {name}.jsonl to its folder"
            )
        return self.splits[name]


def read_manifest(path: str | Path) -> tuple[Utterance, ...]:
    """Read a JSON-lines manifest; blank lines are skipped.

    Raises:
        DataError: naming the file and line that cannot be used, and why.
    """
    path = Path(path)
    utterances = tuple(
        _utterance(line, path, f"{path}:{number}")
        for number, line in enumerate(_lines(path), start=1)
        if line.strip()
    )
    if not utterances:
        raise DataError(f"{path}: lists no utterance; write one JSON object per line")
    return utterances


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest, audio paths relative where the audio lies below the manifest's folder."""
    path = Path(path)
    lines = [json.dumps(_entry(utterance, path.parent.resolve())) for utterance in utterances]
    write_text(path, "".join(f"{line}\n" for line in lines))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check the path, or make the manifest with "
            "`growprune data prepare`"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text; save the manifest as UTF-8") from error


def _utterance(line: str, manifest: Path, place: str) -> Utterance:
    entry = _parse(line, place)
    if entry.get("offset"):
        raise DataError(
            f"{place}: offset is {entry['offset']!r}, but recordings are read whole; cut this one "
            "into one file per utterance"
        )
    name = _text(entry, "audio_filepath", place)
    audio = manifest.parent / name
    if not audio.is_file():
        raise DataError(f"{place}: no audio file {audio}; correct audio_filepath or drop the line")
    return Utterance(
        id=str(entry.get("id", Path(name).with_suffix(""))),
        audio=audio,
        text=_text(entry, "text", place),
        duration=_duration(entry, place),
        speaker=None if entry.get("speaker") is None else str(entry["speaker"]),
    )


def _parse(line: str, place: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{place}: not JSON ({error.msg}); a line is one object such as "
            '{"audio_filepath": "a.wav", "text": "HELLO"}'
        ) from error
    if not isinstance(entry, dict):
        raise DataError(f"{place}: a JSON {type(entry).__name__}; each line must be an object")
    return entry


def _text(entry: dict[str, Any], key: str, place: str) -> str:
    if key not in entry:
        raise DataError(f"{place}: has no {key!r}; its keys are {', '.join(entry) or 'none'}")
    value = entry[key]
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: {key!r} is {value!r}; it must be text and not empty")
    return value


def _duration(entry: dict[str, Any], place: str) -> float | None:
    value = entry.get("duration")
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise DataError(f"{place}: duration is {value!r}; it must be seconds above 0")
    return float(value)


def _entry(utterance: Utterance, folder: Path) -> dict[str, str | float]:
    audio = utterance.audio.resolve()
    name = audio.relative_to(folder) if audio.is_relative_to(folder) else audio
    entry: dict[str, str | float] = {"audio_filepath": name.as_posix(), "text": utterance.text}
    if utterance.duration is not None:
        entry["duration"] = utterance.duration
    entry["id"] = utterance.id
    if utterance.speaker is not None:
        entry["speaker"] = utterance.speaker
    return entry
