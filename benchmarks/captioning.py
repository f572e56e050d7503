"""Time to write a caption: packed captioners beside torch and onnxruntime, on one thread.

    python benchmarks/captioning.py RUN... --data FLICKR8K --features TABLE --out FOLDER

All engines write for the same images of the dev split, one at a time and by turns in this process,
greedily and with a beam of 3, from features to text. onnxruntime has its own LSTM operator where
the run has ordinary LSTMs. Before anything is timed, all captions are compared. The figures are
also entered in the runs' records, as `latencies`, which `growprune report` tells. Memory is what a
process that loads a packed captioner and writes the same captions holds at most, beyond one that
only imports what that takes.
"""

# ruff: noqa: E402 (NumPy and torch read the environment when they are imported)
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, write_figures

from growprune.bench.engines import one_thread, onnxruntime_session
from growprune.bench.onnx_network import step
from growprune.data import open_captions, open_features
from growprune.decoding import Caption, Writer
from growprune.export import Packed
from growprune.files import write_text
from growprune.pipelines import Captioner, CaptionWriter, measure_caption_latency
from growprune.tasks import captioning, pack_run
from growprune.training import read_record, write_record

State = Mapping[str, np.ndarray]

# `getrusage` would count what this process held when it started the program.
_PROGRAM = """
import sys
import numpy as np
from growprune.pipelines import Captioner
rows = np.load(sys.argv[1])
for file in sys.argv[2:]:
    captioner = Captioner.load(file)
    for row in rows:
        captioner.caption(row[None])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(status["VmHWM"].split()[0])
"""


