"""Captioners from training to captions, on scenes and an encoder of a few bytes."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from program import fails, run, without_torch
from tiny_captioning import TINY, WIDTH, features_of, make_corpus, write_encoder
from typer.testing import CliRunner

from growprune.cli.app import app, main
from growprune.cli.encoders import encoder_for, open_encoder
from growprune.data import LITE0, lite0_path, open_captions, open_features
from growprune.errors import DataError
from growprune.pipelines import Captioner, ImageEncoder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `scenes`, `tiny.onnx`, `features.npz`, the run `gp` and `gp.safetensors`."""
    folder = tmp_path_factory.mktemp("captioning")
    make_corpus(folder)
    sets = [word for value in TINY for word in ("--set", value)]
    data = ["--data", folder / "scenes", "--features", folder / "features.npz"]
    said = run("train", "neuraltalk-hlstm-gp", *data, "--out", folder / "gp", "--seed", 3, *sets)
    assert f"growprune caption {folder / 'gp'} IMAGE..." in said
    said = run("export", folder / "gp", "-o", folder / "gp.safetensors", "--layout", "blocks")
    assert f"next: growprune caption {folder / 'gp.safetensors'} IMAGE...; growprune bench" in said
    return folder


@pytest.fixture(scope="module")
def pictures(place):
    return sorted((place / "scenes" / "images").glob("test-*.jpg"))


def captions_of(place, paths, **settings):
    """What the packed captioner writes of pictures, without the program."""
    encoder = ImageEncoder(place / "tiny.onnx")
    features = np.stack([features_of(encoder, path) for path in paths])
    return Captioner.load(place / "gp.safetensors").caption(features, **settings)


def lines_of(paths, captions):
    return "".join(f"{path}\t{c.text}\n" for path, c in zip(paths, captions, strict=True))


def test_pictures_are_captioned_without_torch(place, pictures):
    words = ["caption", place / "gp.safetensors", *pictures, "--encoder", place / "tiny.onnx"]
    wanted = captions_of(place, pictures)
    assert without_torch(*words) == lines_of(pictures, wanted)
    assert len({caption.text for caption in wanted}) > 1
    assert all(len(caption.text) > 5 for caption in wanted)


def test_a_run_writes_what_its_packed_model_does(place, pictures):
    said = [
        run("caption", place / model, *pictures, "--encoder", place / "tiny.onnx", "--beam", 2)
        for model in ("gp", "gp.safetensors")
    ]
    assert said[0] == said[1] == lines_of(pictures, captions_of(place, pictures, beam=2))


def test_folders_are_read_through_in_chunks(place, pictures, tmp_path):
    """More pictures than are captioned together, some in a folder further down."""
    paths = [tmp_path / "a" / f"{number:02}.jpg" for number in range(40)]
    paths += [tmp_path / "b" / "c" / "more.jpg"]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures[number % len(pictures)], path)
    encoder = ["--encoder", place / "tiny.onnx"]
    said = run("caption", place / "gp.safetensors", tmp_path, pictures[0], *encoder)
    paths.append(pictures[0])
    assert said == lines_of(paths, captions_of(place, paths))
    drawn = run("caption", place / "gp.safetensors", *paths, *encoder, "--temperature", 2)
    chunks = [
        captions_of(place, chunk, temperature=2.0, seed=(0, start))
        for start, chunk in ((0, paths[:32]), (32, paths[32:]))
    ]
    assert drawn == lines_of(paths, [caption for chunk in chunks for caption in chunk])


def test_json_has_a_line_a_picture(place, pictures):
    encoder = ["--encoder", place / "tiny.onnx"]
    said = run("caption", place / "gp.safetensors", *pictures, *encoder, "--json", "--beam", 1)
    wanted = captions_of(place, pictures, beam=1)
    found = [json.loads(line) for line in said.splitlines()]
    assert found == [
        {"file": str(path), "caption": caption.text, "log_prob": pytest.approx(caption.log_prob)}
        for path, caption in zip(pictures, wanted, strict=True)
    ]


