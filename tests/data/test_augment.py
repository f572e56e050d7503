import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from growprune.data import (
    FeatureSettings,
    SpecAugment,
    spec_augment,
    speed_perturb,
    warp_frequencies,
)
from growprune.data.features import column_hz, mel_filters


def noise(frames, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((frames, columns)).astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(
    frames=st.integers(1, 60),
    columns=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
    options=st.builds(
        SpecAugment,
        time_masks=st.integers(0, 4),
        time_width=st.integers(0, 80),
        time_fraction=st.floats(0, 0.99),
        frequency_masks=st.integers(0, 4),
        frequency_width=st.integers(0, 30),
    ),
)
def test_hidden_parts_are_spans_of_means_within_the_limits(frames, columns, seed, options):
    features = noise(frames, columns, seed)
    original = features.copy()
    result = spec_augment(features, options, np.random.default_rng(seed))
    np.testing.assert_array_equal(features, original)
    assert result.shape == features.shape
    assert result.dtype == np.float32

    changed = result != features
    means = np.broadcast_to(features.mean(axis=0), features.shape)
    np.testing.assert_array_equal(result[changed], means[changed])
    if frames == 1:
        return  # one frame is its own mean
    hidden_frames, hidden_columns = changed.all(axis=1), changed.all(axis=0)
    np.testing.assert_array_equal(changed, hidden_frames[:, None] | hidden_columns[None, :])
    assert hidden_frames.sum() <= options.time_fraction * frames
    assert hidden_frames.sum() <= options.time_masks * options.time_width
    assert hidden_columns.sum() <= options.frequency_masks * options.frequency_width
    assert not hidden_columns.all()
    assert not hidden_frames.all()


def test_widths_and_places_are_drawn_evenly():
    options = SpecAugment(time_masks=1, time_width=2, time_fraction=0.9, frequency_masks=0)
    rng = np.random.default_rng(0)
    features = noise(4, 3)
    spans = {}
    for _ in range(6000):
        hidden = (spec_augment(features, options, rng) != features).all(axis=1)
        spans[tuple(hidden)] = spans.get(tuple(hidden), 0) + 1
    # Width 0, 1 or 2 with equal chances; one of four or three places.
    assert spans.pop((False,) * 4) == pytest.approx(2000, abs=150)
    single = [count for span, count in spans.items() if sum(span) == 1]
    double = [count for span, count in spans.items() if sum(span) == 2]
    assert single == pytest.approx([500] * 4, abs=90)
    assert double == pytest.approx([667] * 3, abs=100)


def test_same_generator_same_masks():
    features = noise(100, 20)
    first, second = (
        spec_augment(features, SpecAugment(), np.random.default_rng(7)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != features).any()


@pytest.mark.parametrize("factor", [0.9, 1.1, 1.25])
def test_speed_changes_length_and_pitch(factor):
    time = np.arange(16_000) / 16_000
    wave = np.sin(2 * np.pi * 400 * time).astype(np.float32)
    faster = speed_perturb(wave, factor)
    assert faster.dtype == np.float32
    assert len(faster) == pytest.approx(16_000 / factor, abs=1)
    expected = np.sin(2 * np.pi * 400 * factor * np.arange(len(faster)) / 16_000)
    np.testing.assert_allclose(faster[800:-800], expected[800:-800], atol=2e-3)


def test_speed_of_one_changes_nothing():
    wave = noise(100, 1)[:, 0]
    np.testing.assert_array_equal(speed_perturb(wave, 1.0), wave)


@pytest.mark.parametrize("factor", [0.1, 3.0, float("nan")])
def test_absurd_speed_is_refused(factor):
    with pytest.raises(ValueError, match=r"speed factor must be within 0\.5 and 2"):
        speed_perturb(np.zeros(10, np.float32), factor)


@pytest.mark.parametrize("changes", [{"time_fraction": 1.0}, {"time_masks": -1}, {"warp": 5}])
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ValidationError, match=next(iter(changes))):
        SpecAugment(**changes)


BINS = FeatureSettings(kind="log_spectrogram")


@pytest.mark.parametrize("factor", [0.8, 0.95, 1.0, 1.25])
def test_warped_frequencies_come_from_where_the_formula_says(factor):
    hertz = column_hz(BINS)
    assert hertz[0] == 0
    assert hertz[-1] == 8000
    ramp = np.stack([hertz, -hertz]).astype(np.float32)  # interpolated exactly
    found = warp_frequencies(ramp, BINS, factor)
    came, went = 4800 * min(1, 1 / factor), 4800 * min(factor, 1)
    below = hertz / factor
    above = 8000 - (8000 - hertz) * (8000 - came) / (8000 - went)
    np.testing.assert_allclose(found[0], np.where(hertz <= went, below, above), rtol=1e-5, atol=0.1)
    np.testing.assert_array_equal(found[0], -found[1])


@pytest.mark.parametrize(("factor", "expected"), [(0.9, 1350), (1.1, 1650)])
def test_a_resonance_moves_by_the_factor_on_mel_bands(factor, expected):
    bands = FeatureSettings(bands=80)
    hertz = column_hz(bands)
    filters = -(((hertz - 1500) / 200) ** 2)[None].astype(np.float32)
    found = hertz[warp_frequencies(filters, bands, factor)[0].argmax()]
    assert abs(found - expected) < 50
    np.testing.assert_array_equal(warp_frequencies(filters, bands, 1.0), filters)


def test_mel_bands_are_where_their_triangles_peak():
    settings = FeatureSettings(bands=20)
    peaks = mel_filters(settings).argmax(axis=1) * 16000 / settings.transform_length
    assert abs(peaks - column_hz(settings)).max() <= 16000 / settings.transform_length
