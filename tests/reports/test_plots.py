import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from growprune.reports import plots
from growprune.reports.plots import _shortened, block_densities, plot_connections, plot_curves
from growprune.reports.record import check_record, group_by_recipe


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def slow_block_densities(mask, most):
    """One block at a time; blocks start at floor(index * length / blocks)."""
    blocks = [min(length, most) for length in mask.shape]
    starts = [
        [index * length // count for index in range(count)] + [length]
        for length, count in zip(mask.shape, blocks, strict=True)
    ]
    return np.array(
        [
            [
                mask[starts[0][i] : starts[0][i + 1], starts[1][j] : starts[1][j + 1]].mean()
                for j in range(blocks[1])
            ]
            for i in range(blocks[0])
        ]
    )


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    most=st.integers(1, 12),
    seed=st.integers(0, 100),
)
def test_block_densities_agree_with_the_slow_way(shape, most, seed):
    mask = np.random.default_rng(seed).integers(0, 2, shape, dtype=np.uint8)
    np.testing.assert_allclose(block_densities(mask, most), slow_block_densities(mask, most))


def test_small_masks_are_drawn_weight_by_weight():
    mask = np.eye(5, 7, dtype=np.uint8)
    np.testing.assert_array_equal(block_densities(mask, 96), mask)


def test_many_active_connections_do_not_overflow_a_block():
    assert block_densities(np.ones((600, 600), np.uint8), 1) == 1


def test_curves_show_the_record(tmp_path, make_record):
    """The picture changes with each curve and with the phases, and only then."""

    def draw(**changes):
        path = tmp_path / "curves.png"
        plot_curves(group_by_recipe([check_record(make_record(**changes), "here")]), path)
        return pixels(path)

    epochs = make_record()["epochs"]
    base = draw()
    np.testing.assert_array_equal(base, draw(seconds=1.0))
    for change in (
        {"phase": "shift"},
        {"train_loss": 1.7},
        {"dev_loss": 1.9},
        {"dev_wer": 0.4},
        {"density": 0.3},
        {"seconds": 7.0},
    ):
        changed = draw(epochs=[epochs[0], epochs[1], epochs[2] | change])
        assert changed.shape != base.shape or (changed != base).any(), change


def test_curves_of_unequal_runs_and_of_none(tmp_path, make_record):
    short = make_record(name="short", epochs=make_record()["epochs"][:1])
    other_task = make_record(
        name="other", epochs=[{"epoch": 1, "phase": "dense", "train_loss": 1.0}]
    )
    untrained = make_record(name="untrained", epochs=[])
    for records in ([short, make_record(), make_record(seed=1)], [other_task], [untrained]):
        path = tmp_path / "curves.png"
        plot_curves(group_by_recipe([check_record(r, "here") for r in records]), path)
        assert pixels(path).std() > 0


def test_no_column_is_cut_at_the_height_of_another(tmp_path, make_record, monkeypatch):
    """All columns share the scale of the one with the largest values."""
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: drawn.append(figure))
    low = make_record(name="low")
    epochs = [e | {"train_loss": 90.0, "dev_wer": 3.0, "seconds": 500.0} for e in low["epochs"]]
    records = [low, make_record(name="high", epochs=epochs)]
    plot_curves(group_by_recipe([check_record(r, "here") for r in records]), tmp_path / "a.png")
    limits = {axes.get_ylabel(): axes.get_ylim() for axes in drawn[0].axes if axes.get_ylabel()}
    assert limits["loss"][0] == 0
    assert limits["loss"][1] > 90
    assert limits["dev word error rate (%)"][1] > 300
    assert limits["seconds an epoch"][1] > 500


@pytest.mark.parametrize("count", [1, 4, 5])
def test_connections_are_drawn_where_they_are(tmp_path, make_record, count):
    """An active left half is bright on the left; a matrix without a mask is left out."""
    names = [f"m{index}" for index in range(count)]
    matrices = [{"name": n, "shape": [40, 20, 2], "active": 800, "density": 0.5} for n in names]
    matrices.append({"name": "unmasked", "shape": [3, 3], "active": 9, "density": 1.0})
    record = check_record(make_record(matrices=matrices), "here")
    mask = np.zeros((40, 20, 2), np.uint8)
    mask[:, :10] = 1
    plot_connections(record, dict.fromkeys(names, mask), tmp_path / "c.png")
    picture = pixels(tmp_path / "c.png").astype(int)
    yellow = abs(picture - (253, 231, 37)).sum(axis=2) < 8
    violet = abs(picture - (68, 1, 84)).sum(axis=2) < 8
    # The colour bar holds a little of both.
    assert yellow.sum() == pytest.approx(violet.sum(), rel=0.1)
    assert yellow.any(axis=0).argmax() < violet.any(axis=0).argmax()


def test_the_end_of_a_long_name_is_kept():
    assert _shortened("a" * 42) == "a" * 42
    assert _shortened("x" * 50 + "layers.1.weight") == "..." + "x" * 24 + "layers.1.weight"


def test_pictures_are_the_same_bytes_every_time(tmp_path, make_record):
    groups = group_by_recipe([check_record(make_record(), "here")])
    plot_curves(groups, tmp_path / "a.png")
    plot_curves(groups, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
