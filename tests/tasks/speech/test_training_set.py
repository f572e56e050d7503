from dataclasses import replace

import numpy as np
import pytest
import soundfile

from growprune.data import (
    FeatureSettings,
    Utterance,
    WordSpan,
    extract,
    load_audio,
    log_powers,
    noise_powers,
    normalised,
    speed_perturb,
    warp_frequencies,
    write_words,
)
from growprune.errors import DataError, RecipeError
from growprune.tasks import open_recipe
from growprune.tasks.speech.settings import DataSettings
from growprune.tasks.speech.training_set import FeatureCache, Piece, TrainingSet

FEATURES = FeatureSettings(bands=6)
TEXTS = ("AB", "CA B", "A", "BC", "CAB", "AC")
SPEAKERS = ("x", "y", "x", "y", "z", None)


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    """Two speakers with two utterances, one with one, and one utterance whose speaker is unknown.

    Lengths: 0.6, 0.7, ... seconds.
    """
    folder, rng = tmp_path_factory.mktemp("waves"), np.random.default_rng(0)
    rows = []
    for index, (text, speaker) in enumerate(zip(TEXTS, SPEAKERS, strict=True)):
        path, seconds = folder / f"{index}.wav", 0.6 + 0.1 * index
        loudness = 0.02 * (1 + index)
        soundfile.write(path, loudness * rng.standard_normal(round(16000 * seconds)), 16000)
        rows.append(Utterance(str(index), path, text, seconds, speaker))
    return tuple(rows)


