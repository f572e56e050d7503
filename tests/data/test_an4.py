import os
import re
import shutil
import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from growprune.data import (
    AN4_DEV_SPEAKERS,
    Alphabet,
    audio_seconds,
    check_utterances,
    download_an4,
    open_corpus,
    read_an4,
    verify_an4,
)
from growprune.data import an4 as module
from growprune.errors import DataError

DATA = Path(os.environ.get("GROWPRUNE_DATA", Path(__file__).parents[3] / "shared" / "data"))
REAL = DATA / "an4"
needs_an4 = pytest.mark.skipif(not REAL.is_dir(), reason=f"the AN4 corpus is not at {REAL}")

TRAIN = [
    ("an4_clstk/fash/an251-fash-b", "<s> YES </s> (an251-fash-b)"),
    ("an4_clstk/fejs/cen1-fejs-b", "<s> D A V I S </s> (cen1-fejs-b)"),
    ("an4_clstk/mcrt/an9-mcrt-b", "<s> ENTER FIVE ZERO </s> (an9-mcrt-b)"),
]
TEST = [("an4test_clstk/fcaw/an406-fcaw-b", "RUBOUT G M E F THREE NINE (an406-fcaw-b)")]


def make_an4(folder, suffix=".sph"):
    """A corpus of four utterances in the official layout."""
    rng = np.random.default_rng(0)
    (folder / "etc").mkdir(parents=True)
    for split, entries in (("train", TRAIN), ("test", TEST)):
        names, lines = zip(*entries, strict=True)
        (folder / "etc" / f"an4_{split}.fileids").write_text("\n".join(names) + "\n")
        (folder / "etc" / f"an4_{split}.transcription").write_text("\n".join(lines) + "\n")
        for name in names:
            path = folder / "wav" / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            samples = rng.integers(-3000, 3000, 16_000).astype(np.int16)
            kind = {".sph": "NIST", ".flac": "FLAC", ".wav": "WAV"}[suffix]
            soundfile.write(path, samples, 16_000, format=kind, subtype="PCM_16")
    return folder


@pytest.fixture
def official(tmp_path, monkeypatch):
    """The mini corpus, taken for the official one."""
    folder = make_an4(tmp_path / "official")
    monkeypatch.setattr(module, "AN4_DIGEST", module.an4_digest(folder))
    return folder


@pytest.mark.parametrize("suffix", [".sph", ".flac", ".wav"])
def test_official_layout_is_read(tmp_path, suffix):
    folder = make_an4(tmp_path / "an4", suffix)
    corpus = read_an4(folder)
    assert corpus.name == "an4"
    assert [u.text for u in corpus.split("train")] == ["YES"]
    assert [u.text for u in corpus.split("dev")] == ["D A V I S", "ENTER FIVE ZERO"]
    (test,) = corpus.split("test")
    assert (test.id, test.text, test.speaker) == (
        "an406-fcaw-b",
        "RUBOUT G M E F THREE NINE",
        "fcaw",
    )
    assert test.audio == folder / f"wav/an4test_clstk/fcaw/an406-fcaw-b{suffix}"


def test_digest_is_of_the_samples_not_of_their_file_format(official, tmp_path):
    verify_an4(official)
    verify_an4(make_an4(tmp_path / "flac", ".flac"))
    verify_an4(make_an4(tmp_path / "wav", ".wav"))


def test_one_changed_sample_is_found(official):
    path = official / f"wav/{TRAIN[1][0]}.sph"
    samples, rate = soundfile.read(path, dtype="int16")
    samples[77] += 1
    soundfile.write(path, samples, rate, format="NIST", subtype="PCM_16")
    with pytest.raises(DataError, match=r"differs from the official AN4 corpus .*fetch it again"):
        verify_an4(official)


def test_changed_transcript_is_found(official):
    path = official / "etc" / "an4_train.transcription"
    path.write_text(path.read_text().replace("YES", "NO"))
    with pytest.raises(DataError, match="differs from the official AN4 corpus"):
        verify_an4(official)


def test_gaps_in_the_layout_are_named(tmp_path):
    with pytest.raises(DataError, match=r"an4_train\.fileids: cannot be read"):
        read_an4(tmp_path)
    folder = make_an4(tmp_path / "an4")
    (folder / f"wav/{TRAIN[0][0]}.sph").unlink()
    with pytest.raises(DataError, match=r"an251-fash-b\.sph: no such file, nor with \.flac or"):
        read_an4(folder)
    lines = folder / "etc" / "an4_train.transcription"
    text = lines.read_text()
    lines.write_text(text + "NO (x)\n")
    with pytest.raises(DataError, match=r"fileids has 3 lines but an4_train\.transcription 4"):
        read_an4(folder)
    lines.write_text(text.replace("(an251-fash-b)", "(an252-fash-b)"))
    with pytest.raises(DataError, match="does not belong to an4_clstk/fash/an251-fash-b"):
        read_an4(folder)


def archive_of(folder, path, name="an4"):
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, name)
    return path.as_uri()


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


