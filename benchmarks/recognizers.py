"""Compute time of whole recognisers: packed, in torch, and (with their zeros) in onnxruntime."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from growprune.bench.engines import onnxruntime_session
from growprune.bench.onnx_network import network
from growprune.data import extract, load_audio, open_corpus
from growprune.export import Packed
from growprune.metrics import Seconds, by_turns
from growprune.tasks import speech
from growprune.tasks.speech.packing import pack_model
from growprune.tasks.speech.task import build_model
from growprune.training import read_table, validate

Hear = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Speed:
    """One recogniser.

    Attributes:
        name: model and engine.
        network: seconds of compute per second of speech, the network alone.
        whole: the same with features and decoding.
    """

    name: str
    network: Seconds
    whole: Seconds

    def record(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Contender:
    """A recogniser on one engine.

    Attributes:
        name: model and engine.
        recognizer: makes the features and decodes.
        hear: from features `(time, bands)` to log-probabilities.
    """

    name: str
    recognizer: speech.Recognizer
    hear: Hear

    def features(self, wave: np.ndarray) -> np.ndarray:
        """`(time, bands)`."""
        return extract(wave, self.recognizer.recipe.data.features)

    def transcribe(self, wave: np.ndarray) -> object:
        """All of it."""
        return self.recognizer.decode(self.hear(self.features(wave)))


def measure_recognizers(
    runs: list[Path], untrained: list[str], data: Path, utterances: int, rounds: int
) -> list[Speed]:
    """Every recogniser in torch and in onnxruntime, and runs packed, too, in float32 and int8.

    Args:
        runs: folders of finished runs.
        untrained: recipes of dense networks, whose weights stay as they are drawn: how long a
            dense network takes does not depend on them.
        data: the corpus; its dev split is heard.
        utterances: how many.
        rounds: how often each recogniser hears them all.
    """
    contenders = [found for run in runs for found in _trained(run)]
    contenders += [found for recipe in untrained for found in _untrained(recipe)]
    if not contenders:
        return []
    rate = contenders[0].recognizer.sample_rate
    rows = open_corpus(data).split("dev")[:utterances]
    waves = [load_audio(row.audio, rate) for row in rows]
    networks = {c.name: partial(_each, c.hear, list(map(c.features, waves))) for c in contenders}
    wholes = {c.name: partial(_each, c.transcribe, waves) for c in contenders}
    network_times = by_turns(networks, rounds=rounds)
    whole_times = by_turns(wholes, rounds=rounds)
    seconds = sum(map(len, waves)) / rate
    return [
        Speed(c.name, *(_per_second(t[c.name], seconds) for t in (network_times, whole_times)))
        for c in contenders
    ]


def _trained(run: Path) -> Iterator[Contender]:
    recognizer = speech.Recognizer.from_run(run)
    yield from _on_peers(run.name, recognizer)
    for weights, kind in (("float32", "packed"), ("int8", "packed as int8")):
        model = _pack(recognizer, weights).model()
        hear = partial(lambda model, features: model.run(features[None])[0][0], model)
        yield Contender(f"{run.name}, {kind}", recognizer, hear)


def _untrained(name: str) -> Iterator[Contender]:
    recipe = validate(speech.SpeechRecipe, read_table(name), name)
    recognizer = speech.Recognizer(build_model(recipe), recipe)
    yield from _on_peers(f"{recipe.name} (untrained)", recognizer)


def _on_peers(name: str, recognizer: speech.Recognizer) -> Iterator[Contender]:
    yield Contender(f"{name}, torch", recognizer, partial(_torch, recognizer))
    session = onnxruntime_session(network(_pack(recognizer, "float32").contents))
    yield Contender(f"{name}, onnxruntime", recognizer, partial(_onnxruntime, session))


def _pack(recognizer: speech.Recognizer, weights: str) -> Packed:
    columns = recognizer.recipe.data.features.columns
    return pack_model(recognizer.model, columns, recognizer.masks, weights=weights)


def _torch(recognizer: speech.Recognizer, features: np.ndarray) -> np.ndarray:
    lengths = torch.tensor([len(features)])
    with torch.inference_mode():
        return recognizer.model(torch.from_numpy(features)[None], lengths)[0][0].numpy()


def _onnxruntime(session: Any, features: np.ndarray) -> np.ndarray:
    return session.run(None, {"input": features[None]})[0][0]


def _each(hear: Callable[[np.ndarray], object], inputs: list[np.ndarray]) -> None:
    for array in inputs:
        hear(array)


def _per_second(found: Seconds, seconds: float) -> Seconds:
    return Seconds(found.median / seconds, found.low / seconds, found.high / seconds)
