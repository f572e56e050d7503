"""Captioners in `growprune evaluate`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from growprune.cli.models import (
    AnyCaptioner,
    enter,
    is_other_corpus,
    remembered,
    torch_on_one_thread,
)
from growprune.data import open_captions, open_features
from growprune.pipelines import (
    Captioner,
    CaptionEvaluation,
    evaluate_captions,
    measure_caption_latency,
    split_features,
)

_TIMED, _COUNTED = 30, 200
"""Images that latency is measured on, and that zeros are counted on."""


@dataclass(frozen=True)
class Search:
    """How captions are searched for."""

    beam: int
    length_penalty: float

    @property
    def suffix(self) -> str:
        """What a score's name in the record says of it: nothing for greedy."""
        if self.beam == 1:
            return ""
        penalty = f", length penalty {self.length_penalty:g}" if self.length_penalty else ""
        return f"/beam {self.beam}{penalty}"


def evaluate_captioners(
    captioners: Mapping[Path, AnyCaptioner],
    data: Path | None,
    features: Path | None,
    splits: Sequence[str],
    search: Search,
    show: int,
    console: Console,
) -> None:
    """Score splits, measure latency, count zeros; see `growprune evaluate`.

    A run's latency and zeros are those on the corpus that it learnt from; on another one it is only
    scored.
    """
    timed: dict[Path, np.ndarray] = {}
    for path, captioner in captioners.items():
        corpus = open_captions(data or remembered(path, "data"))
        table = open_features(features or remembered(path, "features"))
        other = is_other_corpus(path, corpus.name)
        found = {}
        for name in splits:
            with console.status(f"captioning {name} with {path}"):
                found[name] = evaluate_captions(
                    captioner,
                    corpus,
                    table,
                    name,
                    beam=search.beam,
                    length_penalty=search.length_penalty,
                )
        place = f"{corpus.name}: " if other else ""
        scores = {place + name + search.suffix: row.scores for name, row in found.items()}
        enter(path, scores=scores)
        _show(console, path, found, show)
        if other:
            continue
        if not isinstance(captioner, Captioner):
            from growprune.tasks.captioning import measured_flops

            rows = split_features(captioner, corpus, table, splits[-1], _COUNTED)
            enter(path, flops_per_caption=measured_flops(captioner, rows))
        timed[path] = split_features(captioner, corpus, table, splits[-1], _TIMED)
    if timed:
        _time({path: captioners[path] for path in timed}, timed, console)


def _time(
    captioners: Mapping[Path, AnyCaptioner], features: Mapping[Path, np.ndarray], console: Console
) -> None:
    """Enter latencies, measured by turns on as many images `(images, width)` of each."""
    images = min(map(len, features.values()))
    with console.status("measuring latency"), torch_on_one_thread(captioners.values()):
        latencies = measure_caption_latency(
            list(captioners.values()), [features[path][:images] for path in captioners]
        )
    for path, latency in zip(captioners, latencies, strict=True):
        enter(path, latency=latency)
        console.print(
            f"{path}: {latency['milliseconds']:.2f} ms per caption, "
            f"{latency['milliseconds_beam_3']:.2f} ms with a beam of 3 ({latency['engine']})",
            highlight=False,
            soft_wrap=True,
        )


def _show(console: Console, model: Path, found: Mapping[str, CaptionEvaluation], show: int) -> None:
    table = Table(title=str(model))
    bleus = [f"BLEU-{order}" for order in range(1, 5)]
    for heading in ("split", "images", *bleus, "ROUGE-L", "CIDEr-D"):
        table.add_column(heading, justify="right")
    for name, row in found.items():
        scores = (f"{score:.3f}" for score in row.scores.values())
        table.add_row(name, str(len(row.captions)), *scores)
    console.print(table)
    written = [caption for row in found.values() for caption in row.captions]
    for caption in written[:show]:
        console.print(f"  {caption.image.name}", highlight=False, markup=False)
        console.print(f"    written   {caption.text}", highlight=False, markup=False)
        console.print(f"    by people {caption.image.captions[0]}\n", highlight=False, markup=False)
