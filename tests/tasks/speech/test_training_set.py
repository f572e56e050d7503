import numpy as np
import pytest
import soundfile

from growprune.data import (
    FeatureSettings,
    Utterance,
    extract,
    load_audio,
    log_powers,
    noise_powers,
    normalised,
    speed_perturb,
)
from growprune.errors import RecipeError
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
    # "AB A" needs 4 output frames and one is kept in hand; 0.6 and 0.8 s give 58 + 78 feature
    # frames, hence 6 output frames with a stride of 27 and 4 with a stride of 34.
    assert len(training_set(utterances, stride=27, concatenate=1.0).pieces(0, 0)) == 2
    assert len(training_set(utterances, stride=34, concatenate=1.0).pieces(0, 0)) == 1


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
