"""Time of scoring captions, beside the reference implementation.

Each image's candidate is the first caption of the image before it; a corpus with fewer images than
asked for is gone through again. Texts are split into tokens before, for both. Where
`pycocoevalcap` is installed, its scorers run in the same process, in turns with ours, and the
largest difference of the scores is printed as well. Figures are medians.

    python benchmarks/caption_scores.py ../shared/data/flickr8k
"""

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from machine import describe, write_figures

from growprune.data import open_captions
from growprune.metrics.captions import bleu, cider_d, rouge_l, tokenize

Texts = list[str]
Scorer = Callable[[list[Texts], Texts], float]


def main() -> None:
    args = parse_arguments()
    references, candidates = sentences(args)
    print(describe(1))
    print(f"{args.images} images with {len(references[0])} references each")
    rows = measure(references, candidates, args.repeats)
    for row in rows:
        print(f"{row['score']:10}{row['seconds']:8.2f} s", end="")
        if "peer_seconds" in row:
            print(
                f"{row['peer_seconds']:8.2f} s of pycocoevalcap, {row['ratio']:.1f} times as long; "
                f"scores differ by {row['difference']:.0e} at most",
                end="",
            )
        print()
    if args.json:
        write_figures(args.json, 1, rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="images with as many captions each")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


def sentences(args: argparse.Namespace) -> tuple[list[Texts], Texts]:
    """References of each image, and the candidates: captions of the images before them."""
    images = open_captions(args.corpus).split("all")
    texts = [[" ".join(tokenize(text)) for text in image.captions] for image in images]
    references = list(islice(cycle(texts), args.images))
    return references, [captions[0] for captions in islice(cycle(texts[-1:] + texts), args.images)]


def measure(
    references: list[Texts], candidates: Texts, repeats: int
) -> list[dict[str, float | str]]:
    """Seconds of every score, ours and the peer's."""
    ours: dict[str, Scorer] = {
        "BLEU": lambda r, c: bleu(r, c, str.split)[3],
        "ROUGE-L": lambda r, c: rouge_l(r, c, str.split),
        "CIDEr-D": lambda r, c: cider_d(r, c, str.split),
    }
    theirs = peers() if find_spec("pycocoevalcap") else {}
    rows: list[dict[str, float | str]] = []
    for name in ours:
        runners = [ours[name], *([theirs[name]] if theirs else [])]
        timed = [
            [run(scorer, references, candidates) for scorer in runners] for _ in range(repeats)
        ]
        seconds = [statistics.median(times[i][0] for times in timed) for i in range(len(runners))]
        row: dict[str, float | str] = {"score": name, "seconds": seconds[0]}
        if theirs:
            row |= {
                "peer_seconds": seconds[1],
                "ratio": seconds[1] / seconds[0],
                "difference": abs(timed[0][0][1] - timed[0][1][1]),
            }
        rows.append(row)
    return rows


def run(scorer: Scorer, references: list[Texts], candidates: Texts) -> tuple[float, float]:
    """Seconds, and the score."""
    start = time.perf_counter()
    score = scorer(references, candidates)
    return time.perf_counter() - start, score


def peers() -> dict[str, Scorer]:
    """The scorers of pycocoevalcap."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    def called(scorer: object, **options: int) -> Scorer:
        def score(references: list[Texts], candidates: Texts) -> float:
            expected = dict(enumerate(references))
            written = {number: [text] for number, text in enumerate(candidates)}
            found = scorer.compute_score(expected, written, **options)[0]  # type: ignore[attr-defined]
            return float(np.ravel(found)[-1])

        return score

    return {
        "BLEU": called(Bleu(4), verbose=0),
        "ROUGE-L": called(Rouge()),
        "CIDEr-D": called(Cider()),
    }


if __name__ == "__main__":
    main()