def test_captions_may_be_drawn(place, pictures):
    words = ["caption", place / "gp.safetensors", *pictures, "--encoder", place / "tiny.onnx"]
    first, again, other = (run(*words, "--temperature", 1.5, "--seed", seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    wanted = captions_of(place, pictures, temperature=1.5, seed=(1, 0))
    assert first == lines_of(pictures, wanted)


def test_longer_captions_may_be_favoured(place, pictures):
    words = ["caption", place / "gp.safetensors", *pictures, "--encoder", place / "tiny.onnx"]
    said = run(*words, "--length-penalty", 2)
    assert said == lines_of(pictures, captions_of(place, pictures, length_penalty=2.0))


def test_a_page_shows_pictures_with_their_captions(place, pictures, tmp_path):
    page = tmp_path / "page.html"
    encoder = ["--encoder", place / "tiny.onnx"]
    run("caption", place / "gp.safetensors", *pictures, *encoder, "--html", page)
    text = page.read_text()
    assert text.count("<figure>") == text.count("data:image/jpeg;base64,/9j/") == len(pictures)
    wanted = captions_of(place, pictures)
    found = re.findall(r"<figcaption>(.*?)<br><small>(.*?)</small>", text)
    assert found == [(c.text, str(path)) for c, path in zip(wanted, pictures, strict=True)]


def test_a_bad_picture_does_not_stop_the_others(place, pictures, tmp_path, capsys):
    broken, none, empty = tmp_path / "broken.jpg", tmp_path / "none.jpg", tmp_path / "empty"
    broken.write_bytes(pictures[0].read_bytes()[:300])
    empty.mkdir()
    folder = tmp_path / "folder"
    folder.mkdir()
    copies = [Path(shutil.copy(picture, folder)) for picture in pictures[:2]]
    page = tmp_path / "page.html"
    given = [pictures[0], broken, none, empty, folder]
    words = ["caption", place / "gp.safetensors", *given, "--encoder", place / "tiny.onnx"]
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in [*words, "--html", page]])
    assert caught.value.code == 1
    said, complaints = capsys.readouterr()
    good = [pictures[0], *copies]
    assert said == lines_of(good, captions_of(place, good))
    first, second, third, last = complaints.splitlines()
    assert first.startswith(f"error: {empty}: no pictures in it")
    assert second.startswith(f"error: {broken}: not a picture that can be read")
    assert third == f"error: {none}: no such file; check the path"
    assert last == "error: 3 of 6 pictures could not be captioned"
    assert page.read_text().count("<figure>") == 3


def test_ready_features_are_captioned_by_name(place, pictures, tmp_path):
    table = ["--features", place / "features.npz"]
    wanted = lines_of(pictures, captions_of(place, pictures))
    assert run("caption", place / "gp.safetensors", *pictures, *table) == wanted
    names = [Path(path.name) for path in pictures]  # the pictures need not be there
    said = run("caption", place / "gp.safetensors", *names, *table)
    assert said == lines_of(names, captions_of(place, pictures))
    every = run("caption", place / "gp.safetensors", *table).splitlines()
    assert [line.partition("\t")[0] for line in every] == list(
        open_features(place / "features.npz").names
    )
    page = tmp_path / "page.html"
    run("caption", place / "gp.safetensors", *pictures, *table, "--html", page)
    assert page.read_text().count("<figure>") == len(pictures)