class OnnxCaptioner:
    """A packed captioner whose decoder onnxruntime steps; its zeros are filled in."""

    engine = "onnxruntime"

    def __init__(self, packed: Packed, captioner: Captioner) -> None:
        model, carried = step(packed.contents)
        self._session = onnxruntime_session(model)
        self._captioner = captioner
        self._first = {f"{name}/{part}": size for name, size in carried.items() for part in "hc"}
        output = packed.contents.parts.get("output")
        self._output = output and onnxruntime_session(step(output)[0])

    @property
    def width(self) -> int:
        """Features of an image."""
        return self._captioner.width

    def caption(
        self, features: np.ndarray, *, beam: int = 3, length_penalty: float = 0.0
    ) -> list[Caption]:
        """Captions of images `(images, width)`."""
        longest = self._captioner.model.info["longest"]
        writer = Writer(beam, longest, length_penalty)
        return writer.captions(self, features, self._captioner.vocabulary.decode)

    def begin(self, features: np.ndarray) -> tuple[np.ndarray, State]:
        """See `growprune.decoding.Language`, and so for the others."""
        x, begun = self._captioner.first(features)
        if begun is None:
            begun = [np.zeros((len(x), size), np.float32) for size in self._first.values()]
        state = dict(zip(self._first, begun, strict=True))
        if self._output:
            state["merged"] = self._captioner.model.parts["merge"].step(features)[0]
        return self._advance(x, state)

    def step(self, words: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """The next word's log-probabilities."""
        return self._advance(self._captioner.model.parts["words"].step(words)[0], state)

    def select(self, state: State, rows: np.ndarray) -> State:
        """The state of these rows."""
        return {name: part[rows] for name, part in state.items()}

    def _advance(self, x: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        carried = {name: state[name] for name in self._first}
        y, *found = self._session.run(None, {"input": x, **carried})
        following = dict(zip(self._first, found, strict=True))
        if not self._output:
            return y, following
        (scores,) = self._output.run(None, {"input": y + state["merged"]})
        return scores, {**following, "merged": state["merged"]}


def main() -> None:
    args = parse_arguments()
    images = open_captions(args.data).split("dev")[: args.images]
    features = open_features(args.features).rows([image.name for image in images])
    captioners: dict[tuple[str, str], CaptionWriter] = {}
    sizes: dict[tuple[str, str], dict[str, float]] = {}
    for run in args.runs:
        for engine, (captioner, size) in engines(run, features).items():
            captioners[run.name, engine], sizes[run.name, engine] = captioner, size
    with one_thread():
        same = compare(captioners, features)
        found = measure_caption_latency(list(captioners.values()), [features] * len(captioners))
    rows = [
        {"run": run, "engine": engine, **sizes[run, engine], "same": same[run, engine]}
        | {key: value for key, value in latency.items() if key.startswith("milliseconds")}
        for (run, engine), latency in zip(captioners, found, strict=True)
    ]
    for run in args.runs:
        enter(
            run,
            {key[1]: row for key, row in zip(captioners, found, strict=True) if key[0] == run.name},
        )
    write_figures(args.out / "latency.json", 1, rows)
    write_text(args.out / "latency.md", table(rows, len(images)))
    print(table(rows, len(images)))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders; the first is compared with")
    parser.add_argument("--data", type=Path, required=True, help="the corpus")
    parser.add_argument("--features", type=Path, required=True, help="of its images")
    parser.add_argument("--images", type=int, default=50, help="of the dev split")
    parser.add_argument("--out", type=Path, default=Path("results/flickr8k"))
    return parser.parse_args()


def engines(run: Path, features: np.ndarray) -> dict[str, tuple[CaptionWriter, dict[str, float]]]:
    """A run's captioner in every engine, with its file's bytes and, packed, its memory's."""
    whole = {"bytes": (run / "weights.safetensors").stat().st_size}
    found: dict[str, tuple[CaptionWriter, dict[str, float]]] = {
        "torch": (captioning.Captioner.from_run(run), whole)
    }
    for kind, engine in (("float32", "packed"), ("int8", "packed, int8")):
        packed = pack_run(run, layout="auto", weights=kind)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.safetensors"
            packed.save(file)
            captioner = Captioner.load(file)
            size = {"bytes": file.stat().st_size, "memory": memory(file, features)}
            found[engine] = (captioner, size)
        if kind == "float32":
            found["onnxruntime"] = (OnnxCaptioner(packed, captioner), whole)
    return found


def memory(file: Path, features: np.ndarray) -> float:
    """Bytes that writing captions of `(images, width)` with a packed captioner takes at most."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.npy"
        np.save(rows, features)
        alone, loaded = (_peak(rows, *files) for files in ((), (file,)))
    return loaded - alone


def _peak(*arguments: Path) -> float:
    """Bytes that the program held at most."""
    command = [sys.executable, "-c", _PROGRAM, *map(str, arguments)]
    return 1024 * float(subprocess.run(command, check=True, capture_output=True).stdout)


def compare(
    captioners: Mapping[tuple[str, str], CaptionWriter], features: np.ndarray
) -> dict[tuple[str, str], float]:
    """The share of greedy captions that are those of torch."""
    texts = {
        key: [caption.text for caption in captioner.caption(features, beam=1)]
        for key, captioner in captioners.items()
    }
    return {
        (run, engine): float(np.mean(np.array(written) == np.array(texts[run, "torch"])))
        for (run, engine), written in texts.items()
    }


def enter(run: Path, latencies: Mapping[str, dict[str, Any]]) -> None:
    """Put a run's latencies, by engine, into its record."""
    write_record(run, read_record(run) | {"latencies": dict(latencies)})


def table(rows: Sequence[dict[str, Any]], images: int) -> str:
    """Times and their ratios to the first run's in onnxruntime, as Markdown."""
    first = next(row for row in rows if row["engine"] == "onnxruntime")
    lines = [
        "| run | engine | file, MB | memory, MB | greedy, ms | factor | beam 3, ms | factor "
        "| same as torch |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        greedy, beam = (row[key] for key in ("milliseconds", "milliseconds_beam_3"))
        ratios = (first["milliseconds"] / greedy, first["milliseconds_beam_3"] / beam)
        held = f"{row['memory'] / 1e6:.1f}" if "memory" in row else ""
        lines.append(
            f"| {row['run']} | {row['engine']} | {row['bytes'] / 1e6:.1f} | {held} "
            f"| {greedy:.2f} | {ratios[0]:.1f} | {beam:.2f} | {ratios[1]:.1f} "
            f"| {row['same']:.0%} |"
        )
    notes = (
        f"\nMedians over {images} images of the dev split, one at a time, from features to text; "
        f"{describe(1)}. Factor: {first['run']} in onnxruntime takes so many times as long."
    )
    return "\n".join(lines) + "\n" + notes + "\n"


if __name__ == "__main__":
    main()
