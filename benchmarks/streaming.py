"""How long a packed recogniser that streams takes for each piece of audio, on one thread.

    python benchmarks/streaming.py model.safetensors --data ../an4 --out results/an4

Every utterance of the dev split is heard in pieces of 100 ms, as a microphone gives them, from the
samples to the text so far. The longest piece decides whether text keeps up with speech. Before
anything is timed, every final text is compared with that of the whole file at once.
"""

# ruff: noqa: E402 (NumPy reads the environment when it is imported)
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, write_figures

from growprune.data import load_audio, open_corpus
from growprune.files import write_text
from growprune.pipelines import Recognizer


def main() -> None:
    args = parse_arguments()
    recognizer = Recognizer.load(args.model)
    rate = recognizer.sample_rate
    waves = [load_audio(row.audio, rate) for row in open_corpus(args.data).split("dev")]
    size = round(args.milliseconds / 1000 * rate)
    for wave in waves:
        whole = recognizer.decode(recognizer.log_probs(wave)).text
        text, _ = hear(recognizer, wave, size)
        if text != whole:
            raise SystemExit(f"heard in pieces {text!r}, at once {whole!r}")
    seconds = [taken for wave in waves for taken in hear(recognizer, wave, size)[1]]
    row = {
        "model": args.model.name,
        "data": f"{len(waves)} utterances of {args.data.name}'s dev split",
        "piece_milliseconds": args.milliseconds,
        "pieces": len(seconds),
        "median_milliseconds": 1e3 * float(np.median(seconds)),
        "percentile_99_milliseconds": 1e3 * float(np.percentile(seconds, 99)),
        "longest_milliseconds": 1e3 * max(seconds),
        "real_time_factor": sum(seconds) * rate / sum(map(len, waves)),
    }
    text = report(row)
    if args.out:
        write_figures(args.out / "streaming.json", 1, [row])
        write_text(args.out / "streaming.md", text)
    print(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a packed file")
    parser.add_argument("--data", type=Path, required=True, help="its corpus")
    parser.add_argument("--milliseconds", type=float, default=100, help="of audio in a piece")
    parser.add_argument("--out", type=Path, help="a folder for streaming.json and streaming.md")
    return parser.parse_args()


def hear(recognizer: Recognizer, wave: np.ndarray, size: int) -> tuple[str, list[float]]:
    """The final text, and the seconds each piece of `size` samples and the end took."""
    stream = recognizer.stream()
    seconds = []
    clock = time.perf_counter()
    for start in range(0, len(wave), size):
        stream.push(wave[start : start + size])
        seconds.append(time.perf_counter() - clock)
        clock = time.perf_counter()
    text = stream.finish().text
    seconds.append(time.perf_counter() - clock)
    return text, seconds


def report(row: dict[str, Any]) -> str:
    """The figures in a table, as Markdown."""
    return (
        f"# Streaming\n\n{describe(1)}. Written by `benchmarks/streaming.py`.\n\n"
        f"{row['model']}, {row['data']} in {row['pieces']} pieces of "
        f"{row['piece_milliseconds']:g} ms:\n\n"
        "| median | 99 of 100 below | longest | seconds per second of speech |\n"
        "| ---: | ---: | ---: | ---: |\n"
        f"| {row['median_milliseconds']:.2f} ms | {row['percentile_99_milliseconds']:.2f} ms "
        f"| {row['longest_milliseconds']:.2f} ms | {row['real_time_factor']:.4f} |\n"
    )


if __name__ == "__main__":
    main()