def test_evaluate_enters_scores_latency_and_flops_in_the_record(place):
    said = run("evaluate", place / "gp")
    for word in ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr-D", "ms per caption", "by people"):
        assert word in said
    record = json.loads((place / "gp" / "record.json").read_text())
    scores = {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d"}
    assert record["scores"]["test"].keys() == scores
    assert record["latency"]["threads"] == 1
    assert record["latency"]["runs"] == 6
    assert record["latency"]["milliseconds"] > 0
    assert record["latency"]["milliseconds_beam_3"] > 0
    flops = record["cost"]["flops_per_caption"]
    assert 0 < flops["recurrent_measured"] < flops["recurrent"]
    saved = flops["recurrent"] - flops["recurrent_measured"]
    assert flops["whole"] - flops["whole_measured"] == pytest.approx(saved)
    run("evaluate", place / "gp", "--split", "dev", "--beam", 3)
    run("evaluate", place / "gp", "--split", "dev", "--beam", 2, "--length-penalty", 0.5)
    record = json.loads((place / "gp" / "record.json").read_text())
    assert {"dev", "test", "dev/beam 3", "dev/beam 2, length penalty 0.5"} <= set(record["scores"])


def test_another_corpus_is_scored_under_its_name_and_leaves_costs_alone(place, tmp_path):
    """Here it is the pictures of one's own test split, listed as MSCOCO lists them."""
    record = json.loads((place / "gp" / "record.json").read_text())
    images = open_captions(place / "scenes").split("test")
    listed = {
        "images": [{"id": n, "file_name": image.name} for n, image in enumerate(images)],
        "annotations": [
            {"id": 9, "image_id": n, "caption": caption}
            for n, image in enumerate(images)
            for caption in image.captions
        ],
    }
    file = tmp_path / "captions_elsewhere.json"
    file.write_text(json.dumps(listed))
    run("evaluate", place / "gp", "--split", "test", "--beam", 3)
    before = json.loads((place / "gp" / "record.json").read_text())
    words = ["--data", file, "--features", place / "features.npz", "--split", "all", "--beam", 3]
    said = run("evaluate", place / "gp", place / "gp.safetensors", *words)
    after = json.loads((place / "gp" / "record.json").read_text())
    elsewhere = after["scores"].pop("elsewhere: all/beam 3")
    # NumPy's products round by where their operands lie in memory.
    assert elsewhere == pytest.approx(before["scores"]["test/beam 3"], rel=1e-12)
    assert after == before != record
    assert said.count("ms per caption") == 1  # of the packed model, which never learnt from any


def test_packed_captioners_are_scored_as_runs_are(place):
    data = ["--data", place / "scenes", "--features", place / "features.npz"]
    words = ["--split", "test", "--beam", 2, *data]
    packed = without_torch("evaluate", place / "gp.safetensors", *words)
    assert "growprune.runtime" in packed
    trained = run("evaluate", place / "gp", *words)

    def scores(said):
        return re.findall(r"test.*\d\.\d\d\d", said)

    assert len(scores(trained)) == 1
    assert re.findall(r"[\d.]+", scores(packed)[0]) == re.findall(r"[\d.]+", scores(trained)[0])
    both = run("evaluate", place / "gp", place / "gp.safetensors", *words)
    assert both.count("ms per caption") == 2


def test_int8_models_are_smaller(place):
    small = place / "small.safetensors"
    run("export", place / "gp", "-o", small, "--weights", "int8", "--layout", "dense")
    run("export", place / "gp", "-o", place / "dense.safetensors", "--layout", "dense")
    assert small.stat().st_size < 0.7 * (place / "dense.safetensors").stat().st_size
    run("caption", small, "--features", place / "features.npz")


def test_bench_times_every_part(place, tmp_path):
    figures = tmp_path / "bench.json"
    run("bench", place / "gp.safetensors", "--steps", 3, "--rounds", 1, "--json", figures)
    rows = json.loads(figures.read_text())["rows"]
    parts = [row["part"] for row in rows if row["time"] == 1]
    assert parts == ["image", "embedding", "recurrent.l0", "output", "main network"]
    for row in rows:
        exact = {name: d for name, d in row["differences"].items() if "int8" not in name}
        assert max(exact.values()) < 1e-4


def test_what_cannot_be_done_is_said(place, pictures, tmp_path, capsys):
    model, run_folder = place / "gp.safetensors", place / "gp"
    data = ["--data", place / "scenes"]
    assert "encoder 'tiny' is not known" in fails(capsys, "caption", model, pictures[0])
    other = write_encoder(tmp_path / "other.onnx", name="other")
    said = fails(capsys, "caption", model, pictures[0], "--encoder", other)
    assert f"{other}: its name is 'other', but the captioner was trained with an encoder" in said
    none = tmp_path / "none"
    assert f"{none}: no such file" in fails(capsys, "caption", none, pictures[0])
    assert f"{none}: no such file" in fails(
        capsys, "caption", model, pictures[0], "--encoder", none
    )
    assert f"{none}: no such file" in fails(capsys, "caption", model, "--features", none)
    assert "not a run" in fails(capsys, "caption", tmp_path, pictures[0])
    assert "'captioning'" in fails(capsys, "transcribe", model, "a.wav")
    assert "does not know its corpus; name one with --data" in fails(capsys, "evaluate", model)
    assert "does not know its features; name them" in fails(capsys, "evaluate", model, *data)
    assert "only recognisers take --lm-order" in fails(
        capsys, "export", run_folder, "-o", tmp_path / "x", "--lm-order", 2
    )
    assert "no holdout split" in fails(capsys, "evaluate", run_folder, "--split", "holdout")


def test_features_of_another_width_or_encoder_are_refused(place, tmp_path, capsys):
    model = place / "gp.safetensors"
    wide = tmp_path / "wide.npz"
    np.savez(wide, names=np.array(["a"]), features=np.zeros((1, WIDTH + 1), np.float32))
    said = fails(capsys, "caption", model, "--features", wide)
    assert f"{wide}: features are 13 wide, but the model takes 12" in said
    from growprune.data import FeatureWriter

    FeatureWriter(tmp_path / "table", WIDTH, {"name": "other", "pool": 2})
    said = fails(capsys, "caption", model, "--features", tmp_path / "table")
    assert "encoder name 'other', but the captioner was trained with 'tiny'" in said


def test_recognisers_and_captioners_are_told_apart(place, trained, capsys):
    said = fails(capsys, "evaluate", place / "gp", trained)
    assert f"{trained} writes transcripts and {place / 'gp'} captions" in said
    assert "'speech'" in fails(capsys, "caption", trained, "a.jpg")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["caption", "gp.safetensors"], "name pictures, or folders of them"),
        (["caption", "gp.safetensors", "a.jpg", "--temperature", "0"], "must be above 0"),
        (["caption", "gp.safetensors", "a.jpg", "--temperature", "nan"], "must be above 0"),
        (
            ["caption", "gp.safetensors", "--features", "features.npz", "--encoder", "tiny.onnx"],
            "leave out --encoder",
        ),
        (["evaluate", "gp", "--lm-order", "2"], "--lm-order is for recognisers"),
    ],
)
def test_options_that_do_not_go_together(place, words, complaint, monkeypatch):
    monkeypatch.chdir(place)
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, words)
    assert result.exit_code == 2
    assert complaint in result.output


