"""The sheet: every picture once, with all that is said of it below it and in order."""

import numpy as np
import pytest
from PIL import Image

from growprune.reports.caption_sheet import Described, draw_sheet, write_sheet


def described(count, text="a dog"):
    return [
        Described(
            np.full((30, 30, 3), 25 * number, np.uint8),
            {"lstm": f"{text} {number}", "truth": f"{text} or cat {number}"},
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("count", [1, 4, 7])
def test_every_picture_has_its_captions(count):
    figure = draw_sheet(described(count))
    assert len(figure.axes) == count
    for number, axes in enumerate(figure.axes):
        assert (axes.images[0].get_array() == 25 * number).all()
        assert [text.get_text() for text in axes.texts] == [
            f"a dog {number}",
            f"a dog or cat {number}",
        ]
    assert [text.get_text() for text in figure.texts] == ["lstm", "truth"]
    for name, said in zip(figure.texts, figure.axes[0].texts, strict=True):
        assert name.get_color() == said.get_color()


def test_long_captions_are_wrapped_and_do_not_overlap():
    long = " ".join(["word"] * 40)
    figure = draw_sheet(described(5, long))
    for axes in figure.axes:
        first, second = axes.texts
        extents = [text.get_window_extent() for text in (first, second)]
        assert extents[0].y0 > extents[1].y1
        assert all(extent.x1 < figure.bbox.width for extent in extents)
    above, below = figure.axes[0], figure.axes[4]
    assert above.texts[-1].get_window_extent().y0 > below.get_window_extent().y1
    assert all(text.get_window_extent().y0 > 0 for text in below.texts)


def test_no_caption_is_a_formula_and_an_empty_one_is_said():
    pictures = [Described(np.zeros((5, 9, 3), np.uint8), {"a": "$x$ and $_", "b": ""})]
    figure = draw_sheet(pictures)
    figure.canvas.draw()
    assert [text.get_text() for text in figure.axes[0].texts] == [r"\$x\$ and \$_", "(nothing)"]


def test_the_file_is_a_png(tmp_path):
    write_sheet(described(3), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.format == "PNG"
        assert image.width == 3 * 320
