"""Captions of several runs side by side, for photographs that a rule chooses and nobody's hand.

    python benchmarks/photographs.py LSTM_RUN HLSTM_RUN --data FLICKR8K --features TABLE

Of the test split's file names in alphabetical order, every fiftieth. The page holds photographs,
which belong to their authors, and is for one's own eyes; the table names files and is for
`results`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from growprune.data import open_captions, open_features, open_image
from growprune.files import write_text
from growprune.reports.caption_page import caption_page, thumbnail
from growprune.tasks.captioning import Captioner


def main() -> None:
    args = parse_arguments()
    images = sorted(open_captions(args.data).split("test"), key=lambda image: image.name)
    chosen = images[:: args.every]
    features = open_features(args.features).rows([image.name for image in chosen])
    found = {
        run.name: [
            caption.text
            for caption in Captioner.from_run(run).caption(
                features, beam=args.beam, length_penalty=args.length_penalty
            )
        ]
        for run in args.runs
    }
    names = [image.name for image in chosen]
    search = f"beam {args.beam}, length penalty {args.length_penalty:g}"
    rule = f"Every {args.every}th of the test split's file names in order; {search}."
    write_text(args.out, f"{rule}\n\n{table(names, found)}\n")
    with caption_page(args.page, "Test photographs") as page:
        for index, image in enumerate(chosen):
            lines = [f"{run}: {captions[index]}" for run, captions in found.items()]
            if image.path is None:
                raise SystemExit(f"{image.name}: {args.data} does not hold the photograph")
            page.add(image.name, thumbnail(open_image(image.path)), lines)
    print(f"{args.out}; {args.page} (not for publication)")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="captioners' folders")
    parser.add_argument("--data", type=Path, required=True, help="the corpus, with its photographs")
    parser.add_argument("--features", type=Path, required=True, help="of its images")
    parser.add_argument("--every", type=int, default=50, help="photographs from one to the next")
    parser.add_argument("--beam", type=int, default=3, help="hypotheses kept")
    parser.add_argument("--length-penalty", type=float, default=0.0)
    parser.add_argument("--out", type=Path, default=Path("results/flickr8k/photographs.md"))
    parser.add_argument("--page", type=Path, default=Path("photographs.html"))
    return parser.parse_args()


def table(names: Sequence[str], found: dict[str, list[str]]) -> str:
    """A row for every photograph, a column for every run."""
    rows = [("photograph", *found), ("---",) * (1 + len(found))]
    rows += list(zip(names, *found.values(), strict=True))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
