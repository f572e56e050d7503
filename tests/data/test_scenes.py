"""The drawn corpus: what is said is what is drawn, and splits share no scene."""

import json
import re
import subprocess
import sys
from itertools import islice, repeat

import numpy as np
import pytest

from growprune.data.captions import open_captions
from growprune.data.images import open_image
from growprune.data.scenes import Scene, Things, captions, corpus, draw, make_scenes, scenes
from growprune.data.scenes.pictures import SIDE
from growprune.errors import DataError

SIZES = {"train": 8, "dev": 3, "test": 4}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp("scenes") / "corpus", seed=3, **SIZES)


def scene(*things, layout, background="white"):
    return Scene(tuple(Things(*thing) for thing in things), layout, background)


def drawn(wanted, seed=0):
    return draw(wanted, np.random.default_rng(seed)).astype(int)


def coloured(picture, channel):
    """Coordinates `(pixels, 2)`, x and y, where one channel is far above the other two."""
    others = np.delete(picture, channel, axis=2)
    return np.argwhere((picture[..., channel, None] - others).min(axis=2) > 60)[:, ::-1]


def test_no_scene_comes_twice_whatever_its_background():
    found = [(scene.things, scene.layout) for scene in islice(scenes(0), 3000)]
    assert len(set(found)) == 3000


