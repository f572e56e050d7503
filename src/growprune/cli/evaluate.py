"""`growprune evaluate`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from growprune.cli.caption_scores import Search, evaluate_captioners
from growprune.cli.error_rates import Decoding, evaluate_recognizers
from growprune.cli.models import is_captioner, is_recognizer, open_model
from growprune.errors import DataError


def evaluate(
    models: Annotated[list[Path], typer.Argument(help="Folders of finished runs, packed models.")],
    data: Annotated[
        Path | None, typer.Option(help="The corpus, where it is not the one trained on.")
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(help="Features of its images, where they are not those trained on."),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="A split to score; repeatable. Default: dev and test.")
    ] = None,
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses kept; 1 decodes greedily.")] = 1,
    length_penalty: Annotated[
        float, typer.Option(min=0, help="Of captions: more favours longer ones.")
    ] = 0.0,
    lm_order: Annotated[
        int,
        typer.Option(min=0, help="Order of an n-gram model of the training transcripts; 0: none."),
    ] = 0,
    lm_weight: Annotated[float, typer.Option(help="Weight of the n-gram model.")] = 0.5,
    word_bonus: Annotated[float, typer.Option(help="Bonus per word with an n-gram model.")] = 1.0,
    show: Annotated[
        int, typer.Option(min=0, help="Print this many captions, or transcripts that have errors.")
    ] = 5,
) -> None:
    """Error rates or caption scores, and latency; entered in each run's record.

    Recognisers: word and character error rates. Captioners: BLEU, ROUGE-L and CIDEr-D, and what a
    caption's arithmetic comes to where zeros are skipped. Latency is measured on one thread, all
    models by turns in this one process. A packed model needs --data, a packed captioner --features
    too, and is scored just as a run is.

    Example: growprune evaluate runs/an4-lstm-seed0 runs/an4-hlstm-gp-seed0 --beam 16 --lm-order 2
    """
    console = Console()
    opened = {model: open_model(model) for model in models}
    splits = split or ["dev", "test"]
    captioners = {path: model for path, model in opened.items() if is_captioner(model)}
    recognizers = {path: model for path, model in opened.items() if is_recognizer(model)}
    if captioners and recognizers:
        raise DataError(
            f"{next(iter(recognizers))} writes transcripts and {next(iter(captioners))} captions; "
            "evaluate them apart"
        )
    if captioners:
        if lm_order:
            raise typer.BadParameter("--lm-order is for recognisers; leave it out")
        search = Search(beam, length_penalty)
        evaluate_captioners(captioners, data, features, splits, search, show, console)
    else:
        if features is not None:
            raise typer.BadParameter("--features is for captioners; leave it out")
        decoding = Decoding(beam, lm_order, lm_weight, word_bonus)
        evaluate_recognizers(recognizers, data, splits, decoding, show, console)
