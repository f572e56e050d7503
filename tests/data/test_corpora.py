import numpy as np
import pytest
import soundfile

from growprune.data import (
    CORPORA,
    Alphabet,
    Utterance,
    open_corpus,
    prepare,
    read_manifest,
    write_manifest,
)
from growprune.data import corpora as module
from growprune.errors import DataError

LETTERS = Alphabet(" ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@pytest.fixture
def folder(tmp_path):
    """Two splits of one recording each, at another rate than the features want."""
    source = tmp_path / "mine"
    for seconds, split in ((1, "train"), (2, "test")):
        path = source / f"{split}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.sin(np.arange(8000 * seconds)), 8000)
        write_manifest(source / f"{split}.jsonl", [Utterance(split, path, f"SAY {split}")])
    return source


def test_folder_of_manifests_is_opened(folder):
    corpus = open_corpus(folder)
    assert corpus.name == "mine"
    assert list(corpus.splits) == ["train", "test"]
    assert corpus.split("train")[0].text == "SAY train"


def test_an4_is_recognised_beside_or_inside_its_archive_folder(tmp_path):
    etc = tmp_path / "an4" / "etc"
    etc.mkdir(parents=True)
    for split in ("train", "test"):
        (etc / f"an4_{split}.fileids").write_text("")
        (etc / f"an4_{split}.transcription").write_text("")
    assert open_corpus(tmp_path / "an4").name == "an4"
    assert open_corpus(tmp_path).name == "an4"


def test_no_corpus_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        open_corpus(tmp_path / "none")
    with pytest.raises(DataError) as caught:
        open_corpus(tmp_path)
    for name in ("etc/an4_train.fileids", "train.jsonl", "dev.jsonl", "test.jsonl"):
        assert name in str(caught.value)


def test_prepare_measures_and_writes(folder, tmp_path):
    corpus = prepare(folder, tmp_path / "out", alphabet=LETTERS)
    assert [u.duration for u in corpus.split("train")] == [1.0]
    assert [u.duration for u in corpus.split("test")] == [2.0]
    assert open_corpus(tmp_path / "out").splits == corpus.splits
    assert read_manifest(tmp_path / "out" / "test.jsonl")[0].audio == folder / "test.wav"


@pytest.mark.parametrize(
    ("text", "samples", "message"),
    [
        ("SAY 5", np.sin(np.arange(8000)), r"test\.wav: transcript 'SAY 5' has '5'"),
        ("SAY", np.zeros(8000), r"test\.wav: silent"),
    ],
)
def test_prepare_writes_nothing_if_anything_is_wrong(folder, tmp_path, text, samples, message):
    soundfile.write(folder / "test.wav", samples, 8000)
    write_manifest(folder / "test.jsonl", [Utterance("test", folder / "test.wav", text)])
    with pytest.raises(DataError, match=message):
        prepare(folder, tmp_path / "out", alphabet=LETTERS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["an4", "spoken"])
def test_prepare_fetches_known_corpora_into_their_own_folder(folder, tmp_path, monkeypatch, name):
    out, calls = tmp_path / "out", []

    def fetch(target, progress=None):
        assert target == out / name
        folder.rename(out / name)
        progress(5, 10)
        return target

    out.mkdir()
    known = {"an4": "download_an4", "spoken": "make_corpus"}
    assert {corpus.name for corpus in CORPORA if not corpus.by_hand} == set(known)
    monkeypatch.setattr(module, known[name], fetch)
    corpus = prepare(name, out, progress=lambda *call: calls.append(call))
    assert calls == [(5, 10), (1, 2), (2, 2)]
    (utterance,) = read_manifest(out / "train.jsonl")
    assert utterance.audio == out / name / "train.wav"
    assert utterance == corpus.split("train")[0]


def test_unknown_source_names_the_known_ones(tmp_path):
    with pytest.raises(DataError, match="wsj: neither a folder nor a known corpus; known are an4"):
        prepare("wsj", tmp_path)


@pytest.mark.parametrize("name", ["coco", "flickr8k"])
def test_what_is_fetched_by_hand_says_what_and_where_to(tmp_path, name):
    with pytest.raises(DataError, match=f"{name} is fetched by hand and needs no preparing: ") as e:
        prepare(name, tmp_path)
    (corpus,) = (corpus for corpus in CORPORA if corpus.name == name)
    assert all(step in str(e.value) for step in corpus.by_hand)
    assert "\n" not in str(e.value)
    assert any("https://" in step or "http://" in step for step in corpus.by_hand)
    assert f"growprune data features {name}" in corpus.by_hand[-1]
    assert not list(tmp_path.iterdir())
