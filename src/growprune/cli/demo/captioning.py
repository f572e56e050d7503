"""The demo of captioning, on pictures drawn on the spot."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from growprune.cli.demo import side_by_side
from growprune.cli.encoders import open_encoder
from growprune.data import (
    CaptionCorpus,
    FeatureTable,
    FeatureWriter,
    open_captions,
    open_features,
    open_image,
)
from growprune.data.scenes import make_scenes
from growprune.pipelines import Captioner, evaluate_captions, measure_caption_latency

RECIPES = ("demo-captioning-lstm", "demo-captioning-hlstm-gp")
"""Names of shipped recipes, or files."""

_PICTURES_AT_ONCE = 16
_SHOWN = 12
_TIMED = 100


def run(out: Path, fresh: bool, console: Console) -> None:
    """Draw, train, pack, compare; see `growprune demo`."""
    from growprune.reports import print_comparison, write_report
    from growprune.tasks import open_recipe
    from growprune.tasks.captioning import CaptioningRecipe
    from growprune.training import read_record

    runs = side_by_side.run_folders(out, RECIPES)
    table, sheet = out / "features", out / "captions.png"
    if fresh:
        side_by_side.clear([out / "corpus", table, *runs, out / "report"])
    corpus = _corpus(out / "corpus", console)
    recipe = open_recipe(RECIPES[0])
    assert isinstance(recipe, CaptioningRecipe)
    features = _features(corpus, table, recipe.encoder.name, recipe.encoder.pool, console)
    side_by_side.train(RECIPES, runs, ["--data", out / "corpus", "--features", table], console)
    files = side_by_side.pack(runs, console)
    captioners = [Captioner.load(file) for file in files]
    _score(runs, captioners, corpus, features, console)
    console.print()
    print_comparison([read_record(run) for run in runs], console)
    page = write_report(runs, out / "report")
    _write_sheet([run.name for run in runs], captioners, corpus, features, sheet)
    console.print(
        f"\nreport: {page}\n"
        f"sheet:  {sheet}, {_SHOWN} pictures of the test split with what each model says of them\n"
        f"try:    growprune caption {files[1]} {corpus.split('test')[0].path}",
        highlight=False,
        soft_wrap=True,
    )


def _corpus(folder: Path, console: Console) -> CaptionCorpus:
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task("drawing pictures", total=None)
        corpus = open_captions(make_scenes(folder, progress=side_by_side.reporter(bars, bar)))
    sizes = ", ".join(f"{len(images)} {name}" for name, images in corpus.splits.items())
    console.print(f"corpus: {folder}, {sizes} pictures, no scene in two of them")
    return corpus


def _features(
    corpus: CaptionCorpus, table: Path, encoder_name: str, pool: int, console: Console
) -> FeatureTable:
    encoder = open_encoder(encoder_name, pool)
    writer = FeatureWriter(table, encoder.width, {"name": encoder.name, "pool": encoder.pool})
    images = [image for image in corpus.split("all") if image.name not in writer.done]
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task("looking at pictures", total=len(images))
        for start in range(0, len(images), _PICTURES_AT_ONCE):
            some = images[start : start + _PICTURES_AT_ONCE]
            pictures = [open_image(image.path) for image in some if image.path]
            writer.append([image.name for image in some], encoder.encode(pictures))
            bars.advance(bar, len(some))
    console.print(f"features: {table}, {encoder.width} numbers a picture by {encoder.name}")
    return open_features(table)


def _score(
    runs: Sequence[Path],
    captioners: Sequence[Captioner],
    corpus: CaptionCorpus,
    features: FeatureTable,
    console: Console,
) -> None:
    """Enter the packed models' test scores and latencies in the records."""
    from growprune.training import read_record, write_record

    timed = features.rows([image.name for image in corpus.split("test")[:_TIMED]])
    with console.status("scoring the test split and measuring latency"):
        latencies = measure_caption_latency(captioners, [timed] * len(captioners))
        for run, captioner, latency in zip(runs, captioners, latencies, strict=True):
            record = read_record(run)
            found = evaluate_captions(captioner, corpus, features, "test")
            record["scores"]["test"] = found.scores
            record["latency"] = latency
            write_record(run, record)


def _write_sheet(
    names: Sequence[str],
    captioners: Sequence[Captioner],
    corpus: CaptionCorpus,
    features: FeatureTable,
    path: Path,
) -> None:
    """The first pictures of the test split, with a sentence made for each and the models'."""
    from growprune.reports.caption_sheet import Described, write_sheet

    images = corpus.split("test")[:_SHOWN]
    rows = features.rows([image.name for image in images])
    written = [[caption.text for caption in captioner.caption(rows)] for captioner in captioners]
    pictures = [
        Described(
            open_image(image.path),
            {"made with it": image.captions[0], **dict(zip(names, texts, strict=True))},
        )
        for image, *texts in zip(images, *written, strict=True)
        if image.path
    ]
    write_sheet(pictures, path)
