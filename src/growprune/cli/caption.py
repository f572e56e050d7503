"""`growprune caption`."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import numpy as np
import typer

from growprune.cli.encoders import Encoder, encoder_for
from growprune.cli.messages import print_error
from growprune.cli.models import AnyCaptioner, open_captioner
from growprune.data import FeatureTable, image_files, open_features, open_image
from growprune.errors import DataError
from growprune.pipelines import check_features

if TYPE_CHECKING:
    from growprune.reports.caption_page import CaptionPage

_AT_ONCE = 32
"""Pictures captioned together; no more than their features is kept of them."""

Result = TypeVar("Result")


def caption(
    model: Annotated[Path, typer.Argument(help="A packed model, or a finished run's folder.")],
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Pictures, and folders of them; all of the table's with --features."),
    ] = None,
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses kept; 1 is greedy.")] = 3,
    length_penalty: Annotated[
        float, typer.Option(min=0, help="0 searches the likeliest; more favours longer ones.")
    ] = 0.0,
    temperature: Annotated[
        float | None, typer.Option(help="Draw words at this temperature instead of searching.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, with the log-probability.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page of the pictures with their captions.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="A table of features; the pictures are not encoded then.")
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="The encoder's ONNX file; found by its name if not given.")
    ] = None,
) -> None:
    """Say in a sentence what pictures show.

    A picture that cannot be used is named with the reason; the others are captioned all the same.

    Example: growprune caption model.safetensors holiday/ --html captions.html
    """
    if temperature is not None and not temperature > 0:
        raise typer.BadParameter("--temperature must be above 0; leave it out for the likeliest")
    if not images and features is None:
        raise typer.BadParameter("name pictures, or folders of them")
    if encoder is not None and features is not None:
        raise typer.BadParameter("--features are ready; leave out --encoder")
    captioner = open_captioner(model)
    sight = _Sight(_source(captioner, features, encoder), with_thumbnails=html is not None)
    attempts = _Attempts()
    paths = _paths(images or [], sight, attempts)
    with _page(html, f"Captions by {model}") as page:
        for start in range(0, len(paths), _AT_ONCE):
            chunk = paths[start : start + _AT_ONCE]
            seen = [found for path in chunk if (found := attempts(sight.see, path)) is not None]
            if not seen:
                continue
            captions = captioner.caption(
                np.stack([picture.features for picture in seen]),
                beam=beam,
                length_penalty=length_penalty,
                temperature=temperature,
                seed=(seed, start),
            )
            for picture, written in zip(seen, captions, strict=True):
                _print(picture.path, written.text, written.log_prob, as_json)
                if page is not None:
                    page.add(str(picture.path), picture.thumbnail, [written.text])
    if attempts.failed:
        raise DataError(f"{attempts.failed} of {attempts.made} pictures could not be captioned")


@dataclass(frozen=True)
class _Picture:
    """What is kept of a picture: features `(width,)`, and a small JPEG file where it is shown."""

    path: Path
    features: np.ndarray
    thumbnail: bytes


@dataclass(frozen=True)
class _Sight:
    """Where features come from: pictures and their encoder, or a table."""

    source: Encoder | FeatureTable
    with_thumbnails: bool

    def see(self, path: Path) -> _Picture:
        """One picture.

        Raises:
            DataError: it cannot be read, or has no features in the table.
        """
        if isinstance(self.source, FeatureTable):
            features = self.source.row(path.name)
            thumbnail = self._thumbnail(open_image(path)) if self.with_thumbnails else b""
            return _Picture(path, features, thumbnail)
        image = open_image(path)
        (features,) = self.source.encode([image])
        return _Picture(path, features, self._thumbnail(image) if self.with_thumbnails else b"")

    def _thumbnail(self, image: np.ndarray) -> bytes:
        from growprune.reports.caption_page import thumbnail

        return thumbnail(image)


class _Attempts:
    """Calls of which those that fail are counted, and the reason said."""

    def __init__(self) -> None:
        self.made = self.failed = 0

    def __call__(self, function: Callable[[Path], Result], path: Path) -> Result | None:
        self.made += 1
        try:
            return function(path)
        except DataError as error:
            self.failed += 1
            print_error(error)
            return None


def _source(
    captioner: AnyCaptioner, features: Path | None, encoder: Path | None
) -> Encoder | FeatureTable:
    if features is None:
        return encoder_for(captioner.encoder, encoder)
    table = open_features(features)
    check_features(captioner, table)
    return table


def _paths(images: Sequence[Path], sight: _Sight, attempts: _Attempts) -> list[Path]:
    """Every picture, those in folders too."""
    if not images and isinstance(sight.source, FeatureTable):
        return [Path(name) for name in sight.source.names]
    paths: list[Path] = []
    for image in images:
        if image.is_dir():
            found = attempts(image_files, image)
            attempts.made -= found is not None  # its pictures will count
            paths += found or []
        else:
            paths.append(image)
    return paths


def _page(html: Path | None, title: str) -> "AbstractContextManager[CaptionPage | None]":
    if html is None:
        return nullcontext()
    from growprune.reports.caption_page import caption_page

    return caption_page(html, title)


def _print(path: Path, text: str, log_prob: float, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"file": str(path), "caption": text, "log_prob": log_prob}))
    else:
        typer.echo(f"{path}\t{text}")
