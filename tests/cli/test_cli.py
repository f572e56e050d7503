import hashlib
import json
import os
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
import typer
from program import TINY, fails, run
from safetensors.torch import load_file

from growprune import __version__
from growprune.cli.app import app, main
from growprune.data.spoken import make_corpus

COMMANDS = [
    "data list", "data prepare", "data features", "data align", "train", "evaluate", "transcribe",
    "caption", "export", "bench", "report", "demo",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command):
    output = " ".join(run(*command.split(), "--help").split())
    assert f"Example: growprune {command}" in output


@pytest.mark.parametrize(("words", "example"), [((), "demo"), (("data",), "data list")])
def test_groups_of_commands_have_an_example_too(words, example):
    assert f"Example: growprune {example}" in " ".join(run(*words, "--help").split())


def test_the_list_of_commands_is_complete():
    group = typer.main.get_command(app)
    names = set()
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        names |= {f"{name} {sub}" for sub in inner} if inner else {name}
    assert names == set(COMMANDS)


def test_a_run_records_everything_its_figures_depend_on(trained):
    record = json.loads((trained / "record.json").read_text())
    assert record["seed"] == 3
    assert record["recipe"]["training"]["epochs"] == 4
    assert record["versions"]["growprune"] == __version__
    assert record["data"]["splits"]["train"]["utterances"] == 12
    assert [entry["phase"] for entry in record["epochs"]] == ["grow", "prune", "shift", "retrain"]
    active = sum(row["active"] for row in record["matrices"])
    assert active < record["cost"]["weights"]["whole"] < record["cost"]["weights"]["whole_dense"]
    assert list((trained / "tensorboard").glob("events*"))


def test_evaluate_enters_scores_and_latency_in_the_record(trained):
    output = run("evaluate", trained)
    assert "test" in output
    record = json.loads((trained / "record.json").read_text())
    assert record["scores"]["test"].keys() == {"wer", "cer"}
    assert record["latency"]["threads"] == 1
    run("evaluate", trained, "--split", "dev", "--beam", 4, "--lm-order", 2)
    record = json.loads((trained / "record.json").read_text())
    assert "dev/beam 4, 2-gram" in record["scores"]


def test_transcribe_writes_text_or_json_with_times(trained, corpus):
    row = corpus[1].split("test")[0]
    line = run("transcribe", trained, row.audio)
    name, _, text = line.rstrip("\n").partition("\t")
    assert name == str(row.audio)
    found = json.loads(run("transcribe", trained, row.audio, "--json"))
    assert found["text"] == text
    assert " ".join(word["word"] for word in found["words"]) == text
    for word in found["words"]:
        assert 0 <= word["start"] < word["end"] <= row.duration + 0.1


def test_one_bad_file_does_not_stop_the_others(trained, corpus, tmp_path, capsys):
    bad = tmp_path / "noise.wav"
    bad.write_bytes(b"not audio at all")
    with pytest.raises(SystemExit):
        main(["transcribe", str(trained), str(bad), str(corpus[1].split("test")[0].audio)])
    captured = capsys.readouterr()
    assert str(bad) in captured.err.replace("\n", "")
    assert "1 of 2 files could not be transcribed" in captured.err
    assert captured.out.startswith(str(corpus[1].split("test")[0].audio))


def test_report_takes_settings_younger_than_a_record_at_their_defaults(trained, tmp_path):
    older = json.loads((trained / "record.json").read_text())
    older["seed"] += 1
    del older["recipe"]["model"]["recurrent"]["cell"]
    (tmp_path / "older.json").write_text(json.dumps(older))
    output = run("report", trained, tmp_path / "older.json", "--out", tmp_path / "report")
    page = (tmp_path / "report" / "report.md").read_text()
    seeds = f"seeds {older['seed'] - 1}, {older['seed']};"
    assert seeds in page
    assert seeds in " ".join(output.split())


def test_report_draws_tables_and_pictures(trained, tmp_path):
    output = run("report", trained, "--out", tmp_path / "report")
    assert "report.md" in output.replace("\n", "")
    assert (tmp_path / "report" / "report.md").read_text().startswith("#")
    assert len(list((tmp_path / "report").glob("*.png"))) >= 2


def test_data_prepare_writes_checked_manifests(corpus, tmp_path):
    run("data", "prepare", corpus[0], "--out", tmp_path / "manifests")
    lines = (tmp_path / "manifests" / "train.jsonl").read_text().splitlines()
    assert len(lines) == 12
    assert json.loads(lines[0])["duration"] > 0
    assert "an4" in run("data", "list")


def test_words_of_the_training_utterances_are_found_and_mixed(trained, corpus, tmp_path, capsys):
    words = tmp_path / "words.json"
    spoken = {row.id: row for row in corpus[1].split("train")}
    count = sum(len(row.text.split()) for row in spoken.values())
    assert f"{count} words of 12 utterances" in run("data", "align", trained, "--out", words)
    found = json.loads(words.read_text())["utterances"]
    assert found.keys() == spoken.keys()
    for name, spans in found.items():
        assert " ".join(text for text, _, _ in spans) == spoken[name].text
        assert all(one[2] == two[1] for one, two in pairwise(spans))
        assert spans[0][1] == 0.0
        assert spans[-1][2] == pytest.approx(spoken[name].duration, abs=0.05)
    mix = f'data.mix_words={{words="{words}", probability=1.0}}'
    sets = [word for value in ("training.epochs=1", *TINY[:1], mix) for word in ("--set", value)]
    out = tmp_path / "run"
    run("train", "demo-lstm", "--data", corpus[0], "--out", out, *sets)
    record = json.loads((out / "record.json").read_text())
    digest = hashlib.sha256(words.read_bytes()).hexdigest()
    assert record["data"]["words"] == {"file": str(words), "sha256": digest}
    lost = fails(capsys, "train", "demo-lstm", "--data", corpus[0], "--out", tmp_path / "other",
                 "--set", 'data.mix_words={words="none.json"}')  # fmt: skip
    assert "none.json: cannot be used as a file of words" in lost
    assert "not a run" in fails(capsys, "data", "align", tmp_path, "--out", words)


