"""`growprune data features`: every picture once, whatever is broken or interrupted."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from program import fails, run
from tiny_captioning import SETTINGS, WIDTH, features_of, write_encoder
from typer.testing import CliRunner

from growprune.cli import data as module
from growprune.cli.app import app, main
from growprune.data import CORPORA, open_features, open_image
from growprune.pipelines import ImageEncoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return ImageEncoder(write_encoder(tmp_path_factory.mktemp("encoder") / "tiny.onnx"))


def draw(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    size = rng.integers(5, 40, 2).tolist()
    Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for number in range(40):
        draw(tmp_path / "pictures" / ("below" if number % 3 else ".") / f"{number}.png", number)
    return tmp_path / "pictures"


def command(folder, out, encoder):
    return ["data", "features", *map(str, (folder, "-o", out, "--encoder", encoder.path))]


def check(table, paths, encoder):
    """The table holds these pictures' features and no others."""
    assert set(table.names) == {path.name for path in paths}
    for path in paths:
        wanted = features_of(encoder, path).astype(np.float16)
        np.testing.assert_array_equal(table.row(path.name), wanted.astype(np.float32))


def test_a_folder_becomes_a_table(folder, encoder, tmp_path):
    out = tmp_path / "table"
    output = run("data", "features", folder, "-o", out, "--encoder", encoder.path)
    assert output == f"{out}: features of 40 pictures, {WIDTH} numbers each, by tiny\n"
    table = open_features(out)
    check(table, list(folder.rglob("*.png")), encoder)
    assert table.encoder == {"name": "tiny", "pool": SETTINGS["pool"], "width": WIDTH}


def test_what_is_there_is_left_alone(folder, encoder, tmp_path):
    words = "data", "features", folder, "--out", tmp_path / "table", "--encoder", encoder.path
    run(*words)
    old = features_of(encoder, folder / "0.png").astype(np.float16)
    draw(folder / "0.png", 99)
    draw(folder / "new.png", 100)
    assert "41 pictures" in run(*words)
    table = open_features(tmp_path / "table")
    np.testing.assert_array_equal(table.row("0.png"), old)
    new = features_of(encoder, folder / "new.png").astype(np.float16)
    np.testing.assert_array_equal(table.row("new.png"), new)


