import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from growprune.data import FeatureSettings, FeatureStream, extract
from growprune.data.features import mel_filters

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 2000).astype(np.float32)
SMALL = FeatureSettings(sample_rate=4000, window_ms=10, hop_ms=4, bands=6, normalise="none")


def slow_mel_weight(band, hertz, options):
    """Height at a frequency of one triangle, from the definition."""

    def mel(f):
        return 1127 * math.log(1 + f / 700)

    low, high = mel(options.low_hz), mel(options.top_hz)
    left, centre, right = (low + (high - low) * (band + k) / (options.bands + 1) for k in range(3))
    here = mel(hertz)
    if left < here <= centre:
        return (here - left) / (centre - left)
    if centre < here < right:
        return (right - here) / (right - centre)
    return 0.0


def slow_features(wave, options):
    """One frame, one bin, one sample at a time, in double precision."""
    emphasised = [
        float(x) - options.pre_emphasis * (float(wave[t - 1]) if t else 0.0)
        for t, x in enumerate(wave)
    ]
    rows = []
    for start in range(0, len(wave) - options.window + 1, options.hop):
        length = options.transform_length
        powers = []
        for k in range(length // 2 + 1):
            total = 0j
            for n in range(options.window):
                hann = 0.5 - 0.5 * math.cos(2 * math.pi * n / options.window)
                angle = -2 * math.pi * k * n / length
                total += hann * emphasised[start + n] * complex(math.cos(angle), math.sin(angle))
            powers.append(abs(total) ** 2)
        if options.kind == "log_mel":
            bins = [k * options.sample_rate / length for k in range(len(powers))]
            powers = [
                sum(
                    slow_mel_weight(band, hertz, options) * power
                    for hertz, power in zip(bins, powers, strict=True)
                )
                for band in range(options.bands)
            ]
        rows.append([math.log(power + 1e-7) for power in powers])
    return np.array(rows)


@pytest.mark.parametrize("kind", ["log_mel", "log_spectrogram"])
@pytest.mark.parametrize("pre_emphasis", [0.0, 0.97])
def test_features_equal_the_definition(kind, pre_emphasis):
    options = SMALL.model_copy(update={"kind": kind, "pre_emphasis": pre_emphasis})
    wave = NOISE[:200]
    features = extract(wave, options)
    expected = slow_features(wave, options)
    assert features.shape == expected.shape == (11, options.columns)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


def test_deepspeech_spectrogram_has_161_bins():
    options = FeatureSettings(kind="log_spectrogram", window_ms=20, hop_ms=10)
    assert options.columns == 161
    features = extract(NOISE[:1600], options)
    assert features.shape == (9, 161)
    assert features.dtype == np.float32
    assert features.flags.c_contiguous


@pytest.mark.parametrize("hertz", [300.0, 1000.0, 3000.0])
def test_tone_lands_in_its_bin_and_band(hertz):
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000).astype(np.float32)
    spectrogram = extract(
        wave, FeatureSettings(kind="log_spectrogram", window_ms=20, normalise="none")
    )
    assert (spectrogram.argmax(axis=1) == round(hertz / 50)).all()

    options = FeatureSettings(bands=40, normalise="none")
    steps = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(8000 / 700), 42)[1:-1]
    nearest = np.abs(steps - 1127 * np.log1p(hertz / 700)).argmin()
    assert (extract(wave, options).argmax(axis=1) == nearest).all()


def test_power_of_a_tone_by_hand():
    # A tone on bin k of amplitude a under a Hann window of N samples: |X_k| = a N / 4.
    wave = 0.5 * np.cos(2 * np.pi * 1000 * np.arange(320) / 16_000).astype(np.float32)
    options = FeatureSettings(
        kind="log_spectrogram", window_ms=20, pre_emphasis=0, normalise="none"
    )
    assert extract(wave, options)[0, 20] == pytest.approx(2 * math.log(0.5 * 320 / 4), abs=1e-4)


def test_neighbouring_triangles_cross_at_half_height():
    filters = mel_filters(FeatureSettings(bands=10, low_hz=0))
    between = filters[:, (filters > 0).sum(axis=0) == 2]
    np.testing.assert_allclose(between.sum(axis=0), 1, atol=1e-5)
    assert between.shape[1] > 100


def test_digital_silence_is_finite():
    wave = np.zeros(4000, np.float32)
    wave[2000:] = NOISE
    for normalise in ("utterance", "running", "none"):
        assert np.isfinite(extract(wave, FeatureSettings(normalise=normalise))).all()
    np.testing.assert_allclose(
        extract(wave, FeatureSettings(normalise="none"))[0], math.log(1e-7), rtol=1e-6
    )


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (399, 1), (400, 1), (559, 1), (560, 2)])
def test_frames_lie_inside_the_audio(samples, frames):
    options = FeatureSettings()
    assert extract(NOISE[:samples], options).shape == (frames, 80)
    assert options.frames(samples) == frames