def training_set(utterances, seed=1, stride=4, **settings):
    settings = DataSettings(**{"letters": " ABC", "features": FEATURES} | settings)
    return TrainingSet(
        settings, utterances, FeatureCache(settings.features), lambda n: -(-n // stride), seed
    )


def wave(utterance, speed):
    return speed_perturb(load_audio(utterance.audio), speed)


@pytest.mark.parametrize("normalise", ["utterance", "running", "none"])
def test_features_of_an_utterance_are_those_of_its_wave_when_nothing_is_asked(
    utterances, normalise
):
    features = FEATURES.model_copy(update={"normalise": normalise})
    made = training_set(utterances, features=features, speeds=(0.9, 1.1))
    for index, epoch in ((0, 0), (5, 3)):
        (piece,) = made.pieces(index, epoch)
        np.testing.assert_array_equal(
            made.features(index, epoch), extract(wave(utterances[index], piece.speed), features)
        )
        assert made.text(index, epoch) == TEXTS[index]
        assert made.seconds(index, epoch) == utterances[index].duration / piece.speed


@pytest.mark.parametrize("normalise", ["utterance", "running", "none"])
def test_joined_utterances_are_normalised_as_one_recording(utterances, normalise):
    features = FEATURES.model_copy(update={"normalise": normalise})
    made = training_set(utterances, features=features, concatenate=1.0, speeds=(0.9, 1.0, 1.1))
    for index, partner in ((0, 2), (2, 0), (1, 3), (3, 1)):
        first, second = made.pieces(index, 4)
        assert (first.index, second.index) == (index, partner)
        assert first.speed == second.speed
        rows = [log_powers(wave(utterances[p.index], p.speed), features) for p in (first, second)]
        found = made.features(index, 4)
        np.testing.assert_array_equal(found, normalised(np.concatenate(rows), features))
        assert made.text(index, 4) == f"{TEXTS[index]} {TEXTS[partner]}"
        together = utterances[index].duration + utterances[partner].duration
        assert made.seconds(index, 4) == pytest.approx(together / first.speed)
        assert len(found) == pytest.approx(100 * made.seconds(index, 4) - 3, abs=3)


def test_who_is_alone_or_unknown_is_joined_with_anybody_else(utterances):
    made = training_set(utterances, concatenate=1.0)
    for index in (4, 5):
        partners = {made.pieces(index, epoch)[1].index for epoch in range(80)}
        assert partners == set(range(6)) - {index}
    assert training_set(utterances[:1], concatenate=1.0).pieces(0, 0) == (Piece(0, 1.0),)


def test_as_many_are_joined_as_asked_and_none_beyond_the_limit(utterances):
    made = training_set(utterances, concatenate=0.3)
    joined = sum(len(made.pieces(index, epoch)) - 1 for index in range(6) for epoch in range(500))
    assert joined == pytest.approx(900, abs=4 * (3000 * 0.3 * 0.7) ** 0.5)
    # x's utterances last 1.4 s together, y's 1.6 s.
    short = training_set(utterances, concatenate=1.0, concatenate_seconds=1.5)
    assert [len(short.pieces(index, 0)) for index in range(4)] == [2, 1, 2, 1]


def test_ctc_has_room_for_the_letters_of_both_and_the_space_between(utterances):
    # "AB A" needs 4 output frames. 0.6 and 0.8 s give 58 + 78 feature frames, of which one each is
    # kept in hand: with strides of 44 and 45, 4 and 3 output frames.
    assert len(training_set(utterances, stride=44, concatenate=1.0).pieces(0, 0)) == 2
    assert len(training_set(utterances, stride=45, concatenate=1.0).pieces(0, 0)) == 1


def test_what_becomes_of_an_utterance_depends_on_seed_epoch_and_number_alone(utterances):
    options = {"concatenate": 0.5, "speeds": (0.9, 1.0, 1.1), "spec_augment": {"time_width": 20}}
    first = training_set(utterances, **options)
    kept = {(i, e): first.features(i, e) for i in range(6) for e in range(4)}
    again, other = training_set(utterances, **options), training_set(utterances, seed=2, **options)
    places = list(kept)
    for index, epoch in reversed(places):
        np.testing.assert_array_equal(kept[index, epoch], again.features(index, epoch))
    assert [first.pieces(*place) for place in places] != [other.pieces(*place) for place in places]
    assert len({first.pieces(4, epoch) for epoch in range(20)}) > 5


def test_the_speeds_drawn_are_those_drawn_before_there_was_joining(utterances):
    plain, joined = (
        training_set(utterances, concatenate=p, speeds=(0.9, 1.0, 1.1)) for p in (0.0, 1.0)
    )
    for index in range(6):
        expected = (0.9, 1.0, 1.1)[np.random.default_rng((1, 7, index)).integers(3)]
        assert plain.pieces(index, 7) == (Piece(index, expected),)
        assert joined.pieces(index, 7)[0] == Piece(index, expected)


def test_joining_needs_a_space_to_write():
    with pytest.raises(RecipeError, match="concatenate joins transcripts by a space; add one to l"):
        open_recipe("demo-lstm", ["data.letters='ABC'", "data.concatenate=0.1"])
    with pytest.raises(RecipeError, match=r"'data.concatenate' is 1\.5; it should be less than"):
        open_recipe("demo-lstm", ["data.concatenate=1.5"])


def powers_added(made, index, epoch):
    """What noise adds to an utterance's powers."""
    noisy, clean = made.features(index, epoch), made.plain(index, epoch)
    return np.exp(noisy.astype(np.float64)) - np.exp(clean.astype(np.float64))


RAW = FEATURES.model_copy(update={"normalise": "none"})


def test_noise_is_added_before_normalising_as_often_and_as_loud_as_asked(utterances):
    noise = {"probability": 0.4, "snr_db": (3.0, 9.0)}
    made = training_set(utterances, features=RAW, noise=noise)
    normal = training_set(utterances, noise=noise)
    ratios = []
    for index, epoch in ((i, e) for i in range(6) for e in range(60)):
        added = powers_added(made, index, epoch)
        np.testing.assert_array_equal(
            normal.features(index, epoch), normalised(made.features(index, epoch), FEATURES)
        )
        if added.any():
            speech = np.exp(made.plain(index, epoch).astype(np.float64))
            ratios.append(10 * np.log10(speech.mean() / added.mean()))
    assert len(ratios) == pytest.approx(0.4 * 360, abs=4 * (360 * 0.4 * 0.6) ** 0.5)
    assert min(ratios) == pytest.approx(3.0, abs=0.3)
    assert max(ratios) == pytest.approx(9.0, abs=0.3)
    assert np.mean(ratios) == pytest.approx(6.0, abs=0.6)


@pytest.mark.parametrize("kind", ["white", "pink"])
def test_steady_noise_is_a_part_of_the_recorded_minute(utterances, kind):
    noise = {"probability": 1.0, "kinds": [kind], "snr_db": (-20, -20)}
    made = training_set(utterances, features=RAW, noise=noise, concatenate=1.0)
    minute = noise_powers(kind, RAW).astype(np.float64)
    starts = set()
    for epoch in range(3):
        added = powers_added(made, 2, epoch)
        relative = minute[:, 3] / minute[:, 3].mean()
        spans = np.lib.stride_tricks.sliding_window_view(relative, len(added))
        start = int(np.argmax([np.corrcoef(span, added[:, 3])[0, 1] for span in spans]))
        cut = minute[start : start + len(added)]
        np.testing.assert_allclose(added / added.mean(), cut / cut.mean(), rtol=0.02, atol=1e-3)
        starts.add(start)
    assert len(starts) == 3


def test_babble_is_three_utterances_at_once_equally_loud(utterances):
    noise = {"probability": 1.0, "kinds": ["babble"], "snr_db": (-20, -20)}
    made = training_set(utterances, features=RAW, noise=noise)
    for index, epoch in ((0, 0), (5, 1)):
        rng = np.random.default_rng((1, epoch, index, 3))
        rng.random(), rng.uniform(), rng.integers(1)
        frames, babble = len(made.plain(index, epoch)), 0.0
        numbers = rng.integers(6, size=3)
        for number in numbers:
            powers = np.exp(log_powers(wave(utterances[number], 1.0), RAW).astype(np.float64))
            rows = (rng.integers(len(powers)) + np.arange(frames)) % len(powers)
            babble = babble + (powers / powers.mean())[rows]
        added = powers_added(made, index, epoch)
        np.testing.assert_allclose(
            added / added.mean(), babble / babble.mean(), rtol=0.01, atol=1e-3
        )


def test_noise_changes_neither_lengths_nor_what_else_is_drawn(utterances):
    options = {"speeds": (0.9, 1.0, 1.1), "concatenate": 0.5}
    quiet = training_set(utterances, **options)
    noisy = training_set(utterances, noise={"probability": 1.0}, **options)
    for index, epoch in ((i, e) for i in range(6) for e in range(3)):
        assert quiet.pieces(index, epoch) == noisy.pieces(index, epoch)
        np.testing.assert_array_equal(quiet.features(index, epoch), noisy.plain(index, epoch))
        assert not np.array_equal(quiet.features(index, epoch), noisy.features(index, epoch))
    again = training_set(utterances, noise={"probability": 1.0}, **options)
    np.testing.assert_array_equal(again.features(3, 2), noisy.features(3, 2))


SPANS = {  # seconds; the last word of "1" ends after its recording does
    "0": (WordSpan("AB", 0.0, 0.6),),
    "1": (WordSpan("CA", 0.0, 0.32), WordSpan("B", 0.32, 0.72)),
    "2": (WordSpan("A", 0.0, 0.8),),
    "3": (WordSpan("BC", 0.0, 0.9),),
    "4": (WordSpan("CAB", 0.0, 1.0),),
    "5": (WordSpan("AC", 0.0, 1.1),),
}


@pytest.fixture
def words(tmp_path):
    write_words(tmp_path / "words.json", SPANS)
    return str(tmp_path / "words.json")


@pytest.mark.parametrize("normalise", ["utterance", "none"])
def test_a_mixed_utterance_is_made_of_words_as_they_were_said(utterances, words, normalise):
    features = FEATURES.model_copy(update={"normalise": normalise})
    mix = {"words": words, "probability": 1.0}
    made = training_set(utterances, features=features, mix_words=mix, speeds=(0.9, 1.1))
    said = set()
    for epoch in range(80):
        pieces = made.pieces(1, epoch)
        rows = []
        for piece in pieces:
            assert piece.speed == pieces[0].speed
            assert piece.word in SPANS[str(piece.index)]
            first, last = (round(t * 100 / piece.speed) for t in (piece.word.start, piece.word.end))
            whole = log_powers(wave(utterances[piece.index], piece.speed), features)
            rows.append(whole[first:last])
        found = made.features(1, epoch)
        np.testing.assert_array_equal(found, normalised(np.concatenate(rows), features))
        assert made.text(1, epoch) == " ".join(piece.word.text for piece in pieces)
        assert made.seconds(1, epoch) == pytest.approx(len(found) / 100, abs=0.021)
        said.add(made.text(1, epoch))
    # y says "CA B" and "BC".
    assert said == {f"{one} {two}" for one in ("CA", "B", "BC") for two in ("CA", "B", "BC")}


def test_words_are_of_the_speaker_or_of_all_and_as_many_as_there_were(utterances, words):
    made = training_set(utterances, mix_words={"words": words, "probability": 1.0})
    texts = [{made.text(index, epoch) for epoch in range(60)} for index in range(6)]
    assert texts[0] == texts[2] == {"AB", "A"}
    assert texts[4] == texts[5] == {"AB", "CA", "B", "A", "BC", "CAB", "AC"}


def test_as_many_are_mixed_as_asked_and_only_where_ctc_has_room(utterances, words):
    made = training_set(utterances, mix_words={"words": words, "probability": 0.25})
    mixed = sum(made.pieces(i, e)[0].word is not None for i in range(6) for e in range(500))
    assert mixed == pytest.approx(750, abs=4 * (3000 * 0.25 * 0.75) ** 0.5)
    # "CA CA" needs 5 output frames. "CA" has 32 feature frames, and one each is kept in hand:
    # strides of 15 and 16 give 5 and 4 output frames.
    mix = {"words": words, "probability": 1.0}
    for stride, possible in ((15, True), (16, False)):
        made = training_set(utterances, stride=stride, mix_words=mix)
        assert ("CA CA" in {made.text(1, epoch) for epoch in range(80)}) == possible


def test_mixed_utterances_are_joined_and_repeat(utterances, words):
    options = {"mix_words": {"words": words, "probability": 1.0}, "concatenate": 1.0}
    made, again = (training_set(utterances, **options) for _ in range(2))
    first, second, third = made.pieces(1, 3)
    assert first.word
    assert second.word
    assert third == Piece(3, 1.0)
    assert made.text(1, 3) == f"{first.word.text} {second.word.text} BC"
    np.testing.assert_array_equal(again.features(1, 3), made.features(1, 3))
    assert len({made.text(1, epoch) for epoch in range(20)}) > 3


def test_a_file_of_other_words_is_refused(utterances, words):
    others = tuple(replace(row, text="B") for row in utterances)
    with pytest.raises(DataError, match=r"words\.json: has 'AB' for utterance 0, which says 'B'"):
        training_set(others, mix_words={"words": words})


def test_a_warped_voice_is_the_same_for_all_pieces_and_drawn_anew_each_epoch(utterances):
    data = training_set(utterances, warp=0.2, concatenate=1.0)
    plain = training_set(utterances, concatenate=1.0)
    factors = []
    for epoch in range(3):
        powers = np.concatenate(
            [
                log_powers(wave(utterances[piece.index], piece.speed), FEATURES)
                for piece in data.pieces(0, epoch)
            ]
        )
        factors.append(np.random.default_rng((1, epoch, 0, 5)).uniform(0.8, 1.2))
        expected = normalised(warp_frequencies(powers, FEATURES, factors[-1]), FEATURES)
        np.testing.assert_allclose(data.features(0, epoch), expected, atol=1e-5)
        np.testing.assert_array_equal(data.features(0, epoch), data.plain(0, epoch))
        assert data.pieces(0, epoch) == plain.pieces(0, epoch)
    assert len(set(factors)) == 3