def test_the_default_encoder_is_found_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GROWPRUNE_CACHE", str(tmp_path))
    path = write_encoder(lite0_path(2), name=LITE0)
    assert os.path.commonpath([path, tmp_path]) == str(tmp_path)
    encoder = open_encoder(LITE0, 2)
    assert isinstance(encoder, ImageEncoder)
    assert encoder.path == path
    wanted = {"name": LITE0, "pool": 2, "width": WIDTH}
    assert encoder_for(wanted).width == WIDTH
    with pytest.raises(DataError, match="has pool 1 or 2, not 3"):
        open_encoder(LITE0, 3)
    with pytest.raises(DataError, match="torchvision:vgg16 has pool 1, not 2"):
        open_encoder("torchvision:vgg16", 2)


def test_an_encoder_that_has_to_be_built_needs_torch(place, pictures, tmp_path, monkeypatch):
    """A captioner of the default encoder, where neither its file nor torch is there."""
    from dataclasses import replace

    from growprune import runtime
    from growprune.runtime.packed_file import read

    packed = read(place / "gp.safetensors")
    info = dict(packed.info) | {"encoder": {"name": LITE0, "pool": 1, "width": WIDTH}}
    runtime.write(tmp_path / "model.safetensors", replace(packed, info=info))
    monkeypatch.setenv("GROWPRUNE_CACHE", str(tmp_path / "cache"))
    said = without_torch("caption", tmp_path / "model.safetensors", pictures[0], status=1)
    assert said.startswith(f"error: encoder {LITE0} needs torch, which is not installed")
    assert said.count("\n") == 1
