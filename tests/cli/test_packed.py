import json
from itertools import pairwise

import pytest
import soundfile
from program import fails, run, without_torch
from safetensors import safe_open
from small_recognizers import SMALL, pack, packed, speechlike, talkative

from growprune.decoding import Decoder, language_model
from growprune.tasks import open_recipe

LM = language_model(["ONE TWO", "GO ON"], order=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Recordings, and packed recognisers that find a lot in them."""
    folder = tmp_path_factory.mktemp("packed")
    info = {"language_model": LM.to_json()}
    for name, recipe in (("both-ways", "demo-hlstm-gp"), ("causal", "an4-hlstm-gp-streaming")):
        trained = talkative(open_recipe(recipe, SMALL))
        pack(trained, info).save(folder / f"{name}.safetensors")
    for number in range(2):
        soundfile.write(folder / f"{number}.wav", speechlike(1.5, number), 16_000)
    return folder


@pytest.fixture(scope="module")
def causal(folder):
    return packed(talkative(open_recipe("an4-hlstm-gp-streaming", SMALL)))


def test_a_packed_file_is_transcribed_without_torch(folder):
    files = [folder / "0.wav", folder / "1.wav"]
    model = folder / "both-ways.safetensors"
    trained = talkative(open_recipe("demo-hlstm-gp", SMALL))
    lines = without_torch("transcribe", model, *files).splitlines()
    texts = [trained.transcribe(file).text for file in files]
    assert lines == [f"{file}\t{text}" for file, text in zip(files, texts, strict=True)]
    assert all(len(text) > 5 for text in texts)


def test_options_work_as_for_a_run(folder):
    model, file = folder / "both-ways.safetensors", folder / "0.wav"
    trained = talkative(open_recipe("demo-hlstm-gp", SMALL))
    found = json.loads(run("transcribe", model, file, "--json"))
    wanted = trained.transcribe(file)
    assert [word["word"] for word in found["words"]] == [word.text for word in wanted.words]
    for word, given in zip(found["words"], wanted.words, strict=True):
        assert (word["start"], word["end"]) == (round(given.start, 3), round(given.end, 3))
    line = run("transcribe", model, file, "--beam", 20, "--lm-order", 2)
    decoder = Decoder(20, LM.shortened(2))
    assert line == f"{file}\t{trained.transcribe(file, decoder).text}\n"


def test_a_stream_writes_what_the_whole_file_gives(folder, causal):
    model, files = folder / "causal.safetensors", [folder / "0.wav", folder / "1.wav"]
    assert run("transcribe", model, *files, "--stream") == run("transcribe", model, *files)
    lines = run("transcribe", model, files[0], "--stream", "--json").splitlines()
    *growing, final = map(json.loads, lines)
    offline = json.loads(run("transcribe", model, files[0], "--json"))
    assert final == offline | {"seconds": 1.5, "final": True}
    assert len(growing) > 3
    texts = [line["text"] for line in growing]
    assert all(after.startswith(before) for before, after in pairwise(texts))
    assert not any(line["final"] for line in growing)
    assert 0 < growing[0]["seconds"] < growing[-1]["seconds"] <= 1.5
    with_lm = run("transcribe", model, files[0], "--stream", "--json", "--lm-order", 3)
    wanted = causal.transcribe(files[0], Decoder(16, LM)).text
    assert json.loads(with_lm.splitlines()[-1])["text"] == wanted


def test_standard_input_may_be_wav_or_raw(folder):
    model, file = folder / "causal.safetensors", folder / "0.wav"
    wanted = run("transcribe", model, file).partition("\t")[2]
    wav = file.read_bytes()
    raw, _ = soundfile.read(file, dtype="int16")
    for given in (wav, raw.astype("<i2").tobytes()):
        assert without_torch("transcribe", model, "-", "--stream", given=given) == f"-\t{wanted}"


def test_a_bad_file_in_a_stream_does_not_stop_the_others(folder, tmp_path, capsys):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"not audio")
    words = ["transcribe", folder / "causal.safetensors", bad, folder / "0.wav", "--stream"]
    from growprune.cli.app import main

    with pytest.raises(SystemExit):
        main([str(word) for word in words])
    captured = capsys.readouterr()
    assert "1 of 2 files could not be transcribed" in captured.err
    assert captured.out.splitlines()[1].startswith(f"{folder / '0.wav'}\t")


def test_what_cannot_be_done_is_said(folder, trained, capsys):
    both, file = folder / "both-ways.safetensors", folder / "0.wav"
    assert "cannot stream" in fails(capsys, "transcribe", both, file, "--stream")
    assert "growprune export RUN" in fails(capsys, "transcribe", trained, file, "--stream")
    assert "name one with --data" in fails(capsys, "evaluate", both)
    assert "no such file" in fails(capsys, "transcribe", folder / "none", file)
    assert "no such file" in fails(capsys, "bench", folder / "none")
    assert "not a run" in fails(capsys, "export", folder, "-o", folder / "x.safetensors")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [(["-"], "is read with --stream"), (["a.wav", "--stream", "--beam", "2"], "add --json")],
)
def test_options_that_do_not_go_together(folder, words, complaint):
    from typer.testing import CliRunner

    from growprune.cli.app import app

    runner = CliRunner(env={"COLUMNS": "200"})
    result = runner.invoke(app, ["transcribe", str(folder / "causal.safetensors"), *words])
    assert result.exit_code == 2
    assert complaint in result.output


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "model.safetensors"
    return out, run("export", trained, "-o", out, "--lm-order", 2)


def test_export_packs_a_run_and_says_how(exported, trained, corpus):
    out, said = exported
    assert "recurrent.layers.0.weight_hh_l0" in said
    assert f"growprune transcribe {out}" in said
    record = json.loads((trained / "record.json").read_text())
    with safe_open(out, "numpy") as file:
        description = json.loads(file.metadata()["growprune"])
    active = {row["name"]: row["active"] for row in record["matrices"]}
    packed_active = {name: row["active"] for name, row in description["matrices"].items()}
    assert sum(packed_active.values()) == sum(active.values())
    assert description["info"]["provenance"]["seed"] == 3
    assert description["info"]["language_model"]["order"] == 2
    row = corpus[1].split("test")[0]
    assert run("transcribe", out, row.audio) == run("transcribe", trained, row.audio)
    run("transcribe", out, row.audio, "--lm-order", 2)


def test_export_options_decide_on_layout_and_weights(trained, tmp_path):
    out = tmp_path / "model.safetensors"
    run("export", trained, "-o", out, "--layout", "csr", "--weights", "int8")
    with safe_open(out, "numpy") as file:
        description = json.loads(file.metadata()["growprune"])
        kinds = {file.get_slice(name).get_dtype() for name in file.keys() if ":values" in name}  # noqa: SIM118
    assert {matrix["layout"] for matrix in description["matrices"].values()} == {"csr"}
    assert kinds == {"I8"}


def test_evaluate_scores_a_packed_file_as_its_run(exported, trained, corpus):
    out, _ = exported
    said = run("evaluate", out, trained, "--data", corpus[0], "--split", "test", "--show", 0)
    tables = [line.split("│") for line in said.splitlines() if "│ test" in line.replace("  ", " ")]
    rates = [[cell.strip() for cell in line[1:-1]] for line in tables]
    assert len(rates) == 2
    assert rates[0] == rates[1]
    assert said.count("ms per utterance") == 2
    run("evaluate", out, "--data", corpus[0], "--split", "test", "--beam", 4, "--lm-order", 2)


def test_evaluate_of_packed_files_needs_no_torch(exported, corpus):
    said = without_torch("evaluate", exported[0], "--data", corpus[0], "--split", "dev")
    assert "growprune.runtime" in said


def test_bench_times_every_part_in_every_engine(exported, tmp_path):
    figures = tmp_path / "bench.json"
    said = run("bench", exported[0], "--steps", 5, "--rounds", 1, "--json", figures)
    assert "left out" not in said
    record = json.loads(figures.read_text())
    rows = record["rows"]
    assert record["threads"] == 1
    assert rows[-1]["part"] == "whole model"
    assert {row["time"] for row in rows} == {1, 5}
    for row in rows:
        engines = row["seconds_per_step"]
        assert {"growprune", "growprune, dense", "torch", "onnxruntime", "OpenVINO"} <= set(engines)
        assert all(seconds["median"] > 0 for seconds in engines.values())
        exact = {name: d for name, d in row["differences"].items() if "int8" not in name}
        assert max(exact.values()) < 1e-4
    lstm = next(row for row in rows if row["kind"] == "lstm")
    assert "onnxruntime, plain LSTM" in lstm["seconds_per_step"]
    assert 0 < lstm["active"] < lstm["connections"]


def test_bench_names_what_is_not_installed(exported, monkeypatch):
    from growprune.bench import engines
    from growprune.bench import packed as bench

    def absent(*packages):
        return tuple(name for name in packages if name != "onnx")

    monkeypatch.setattr(engines, "missing", absent)
    monkeypatch.setattr(bench, "missing", absent)
    said = run("bench", exported[0], "--steps", 2, "--rounds", 1)
    assert "left out: torch (pip install torch)" in said
    assert "left out: OpenVINO (pip install openvino)" in said
    assert "growprune, dense" in said