def test_download_unpacks_and_verifies(official, tmp_path):
    url = archive_of(official, tmp_path / "an4_sphere.tar.gz")
    calls = []
    target = tmp_path / "new" / "corpus"
    missing = (tmp_path / "missing.tar.gz").as_uri()
    found = download_an4(target, lambda *call: calls.append(call), urls=(missing, url))
    assert found == target
    assert [u.text for u in read_an4(target).split("train")] == ["YES"]
    size = (tmp_path / "an4_sphere.tar.gz").stat().st_size
    assert calls[-1] == (size, size)
    assert all(first[0] < second[0] for first, second in pairwise(calls))
    assert leftovers(tmp_path / "new") == ["corpus"]
    shutil.rmtree(official)
    assert download_an4(target, urls=()) == target


def test_unreachable_network_says_what_to_fetch_and_where_to_put_it(tmp_path):
    target = tmp_path / "new" / "an4"
    url = (tmp_path / "missing.tar.gz").as_uri()
    expected = f"could not be downloaded .*Fetch {re.escape(url)} .*folder an4 to {target}$"
    with pytest.raises(DataError, match=expected):
        download_an4(target, urls=(url,))
    assert leftovers(tmp_path / "new") == []


def test_other_contents_leave_no_folder(official, tmp_path):
    (official / "etc" / "an4_test.transcription").write_text("HELLO (an406-fcaw-b)\n")
    url = archive_of(official, tmp_path / "a.tar.gz")
    with pytest.raises(DataError, match=r"is not the official AN4 \(contents have SHA-256"):
        download_an4(tmp_path / "new" / "an4", urls=(url,))
    assert leftovers(tmp_path / "new") == []


@pytest.mark.parametrize("damage", ["not an archive", "cut short", "corrupt", "escapes", "other"])
def test_broken_or_hostile_archives_are_refused(official, tmp_path, damage):
    path = tmp_path / "a.tar.gz"
    url = archive_of(official, path, "../../evil" if damage == "escapes" else "an4")
    if damage == "not an archive":
        path.write_text("<html>please log in</html>")
    if damage == "corrupt":
        content = bytearray(path.read_bytes())
        content[30_000:30_100] = bytes(100)
        path.write_bytes(content)
    if damage == "other":
        url = archive_of(tmp_path / "official" / "etc", path, "etc")
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"is not the official AN4 \(.*by hand$"):
        download_an4(tmp_path / "new" / "an4", urls=(url,))
    assert leftovers(tmp_path / "new") == []
    assert not list(tmp_path.glob("**/evil"))


@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")  # newer ones say it
@pytest.mark.parametrize("name", ["an4", "../../evil"])
def test_archives_are_unpacked_as_safely_by_early_pythons(official, tmp_path, monkeypatch, name):
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    url = archive_of(official, tmp_path / "a.tar.gz", name)
    if name == "an4":
        assert (download_an4(tmp_path / "new" / "an4", urls=(url,)) / "etc").is_dir()
        return
    with pytest.raises(DataError, match="is no file or folder inside the archive"):
        download_an4(tmp_path / "new" / "an4", urls=(url,))
    assert not list(tmp_path.glob("**/evil"))


def test_existing_folder_is_checked_and_kept(official):
    assert download_an4(official, urls=()) == official
    (official / "etc" / "an4_test.transcription").write_text("HELLO (an406-fcaw-b)\n")
    with pytest.raises(DataError, match="differs from the official"):
        download_an4(official, urls=())


@needs_an4
def test_real_corpus_is_the_official_one():
    verify_an4(REAL)


@needs_an4
def test_real_splits():
    splits = open_corpus(REAL).splits
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 844,
        "dev": 104,
        "test": 130,
    }
    speakers = {name: {u.speaker for u in split} for name, split in splits.items()}
    assert {name: len(found) for name, found in speakers.items()} == {
        "train": 66,
        "dev": 8,
        "test": 10,
    }
    assert not speakers["train"] & speakers["dev"]
    assert not (speakers["train"] | speakers["dev"]) & speakers["test"]
    assert speakers["dev"] == set(AN4_DEV_SPEAKERS)
    ids = [u.id for split in splits.values() for u in split]
    assert len(set(ids)) == 1078


@needs_an4
def test_real_dev_speakers_follow_their_rule():
    splits = read_an4(REAL).splits
    counts = {}
    for utterance in splits["train"] + splits["dev"]:
        counts[utterance.speaker] = counts.get(utterance.speaker, 0) + 1
    usual = sorted(s for s, count in counts.items() if count == 13 and not s[-1].isdigit())
    chosen = []
    for sex in "fm":
        group = [speaker for speaker in usual if speaker.startswith(sex)]
        chosen += [group[odd * len(group) // 8] for odd in (1, 3, 5, 7)]
    assert tuple(chosen) == AN4_DEV_SPEAKERS


@needs_an4
def test_real_durations_and_letters():
    splits = read_an4(REAL).splits
    training = splits["train"] + splits["dev"]
    assert sum(audio_seconds(u.audio) for u in training) == pytest.approx(2546.3, abs=0.05)
    assert sum(audio_seconds(u.audio) for u in splits["test"]) == pytest.approx(357.0, abs=0.05)
    assert sum(len(u.text.split()) for u in training) == 5442
    assert sum(len(u.text.split()) for u in splits["test"]) == 773
    letters = Alphabet(" ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    check_utterances(training + splits["test"], letters, 25.0)
