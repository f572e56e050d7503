"""The page of captions: whole, self-contained, and safe whatever names and captions are."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from growprune.errors import DataError
from growprune.reports.caption_page import caption_page, thumbnail


class Reader(HTMLParser):
    """Tags, pictures and texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.pictures, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "img":
            self.pictures.append(dict(attributes))

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())


def picture(width=40, height=20, colour=(200, 30, 30)):
    return np.full((height, width, 3), colour, np.uint8)


def test_pictures_and_captions_stand_on_the_page(tmp_path):
    with caption_page(tmp_path / "page.html", "my model") as page:
        page.add("a.jpg", thumbnail(picture()), ["a dog", "a brown dog"])
        page.add("b.jpg", thumbnail(picture(colour=(0, 0, 250))), ["a cat"])
    reader = Reader((tmp_path / "page.html").read_text(encoding="utf-8"))
    shown = reader.texts[-5:]
    assert shown == ["a dog", "a brown dog", "a.jpg", "a cat", "b.jpg"]
    assert [found["alt"] for found in reader.pictures] == ["a dog", "a cat"]
    for found, colour in zip(reader.pictures, ((200, 30, 30), (0, 0, 250)), strict=True):
        kind, _, content = found["src"].partition(",")
        assert kind == "data:image/jpeg;base64"
        seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))), int)
        assert seen.shape == (20, 40, 3)
        assert np.abs(seen - colour).max() < 8


def test_text_stays_text(tmp_path):
    evil = '<script>alert("x")</script>&amp;"\'>'
    with caption_page(tmp_path / "page.html", evil) as page:
        page.add(evil, thumbnail(picture()), [evil])
    reader = Reader((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "script" not in reader.tags
    assert reader.texts[0] == evil
    assert reader.texts[-2:] == [evil, evil]
    assert reader.pictures[0].keys() == {"src", "alt"}
    assert reader.pictures[0]["alt"] == evil


def test_names_need_not_be_text(tmp_path):
    """As Python gives a file name that is not UTF-8."""
    with caption_page(tmp_path / "page.html", "a\udcff") as page:
        page.add("b\udcff.jpg", thumbnail(picture()), ["a dog"])
    reader = Reader((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert reader.texts[-2:] == ["a dog", "b\ufffd.jpg"]


def test_large_pictures_become_small_ones_and_small_ones_stay():
    sizes = {(4000, 1000): (320, 80), (100, 900): (36, 320), (1, 1): (1, 1), (320, 200): (320, 200)}
    for (width, height), wanted in sizes.items():
        small = Image.open(io.BytesIO(thumbnail(picture(width, height))))
        assert small.size == wanted


def test_a_failed_page_leaves_the_old_one(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")

    def fail():
        with caption_page(path, "new") as page:
            page.add("a.jpg", thumbnail(picture()), ["a dog"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "page.html"
    with pytest.raises(DataError, match=r"page\.html: cannot be written"), caption_page(place, ""):
        pass