def test_short_audio_is_filled_with_zeros():
    options = FeatureSettings(normalise="none", pre_emphasis=0)
    padded = np.concatenate([NOISE[:100], np.zeros(300, np.float32)])
    np.testing.assert_array_equal(extract(NOISE[:100], options), extract(padded, options))


def test_long_audio_in_blocks_equals_short_audio(monkeypatch):
    options = FeatureSettings(normalise="none")
    whole = extract(NOISE, options)
    monkeypatch.setattr("growprune.data.features._BLOCK", 3)
    np.testing.assert_allclose(extract(NOISE, options), whole, rtol=1e-5)


def test_utterance_normalisation_gives_mean_zero_and_deviation_one():
    raw = extract(NOISE, SMALL)
    normal = extract(NOISE, SMALL.model_copy(update={"normalise": "utterance"}))
    np.testing.assert_allclose(
        normal, (raw - raw.mean(axis=0)) / raw.std(axis=0), rtol=1e-3, atol=1e-4
    )


def slow_running(raw, options):
    """Every frame by weighted sums over all frames up to it, and over those of the prior."""
    rows = []
    keep = math.exp(-options.seconds_per_frame / options.memory_seconds)
    levels = options.prior_level + options.prior_deviation * np.array([[-1.0], [1.0]])
    prior = np.repeat(levels, raw.shape[1], axis=1)
    each = options.prior_seconds / options.seconds_per_frame / 2
    for t in range(len(raw)):
        weights = keep ** np.arange(t, -1, -1.0)
        weights = np.concatenate([[each * keep ** (t + 1)] * 2, weights])[:, None]
        past = np.concatenate([prior, raw[: t + 1]]).astype(np.float64)
        mean = (weights * past).sum(axis=0) / weights.sum()
        spread = (weights * (past - mean) ** 2).sum(axis=0)
        rows.append((past[-1] - mean) / np.sqrt((spread + 10 * 4) / (weights.sum() + 10)))
    return np.array(rows)


@pytest.mark.parametrize("prior_seconds", [0.0, 0.05])
def test_running_normalisation_equals_weighted_sums_over_the_past(prior_seconds):
    options = SMALL.model_copy(
        update={"normalise": "running", "memory_seconds": 0.1, "prior_seconds": prior_seconds}
    )
    expected = slow_running(extract(NOISE, SMALL), options)
    np.testing.assert_allclose(extract(NOISE, options), expected, rtol=1e-4, atol=1e-5)


def test_running_normalisation_does_not_see_the_future():
    options = FeatureSettings(normalise="running")
    early = extract(NOISE[:1000], options)
    np.testing.assert_allclose(extract(NOISE, options)[: len(early)], early, rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=12),
    st.sampled_from(["running", "none"]),
    st.sampled_from([(10.0, 4.0), (4.0, 4.0)]),
)
def test_stream_in_any_pieces_equals_the_whole(pieces, normalise, spans):
    window_ms, hop_ms = spans
    options = FeatureSettings(
        sample_rate=4000, window_ms=window_ms, hop_ms=hop_ms, bands=3, normalise=normalise
    )
    wave = np.concatenate([NOISE[: options.window], NOISE[: sum(pieces)]])
    stream = FeatureStream(options)
    found = [stream.push(wave[: options.window])]
    start = options.window
    for piece in pieces:
        found.append(stream.push(wave[start : start + piece]))
        start += piece
    np.testing.assert_allclose(np.concatenate(found), extract(wave, options), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normalise", ["utterance", "running", "none"])
def test_a_tail_of_zeros_follows_the_features(normalise):
    plain = FeatureSettings(normalise=normalise)
    tailed = plain.model_copy(update={"tail_ms": 57.0})
    found = extract(NOISE, tailed)
    np.testing.assert_array_equal(found[:-6], extract(NOISE, plain))
    np.testing.assert_array_equal(found[-6:], np.zeros((6, 80)))
    assert found.dtype == np.float32


def test_settings_survive_json():
    options = FeatureSettings(kind="log_spectrogram", window_ms=20, normalise="running")
    assert FeatureSettings.model_validate_json(options.model_dump_json()) == options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bands": 0}, "bands"),
        ({"bands": 400}, "mel bands without a single frequency bin"),
        ({"high_hz": 9000}, "half the sample rate"),
        ({"low_hz": 5000, "high_hz": 4000}, "must rise"),
        ({"hop_ms": 0.01}, "between one sample and a window"),
        ({"hop_ms": 30}, "between one sample and a window"),
        ({"colour": 1}, "colour"),
        ({"normalise": "batch"}, "normalise"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        FeatureSettings(**changes)


def test_wrong_calls_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"int16 \(5,\); read files with load_audio"):
        extract(np.zeros(5, np.int16), SMALL)
    with pytest.raises(ValueError, match=r"float64 \(5, 2\)"):
        extract(np.zeros((5, 2)), SMALL)
    with pytest.raises(ValueError, match="no samples"):
        extract(np.zeros(0), SMALL)
    with pytest.raises(ValueError, match="needs the whole utterance"):
        FeatureStream(FeatureSettings())
