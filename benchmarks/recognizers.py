"""Compute time of whole recognisers: packed, in torch, and a dense one in onnxruntime."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from growprune.bench.engines import onnxruntime_session
from growprune.bench.onnx_network import network
from growprune.data import extract, load_audio, open_corpus
from growprune.metrics import Seconds, by_turns
from growprune.pipelines import Recognizer
from growprune.tasks import pack_run, speech

Hear = Callable[[np.ndarray], object]


@dataclass(frozen=True)
class Speed:
    """One recogniser.

    Attributes:
        name: run and engine.
        network: seconds of compute per second of speech, the network alone.
        whole: the same with features and decoding.
    """

    name: str
    network: Seconds
    whole: Seconds

    def record(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return asdict(self)


def measure_recognizers(runs: list[Path], data: Path, utterances: int, rounds: int) -> list[Speed]:
    """Every run packed, packed as int8, in torch, and (with its zeros) in onnxruntime.

    Args:
        runs: folders of finished runs; none give nothing.
        data: the corpus; its dev split is heard.
        utterances: how many.
        rounds: how often each recogniser hears them all.
    """
    if not runs:
        return []
    rows = open_corpus(data).split("dev")[:utterances]
    networks: dict[str, Hear] = {}
    wholes: dict[str, Hear] = {}
    rate = 16_000
    for run in runs:
        trained = speech.Recognizer.from_run(run)
        rate = trained.sample_rate
        _add(networks, wholes, f"{run.name}, torch", trained, _torch(trained))
        for weights in ("float32", "int8"):
            packed = pack_run(run, layout="auto", weights=weights)
            recognizer = Recognizer(packed.model())
            name = f"{run.name}, packed" + (" as int8" if weights == "int8" else "")
            _add(networks, wholes, name, recognizer, _ours(recognizer))
            if weights == "float32":
                session = onnxruntime_session(network(packed.contents))
                run_session = partial(_onnxruntime, session)
                _add(networks, wholes, f"{run.name}, onnxruntime", recognizer, run_session)
    waves = [load_audio(row.audio, rate) for row in rows]
    seconds = sum(map(len, waves)) / rate
    settings = trained.recipe.data.features
    features = [extract(wave, settings) for wave in waves]
    network_times = by_turns(
        {name: partial(_each, hear, features) for name, hear in networks.items()}, rounds=rounds
    )
    whole_times = by_turns(
        {name: partial(_each, hear, waves) for name, hear in wholes.items()}, rounds=rounds
    )
    found = []
    for name in networks:
        alone, whole = (_per_second(t[name], seconds) for t in (network_times, whole_times))
        found.append(Speed(name, alone, whole))
    return found


def _add(
    networks: dict[str, Hear], wholes: dict[str, Hear], name: str, recognizer: Any, run: Hear
) -> None:
    """Enter a recogniser whose network is `run`, from features `(time, bands)` to scores."""
    settings = (
        recognizer.speech.features
        if isinstance(recognizer, Recognizer)
        else recognizer.recipe.data.features
    )
    networks[name] = run
    wholes[name] = lambda wave: recognizer.decode(run(extract(wave, settings)))


def _ours(recognizer: Recognizer) -> Hear:
    return lambda features: recognizer.model.run(features[None])[0][0]


def _torch(recognizer: speech.Recognizer) -> Hear:
    import torch

    def run(features: np.ndarray) -> np.ndarray:
        lengths = torch.tensor([len(features)])
        return recognizer.model(torch.from_numpy(features)[None], lengths)[0][0].numpy()

    return run


def _onnxruntime(session: Any, features: np.ndarray) -> np.ndarray:
    return session.run(None, {"input": features[None]})[0][0]


def _each(hear: Hear, inputs: list[np.ndarray]) -> None:
    for array in inputs:
        hear(array)


def _per_second(found: Seconds, seconds: float) -> Seconds:
    return Seconds(found.median / seconds, found.low / seconds, found.high / seconds)