def test_errors_are_one_line_naming_the_thing_and_the_remedy(trained, corpus, tmp_path, capsys):
    folder = str(corpus[0])
    assert "no recipe named 'nope'" in fails(capsys, "train", "nope", "--data", folder)
    missing = str(tmp_path / "none")
    assert missing in fails(capsys, "train", "demo-lstm", "--data", missing)
    wrong = fails(capsys, "train", "demo-lstm", "--data", folder, "--set", "training.epoch=1")
    assert "unknown key 'training.epoch'; did you mean 'epochs'?" in wrong
    taken = fails(capsys, "train", "demo-lstm", "--data", folder, "--out", trained)
    assert "already holds a run" in taken
    assert "not a run" in fails(capsys, "transcribe", tmp_path, tmp_path / "a.wav")
    assert "not a run" in fails(capsys, "evaluate", tmp_path)
    assert "record" in fails(capsys, "report", tmp_path)


def test_a_full_disk_stops_training_with_one_line_and_no_half_file(
    corpus, tmp_path, capsys, small_disk
):
    out = tmp_path / "run"
    sets = [word for value in TINY for word in ("--set", value)]
    words = ["train", "demo-hlstm-gp", "--data", corpus[0], "--out", out, *sets]
    with pytest.raises(SystemExit):
        main([str(word) for word in words])
    written = capsys.readouterr().err
    assert "checkpoint.pt: cannot be written (File too large)" in written
    assert written.count("\n") == 1
    assert {entry.name for entry in out.iterdir()} <= {"tensorboard", "run.json"}


def test_debug_shows_the_trace():
    command = [sys.executable, "-m", "growprune", "--debug", "train", "nope", "--data", "."]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_a_kernel_that_cannot_run_is_one_line():
    command = [sys.executable, "-m", "growprune", "data", "list"]
    for words, trace in ((command, False), ([*command, "--debug"], True)):
        environment = os.environ | {"GROWPRUNE_KERNEL": "nonsense"}
        result = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
        assert result.returncode == 1
        assert "GROWPRUNE_KERNEL is 'nonsense', which cannot run here" in result.stderr
        assert ("Traceback" in result.stderr) == trace
        assert (result.stderr.count("\n") > 1) == trace


def test_version():
    assert run("--version") == f"growprune {__version__}\n"


def test_an_interrupted_run_goes_on_to_the_same_weights(
    trained, corpus, tmp_path, capsys, monkeypatch
):
    from growprune.tasks.speech import SpeechTask

    out = tmp_path / "run"
    sets = [word for value in TINY for word in ("--set", value)]
    words = ["train", "demo-hlstm-gp", "--data", corpus[0], "--out", out, "--seed", 3, *sets]
    words = [*map(str, words), "--resume"]
    load, calls = SpeechTask.load, iter(range(1000))

    def interrupted(self, examples, epoch):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return load(self, examples, epoch)

    monkeypatch.setattr(SpeechTask, "load", interrupted)
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 130
    assert not (out / "record.json").exists()
    assert "with --resume goes on" in capsys.readouterr().out
    run(*words)
    whole, resumed = (load_file(run / "weights.safetensors") for run in (trained, out))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_demo_compares_two_runs_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    from growprune.cli.demo import speech

    names = ("demo-lstm", "demo-hlstm-gp")
    small = [value for value in TINY if not value.startswith(("plan", "model"))]
    for name, sets in zip(names, ([*small, TINY[0]], TINY), strict=True):
        lines = [f'extends = "{name}"', f'name = "{name}"', *sets]
        (tmp_path / f"{name}.toml").write_text("\n".join(lines))
    monkeypatch.setattr(speech, "RECIPES", [str(tmp_path / f"{name}.toml") for name in names])
    monkeypatch.setattr(
        speech, "make_corpus", lambda out, progress: make_corpus(out, 0, train=12, dev=3, test=3)
    )
    out = tmp_path / "demo"
    output = run("demo", "--out", out)
    for row in ("Weights, whole model", "FLOPs per second", "Latency", "Test WER"):
        assert row in output
    assert (out / "report" / "report.md").exists()
    records = [json.loads((out / name / "record.json").read_text()) for name in names]
    assert [record["name"] for record in records] == list(names)
    assert all("test" in record["scores"] for record in records)
    assert all(record["latency"]["engine"].startswith("growprune.runtime") for record in records)
    heard = json.loads((out / "corpus" / "test.jsonl").read_text().splitlines()[0])
    run("transcribe", out / "demo-hlstm-gp.safetensors", out / "corpus" / heard["audio_filepath"])
    before = (out / "demo-lstm" / "weights.safetensors").stat().st_mtime_ns
    run("demo", "--out", out)
    assert (out / "demo-lstm" / "weights.safetensors").stat().st_mtime_ns == before
    run("demo", "--out", out, "--fresh")
    assert (out / "demo-lstm" / "weights.safetensors").stat().st_mtime_ns > before