def test_scenes_follow_from_the_seed():
    first, again, other = (list(islice(scenes(seed), 20)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_two_kinds_of_things_can_be_told_apart():
    for found in islice(scenes(1), 500):
        assert len({(things.colour, things.shape) for things in found.things}) == len(found.things)


PLACES = {
    "left": "on the left|on the left side",
    "right": "on the right|on the right side",
    "top": "at the top|in the upper part",
    "bottom": "at the bottom|in the lower part",
    "middle": "in the middle|in the centre",
}
GROUND = "( on a dotted background| on dotted ground)?"


@pytest.mark.parametrize("place", PLACES)
def test_what_is_said_of_one_thing(place):
    wanted = scene((1, "small", "orange", "cross"), layout=place, background="dotted")
    noun = "(an orange cross|a (small|little) orange cross)"
    pattern = f"(there is |a picture of )?{noun}( is)? ({PLACES[place]}){GROUND}"
    assert_all_match(pattern, wanted)


def test_what_is_said_of_several():
    wanted = scene((3, "middling", "red", "cross"), layout="row", background="dotted")
    pattern = f"(there are |a picture of )?three red crosses( are)? (in a row|side by side){GROUND}"
    assert_all_match(pattern, wanted)


def test_relations_are_said_from_both_sides():
    wanted = scene(
        (1, "large", "red", "star"), (2, "middling", "blue", "ring"), layout="beside",
        background="dotted",
    )  # fmt: skip
    star, rings = "a (?:(?:large|big) )?red star", "two blue rings"
    right = f"(?:there are )?{rings}(?: are)? (?:to|on) the right of {star}"
    left = f"(?:there is )?{star}(?: is)? (?:to|on) the left of {rings}"
    assert_all_match(f"(?:{left}|{right}){GROUND}", wanted)
    above = scene((1, "middling", "red", "star"), (1, "middling", "blue", "ring"), layout="above")
    for text in spoken(above):
        first, second = ("star", "ring") if "above" in text or "over" in text else ("ring", "star")
        assert text.index(first) < text.index(second), text


def assert_all_match(pattern, wanted):
    for text in spoken(wanted):
        assert re.fullmatch(pattern, text), text


def spoken(wanted):
    """All that is said of a scene, within reason."""
    generator = np.random.default_rng(0)
    texts = {text for _ in range(40) for text in captions(wanted, generator)}
    assert len(texts) >= 10
    return texts


def test_a_scene_gets_five_different_sentences():
    generator = np.random.default_rng(0)
    for wanted in islice(scenes(2), 200):
        assert len(set(captions(wanted, generator))) == 5


@pytest.mark.parametrize(
    ("layout", "centre"),
    [("left", (0.28, 0.5)), ("right", (0.72, 0.5)), ("top", (0.5, 0.28)), ("bottom", (0.5, 0.72)),
     ("middle", (0.5, 0.5))],
)  # fmt: skip
def test_a_thing_is_where_it_is_said_to_be(layout, centre):
    for shape in ("circle", "ring", "square", "heart", "cross", "star", "triangle", "diamond"):
        found = coloured(drawn(scene((1, "large", "red", shape), layout=layout)), 0)
        middle = (found.min(axis=0) + found.max(axis=0)) / 2 / SIDE
        np.testing.assert_allclose(middle, centre, atol=0.09)


def test_sizes_can_be_seen():
    areas = [
        len(coloured(drawn(scene((1, size, "blue", "circle"), layout="middle")), 2))
        for size in ("small", "middling", "large")
    ]
    expected = [np.pi * (radius * SIDE) ** 2 for radius in (0.09, 0.15, 0.21)]
    np.testing.assert_allclose(areas, expected, rtol=0.45)
    assert areas[0] < 0.6 * areas[1] < 0.6 * 0.8 * areas[2]


@pytest.mark.parametrize(("layout", "axis"), [("beside", 0), ("above", 1)])
def test_the_first_is_on_the_left_or_on_top(layout, axis):
    for seed in range(5):
        picture = drawn(
            scene((2, "middling", "red", "square"), (1, "large", "blue", "ring"), layout=layout),
            seed,
        )
        assert coloured(picture, 0)[:, axis].max() < coloured(picture, 2)[:, axis].min() + 8


@pytest.mark.parametrize(("layout", "axis"), [("row", 0), ("column", 1)])
def test_several_are_counted_along_their_row(layout, axis):
    for count in (2, 3, 4):
        things = (count, "middling", "red", "diamond")
        covered = np.zeros(SIDE, bool)
        covered[coloured(drawn(scene(things, layout=layout)), 0)[:, axis]] = True
        assert np.diff(covered.astype(int), prepend=0).tolist().count(1) == count


def test_pictures_of_one_scene_differ():
    wanted = scene((1, "large", "green", "heart"), layout="middle", background="striped")
    first, again, other = drawn(wanted, 1), drawn(wanted, 1), drawn(wanted, 2)
    assert (first == again).all()
    assert np.abs(first - other).mean() > 5


def test_the_ordinary_loader_reads_it(file):
    corpus = open_captions(file)
    assert {name: len(images) for name, images in corpus.splits.items()} == SIZES
    expected = list(islice(scenes(3), sum(SIZES.values())))
    for image, wanted in zip(corpus.split("all"), expected, strict=True):
        assert len(image.captions) == 5
        assert all(wanted.things[0].colour in text for text in image.captions)
        assert open_image(image.path).shape == (SIDE, SIDE, 3)


def test_another_process_draws_the_same(file, tmp_path):
    program = (
        "import sys\nfrom growprune.data.scenes import make_scenes\n"
        f"make_scenes(sys.argv[1], seed=3, **{SIZES!r})\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "other")], check=True)
    for path in sorted(path for path in file.parent.rglob("*") if path.is_file()):
        assert (tmp_path / "other" / path.relative_to(file.parent)).read_bytes() == (
            path.read_bytes()
        ), path


def test_a_complete_corpus_is_reused_and_other_settings_replace_it(tmp_path):
    calls = []
    sizes = {"train": 2, "dev": 1, "test": 1}

    def make(seed):
        file = make_scenes(tmp_path / "c", seed, **sizes, progress=lambda *n: calls.append(n))
        return json.loads(file.read_text())

    first = make(0)
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert make(0) == first
    assert len(calls) == 4
    assert make(1) != first
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_foreign_files_and_empty_splits_are_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="holds other files"):
        make_scenes(tmp_path, train=1, dev=1, test=1)
    with pytest.raises(ValueError, match="at least 1 picture"):
        make_scenes(tmp_path / "c", dev=0)


def test_two_pictures_of_a_scene_differ_and_no_picture_depends_on_the_number_of_threads(
    tmp_path, monkeypatch
):
    scene = next(scenes(0))
    monkeypatch.setattr(corpus, "scenes", lambda seed: repeat(scene))
    drawn = []
    for cores in (1, 4):
        monkeypatch.setattr(corpus.os, "cpu_count", lambda cores=cores: cores)
        make_scenes(tmp_path / f"{cores}", train=4, dev=1, test=1)
        files = sorted((tmp_path / f"{cores}").rglob("*.jpg"))
        drawn.append([file.read_bytes() for file in files])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 6
