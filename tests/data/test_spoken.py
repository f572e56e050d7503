"""The synthetic corpus: what is written is what is spoken, and splits share nothing."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile

from growprune.data import spoken
from growprune.data.manifest import read_manifest
from growprune.errors import DataError

SIZES = {"train": 12, "dev": 4, "test": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("spoken") / "corpus"


@pytest.fixture(scope="module")
def corpus(folder):
    return spoken.make_corpus(folder, seed=3, **SIZES)


def test_sentences_are_distinct_and_of_known_words():
    drawn = list(islice(spoken.sentences(0), 2000))
    assert len(set(drawn)) == 2000
    words = {word for sentence in drawn for word in sentence.split()}
    assert words == spoken.VOCABULARY
    assert 60 <= len(words) <= 80


def test_sentences_follow_from_the_seed():
    first, again, other = (list(islice(spoken.sentences(seed), 50)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, []),
        (7, ["SEVEN"]),
        (10, ["TEN"]),
        (19, ["NINETEEN"]),
        (20, ["TWENTY"]),
        (21, ["TWENTY", "ONE"]),
        (99, ["NINETY", "NINE"]),
    ],
)
def test_numbers_in_words(number, words):
    assert spoken._below_hundred(number) == words


def test_letters_that_are_words_are_given_as_phonemes():
    assert spoken.spoken_form("A D A M I TEN") == "[['eI]] D [['eI]] M [['aI]] ten"


def test_sizes_and_text(corpus):
    assert {split: len(utterances) for split, utterances in corpus.splits.items()} == SIZES
    texts = [u.text for utterances in corpus.splits.values() for u in utterances]
    assert texts == list(islice(spoken.sentences(3), sum(SIZES.values())))


def test_splits_share_no_sentence_and_no_voice(corpus):
    for attribute in ("text", "speaker"):
        sets = [{getattr(u, attribute) for u in split} for split in corpus.splits.values()]
        assert len(set.union(*sets)) == sum(len(values) for values in sets)


def test_variants_are_listed_once():
    variants = [variant for split in spoken._VARIANTS.values() for variant in split]
    assert len(variants) == len(set(variants))


def test_every_variant_exists_and_has_no_random_breath():
    folder = Path(spoken.espeak._locate()[1]) / "voices" / "!v"
    for variant in (v for split in spoken._VARIANTS.values() for v in split):
        lines = (folder / variant).read_text(encoding="utf-8").splitlines()
        assert not any(line.startswith("breath ") for line in lines), variant


def test_audio_is_16_khz_and_as_long_as_the_manifest_says(corpus):
    for utterance in (u for split in corpus.splits.values() for u in split):
        info = soundfile.info(utterance.audio)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert info.duration == pytest.approx(utterance.duration)
        samples, _ = soundfile.read(utterance.audio)
        # The gain puts the peak 1 to 12 dB below full scale.
        assert 10 ** (-12 / 20) - 1e-3 < np.abs(samples).max() < 10 ** (-1 / 20) + 1e-3


def test_manifests_are_relative_to_the_folder(corpus, folder):
    for split, utterances in corpus.splits.items():
        assert read_manifest(folder / f"{split}.jsonl") == tuple(utterances)
        for line in (folder / f"{split}.jsonl").read_text().splitlines():
            assert json.loads(line)["audio_filepath"].startswith(f"wav/{split}/")


def test_another_process_makes_the_same_corpus(corpus, tmp_path):
    program = (
        "import sys\nfrom growprune.data.spoken import digest, make_corpus\n"
        f"print(digest(make_corpus(sys.argv[1], seed=3, **{SIZES!r})))"
    )
    other = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "other")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stderr == ""
    assert other.stdout.strip() == spoken.digest(corpus)


def test_digest_sees_sound_and_text(tmp_path):
    corpus = spoken.make_corpus(tmp_path, **dict.fromkeys(SIZES, 1))
    before = spoken.digest(corpus)
    audio = corpus.splits["dev"][0].audio
    samples, rate = soundfile.read(audio, dtype="int16")
    samples[100] ^= 1
    soundfile.write(audio, samples, rate, subtype="PCM_16")
    assert spoken.digest(corpus) != before
    samples[100] ^= 1
    soundfile.write(audio, samples, rate, subtype="PCM_16")
    assert spoken.digest(corpus) == before


def test_complete_corpus_is_reused(corpus, folder):
    calls = []
    again = spoken.make_corpus(folder, 3, **SIZES, progress=lambda *count: calls.append(count))
    assert calls == []
    assert again == corpus


def test_other_settings_replace_it_and_report_progress(tmp_path):
    sizes = {"train": 2, "dev": 1, "test": 1}
    old = spoken.make_corpus(tmp_path / "c", seed=0, **sizes)
    before = spoken.digest(old)
    calls = []
    new = spoken.make_corpus(tmp_path / "c", 1, **sizes, progress=lambda *n: calls.append(n))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert spoken.digest(new) != before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_foreign_files_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="holds other files"):
        spoken.make_corpus(tmp_path, train=1, dev=1, test=1)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_interrupted_synthesis_leaves_the_old_corpus(tmp_path):
    sizes = {"train": 2, "dev": 1, "test": 1}
    old = spoken.make_corpus(tmp_path / "c", seed=0, **sizes)
    before = spoken.digest(old)

    def interrupt(done: int, _total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spoken.make_corpus(tmp_path / "c", seed=1, **sizes, progress=interrupt)
    assert spoken.digest(old) == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_full_disk_is_reported_and_cleaned_up(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spoken.soundfile, "write", fail)
    with pytest.raises(DataError, match=r"No space left on device.*free some space"):
        spoken.make_corpus(tmp_path / "c", train=1, dev=1, test=1)
    assert list(tmp_path.iterdir()) == []


def test_empty_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1 utterance"):
        spoken.make_corpus(tmp_path / "c", dev=0)
