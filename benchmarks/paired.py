"""How sure one captioner is ahead of another: CIDEr-D of both for the same photographs.

    python benchmarks/paired.py runs/hlstm-seed0 runs/hlstm-seed1 --beside runs/lstm-seed0 \
        --data FLICKR8K --features TABLE

Runs before `--beside` are seeds of one captioner, those after it of another. A photograph's
difference is that of the mean scores of either; intervals hold 95% of the mean differences of as
many photographs drawn with replacement (percentile bootstrap, scipy.stats). They tell what other
photographs would have changed, not what other seeds would have.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap
from tables import markdown

from growprune.data import open_captions, open_features
from growprune.files import write_text
from growprune.metrics.captions import CiderD
from growprune.tasks.captioning import Captioner

RESAMPLES = 10_000


def main() -> None:
    args = parse_arguments()
    table = open_features(args.features)
    sets = ([*args.runs], [*args.beside])
    rows = [("split", "photographs", *(label(runs) for runs in sets), "difference", "95%")]
    for split in args.splits:
        images = open_captions(args.data).split(split)
        features = table.rows([image.name for image in images])
        reward = CiderD([image.captions for image in images])
        ours, theirs = (
            [
                reward.scores(sentences(run, features, args.beam, args.length_penalty))
                for run in runs
            ]
            for runs in sets
        )
        mean, low, high = interval(ours, theirs)
        rows.append(
            (
                split,
                f"{len(images)}",
                *(f"{100 * statistics.mean(map(np.mean, of)):.1f}" for of in (ours, theirs)),
                f"{100 * mean:+.1f}",
                f"{100 * low:+.1f} to {100 * high:+.1f}",
            )
        )
    print(page := markdown(rows))
    if args.out:
        write_text(args.out, page + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of one captioner's runs")
    parser.add_argument("--beside", nargs="+", type=Path, required=True, help="of the other's")
    parser.add_argument("--data", type=Path, required=True, help="the corpus")
    parser.add_argument("--features", type=Path, required=True, help="of its images")
    parser.add_argument("--splits", nargs="+", default=["dev", "test"])
    parser.add_argument("--beam", type=int, default=3, help="hypotheses kept")
    parser.add_argument("--length-penalty", type=float, default=0.0)
    parser.add_argument("--out", type=Path, help="also write the table here")
    return parser.parse_args()


def sentences(run: Path, features: np.ndarray, beam: int, length_penalty: float) -> list[str]:
    """What a run says of every photograph."""
    captions = Captioner.from_run(run).caption(features, beam=beam, length_penalty=length_penalty)
    return [caption.text for caption in captions]


def interval(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]
) -> tuple[float, float, float]:
    """Mean difference of two captioners, and the bounds of its interval.

    Args:
        ours: scores of every run, an array `(photographs,)` each.
        theirs: likewise, of the same photographs.
    """
    differences = np.mean(ours, axis=0) - np.mean(theirs, axis=0)
    found = bootstrap(
        (differences,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=0
    ).confidence_interval
    return float(differences.mean()), float(found.low), float(found.high)


def label(runs: Sequence[Path]) -> str:
    """Recipe and seeds, as the runs' records have them."""
    records = [json.loads((run / "record.json").read_text()) for run in runs]
    seeds = ", ".join(str(record["seed"]) for record in records)
    return f"{' and '.join(dict.fromkeys(r['name'] for r in records))}, seed {seeds}"


if __name__ == "__main__":
    main()