def test_a_broken_picture_is_left_out_until_it_is_mended(folder, encoder, tmp_path, capsys):
    whole = folder.joinpath("0.png").read_bytes()
    (folder / "0.png").write_bytes(whole[: len(whole) // 2])
    (folder / "39.png").write_bytes(b"")
    words = command(folder, tmp_path / "t", encoder)
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 1
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"error: {folder / '0.png'}: not a picture that can be read (")
    assert lines[1].startswith(f"error: {folder / '39.png'}: not a picture")
    assert lines[2].startswith("error: 2 of 40 pictures are left out; put them right")
    assert "features of 38 pictures" in captured.out
    mended = [path for path in folder.rglob("*.png") if path.name not in ("0.png", "39.png")]
    check(open_features(tmp_path / "t"), mended, encoder)
    (folder / "0.png").write_bytes(whole)
    assert "1 of 40 pictures are left out" in CliRunner().invoke(app, words).exception.args[0]
    check(open_features(tmp_path / "t"), [*mended, folder / "0.png"], encoder)


@pytest.mark.parametrize("stop", [0, 10, 35])
def test_an_interrupted_run_goes_on(folder, encoder, tmp_path, monkeypatch, stop):
    opened = []

    def interrupted(path):
        opened.append(path)
        if len(opened) > stop:
            raise KeyboardInterrupt
        return open_image(path)

    words = command(folder, tmp_path / "t", encoder)
    monkeypatch.setattr(module, "open_image", interrupted)
    result = CliRunner().invoke(app, words)
    done = 32 if stop > 32 else 0
    assert result.exit_code == 130
    assert f"interrupted with {done} pictures done; the same command goes on" in result.stderr
    assert len(open_features(tmp_path / "t")) == done
    seen = []
    monkeypatch.setattr(module, "open_image", lambda path: seen.append(path) or open_image(path))
    run(*words)
    assert len(seen) == 40 - done
    check(open_features(tmp_path / "t"), list(folder.rglob("*.png")), encoder)


@pytest.fixture
def corpus(tmp_path):
    """In MSCOCO's layout, with a picture that is not listed, and two listed that are not there."""
    folder = tmp_path / "coco"
    names = {"train2014": ["a.png", "b.png", "gone.png"], "val2014": ["c.png", "lost.png"]}
    for split, pictures in names.items():
        for number, name in enumerate(pictures):
            if name not in ("gone.png", "lost.png"):
                draw(folder / split / name, number)
        content = {
            "images": [{"id": i, "file_name": name} for i, name in enumerate(pictures)],
            "annotations": [{"image_id": i, "caption": "x"} for i in range(len(pictures))],
        }
        path = folder / "annotations" / f"captions_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    draw(folder / "train2014" / "other.png", 9)
    return folder


def test_a_corpus_is_its_listed_pictures(corpus, encoder, tmp_path, capsys):
    words = "data", "features", corpus, "-o", tmp_path / "t", "--encoder", encoder.path
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    assert caught.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(
        f"error: {corpus}: 2 of 5 pictures are not there (gone.png, lost.png)"
    )
    assert lines[1].startswith("error: 2 of 5 pictures are left out")
    assert len(lines) == 2
    wanted = [corpus / "train2014" / "a.png", corpus / "train2014" / "b.png"]
    check(open_features(tmp_path / "t"), [*wanted, corpus / "val2014" / "c.png"], encoder)
    # One of its lists alone, whose pictures are all there now.
    draw(corpus / "train2014" / "gone.png", 7)
    source = corpus / "annotations" / "captions_train2014.json"
    run("data", "features", source, "-o", tmp_path / "u", "--encoder", encoder.path)
    found = open_features(tmp_path / "u")
    check(found, [*wanted, corpus / "train2014" / "gone.png"], encoder)


def test_the_default_encoder_has_quarters_too(tmp_path, monkeypatch):
    monkeypatch.setenv("GROWPRUNE_CACHE", str(tmp_path / "cache"))
    draw(tmp_path / "pictures" / "a.png", 0)
    output = run("data", "features", tmp_path / "pictures", "-o", tmp_path / "t", "--pool", 2)
    assert "1 pictures, 5120 numbers each, by efficientnet-lite0" in output
    table = open_features(tmp_path / "t")
    assert table.encoder == {"name": "efficientnet-lite0", "pool": 2, "width": 5120}
    (built,) = (tmp_path / "cache").iterdir()
    wanted = features_of(ImageEncoder(built), tmp_path / "pictures" / "a.png")
    np.testing.assert_allclose(table.row("a.png"), wanted, rtol=1e-3, atol=1e-3)


def test_a_bar_shows_what_is_left(folder, encoder, tmp_path):
    words = command(folder, tmp_path / "t", encoder)
    environment = {"FORCE_COLOR": "1", "COLUMNS": "120"}
    (folder / "9.png").write_bytes(b"")
    shown = CliRunner(env=environment).invoke(app, words)
    assert "39/40" in shown.stderr or "40/40" in shown.stderr
    assert "left:" in shown.stderr
    assert "not a picture" in shown.stderr
    plain = CliRunner().invoke(app, [*words[:4], str(tmp_path / "u"), *words[5:]])
    assert plain.stderr.count("\n") == 1


def test_what_cannot_be_is_one_line(folder, encoder, tmp_path, capsys):
    rest = "-o", tmp_path / "t", "--encoder", encoder.path
    assert "none: cannot be read" in fails(capsys, "data", "features", tmp_path / "none", *rest)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no pictures in it" in fails(capsys, "data", "features", empty, *rest)
    assert not (tmp_path / "t").exists()
    shutil.copy(folder / "0.png", folder / "below" / "0.png")
    line = fails(capsys, "data", "features", folder, *rest)
    assert f"{folder / 'below' / '0.png'}: has the name of {folder / '0.png'}" in line
    (folder / "below" / "0.png").unlink()
    run("data", "features", folder, *rest)
    other = write_encoder(tmp_path / "other.onnx", name="other")
    line = fails(capsys, "data", "features", folder, "-o", tmp_path / "t", "--encoder", other)
    assert "was computed by name tiny, pool 2, width 12, not by name other" in line
    line = fails(capsys, "data", "features", folder, "-o", tmp_path / "v", "--encoder", "resnet")
    assert "encoder 'resnet' is not known; known are efficientnet-lite0" in line
    line = fails(capsys, "data", "features", folder, "-o", tmp_path / "v", "--encoder", "x.onnx")
    assert "x.onnx: no such file" in line
    words = ["data", "features", str(folder), "--encoder", "x.onnx", "--pool", "2", "-o", "v"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "has a pool of its own" in result.stderr
    assert not (tmp_path / "v").exists()


def test_corpora_are_listed_with_terms_and_what_to_fetch():
    output = run("data", "list")
    for corpus in CORPORA:
        assert corpus.name in output
        assert all(word in output for word in corpus.licence.split())
        for step in corpus.by_hand:
            assert step in output
    assert {"an4", "spoken", "coco", "flickr8k"} == {corpus.name for corpus in CORPORA}
    assert "0da8c0bd3d6becc4dcb32757491aca88" in output
