"""AN4's records beside the published figures, as a table and a plot of error against weights.

    python benchmarks/an4.py results/an4/records/*.json --out results/an4

Test figures are those of runs that learnt from all of the official training set; everything was
chosen on runs that left its dev speakers out. Where OUT/steps holds records of the trials of
an4-steps.toml, tables and a plot of dev errors follow.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from steps import WHOLE, Steps
from tables import markdown, minutes, origin, plot_over_weights, spread

from growprune.files import write_text
from growprune.metrics import totals
from growprune.reports import Record, read_records
from growprune.reports.record import group_by_recipe
from growprune.tasks import open_recipe, with_defaults
from growprune.tasks.speech import SpeechRecipe
from growprune.tasks.speech.task import build_model

DENSE_WEIGHTS = 50.4e6
DENSE_RECIPE = "deepspeech2-an4"
GREEDY, WITH_WORDS = "test", "test/beam 16, 3-gram"
STEPS = Steps(
    file=Path(__file__).with_name("an4-steps.toml"),
    others=(
        "small-dense-lstm",
        "small-dense-lstm-taught",
        "small-dense-gru",
        "small-dense-hlstm",
        "sparse-lstm",
        "narrower",
    ),
    curves={
        "single connections": ("half", WHOLE, "twice"),
        "blocks of 16": ("half-blocks", "blocks", "twice-blocks"),
    },
    score="wer",
    column="dev WER",
    scored="Word error rates",
    weights="whole",
    counted="whole recogniser",
)


@dataclass(frozen=True)
class Published:
    """A published model.

    Attributes:
        name: model and source.
        weights: of the whole recogniser; None: not given.
        wer: on the test split, in percent; None: not given for this size.
    """

    name: str
    weights: float | None
    wer: float | None


PUBLISHED = (
    Published("DeepSpeech2, dense (Dai et al., arXiv 1805.11797)", DENSE_WEIGHTS, 12.9),
    Published("their H-LSTM, smallest (same)", 2.6e6, None),
    Published("their H-LSTM, most accurate (same)", None, 8.7),
    Published("hardware-guided H-LSTM (Yin et al., arXiv 1901.10997)", 2.6e6, 10.4),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/an4"))
    args = parser.parse_args()
    groups = group_by_recipe(read_records(args.records, with_defaults))
    ranked = sorted(groups.items(), key=lambda group: group[1][0].cost.weights.whole)
    text = f"# AN4\n\n{table(ranked)}\n\n{notes(ranked)}\n"
    if any(scores(runs, GREEDY) for _, runs in ranked):
        plot(ranked, args.out / "wer.png")
        text += "\n![Test WER against weights](wer.png)\n"
    text += STEPS.sections(args.out)
    write_text(args.out / "README.md", text)
    print(text)


def table(groups: Sequence[tuple[str, Sequence[Record]]]) -> str:
    """A row for every published model and every recipe, the smallest recipe first."""
    head = ("model", "weights", "fewer", "MFLOP", "dev WER", "test WER", "... with words", "min")
    rows: list[tuple[str, ...]] = [head]
    for model in PUBLISHED:
        wer = "" if model.wer is None else f"{model.wer:.1f}"
        flops = f"{dense_flops() / 1e6:,.0f}" if model.weights == DENSE_WEIGHTS else ""
        rows.append((model.name, *sizes(model.weights), flops, "", wer, "", ""))
    for name, runs in groups:
        rows.append(
            (
                name,
                *sizes(runs[0].cost.weights.whole),
                f"{runs[0].cost.flops_per_second.whole / 1e6:,.0f}",
                "" if "dev" in runs[0].learnt_splits else spread(scores(runs, "dev")),
                *(spread(scores(runs, split)) for split in (GREEDY, WITH_WORDS)),
                minutes(runs),
            )
        )
    return markdown(rows)


def notes(groups: Sequence[tuple[str, Sequence[Record]]]) -> str:
    """How to read the table, and where each row comes from."""
    lines = [
        'Word error rates in percent, greedy; "with words": beam 16 and a 3-gram model of the '
        "training transcripts. Mean ± sample standard deviation where there are several seeds.",
        "Weights: active connections and biases of the whole recogniser. MFLOP: of a second of "
        "audio, two operations per active connection and use; DeepSpeech2's as counted for the "
        f"recipe {DENSE_RECIPE}. Their smallest has 23.5 times fewer than their dense one.",
    ]
    lines += [origin(name, runs) for name, runs in groups]
    return "\n".join(f"- {line}" for line in lines)


def dense_flops() -> float:
    """Operations of the dense baseline for a second of audio."""
    recipe = open_recipe(DENSE_RECIPE)
    assert isinstance(recipe, SpeechRecipe)
    with torch.device("meta"):
        model = build_model(recipe)
    frames = 1000 / recipe.data.features.hop_ms
    return totals(model.operations({}, frames), "second")["flops_per_second"]["whole"]


def sizes(weights: float | None) -> tuple[str, str]:
    """A number of weights, and how many times fewer than the dense baseline's it is."""
    if weights is None:
        return "", ""
    return f"{weights / 1e6:.2f}M", f"{DENSE_WEIGHTS / weights:.1f}x"


def scores(runs: Sequence[Record], split: str) -> list[float]:
    """The runs' word error rates on a split, in percent."""
    return [100 * run.scores[split]["wer"] for run in runs if split in run.scores]


def plot(groups: Sequence[tuple[str, Sequence[Record]]], path: Path) -> None:
    """Test error against the weights of the recogniser, every seed a point."""
    with plot_over_weights(path, "weights of the recogniser", "test WER, greedy (%)") as axes:
        for model in PUBLISHED:
            if model.weights and model.wer:
                axes.plot(model.weights, model.wer, "kx")
                axes.annotate(model.name.split(" (")[0], (model.weights, model.wer), fontsize=7)
        for name, runs in groups:
            found = [r for r in runs if GREEDY in r.scores]
            weights = [run.cost.weights.whole for run in found]
            axes.plot(weights, scores(found, GREEDY), "o", label=name)
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)


if __name__ == "__main__":
    main()
