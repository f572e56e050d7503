import math

import numpy as np
import pytest
from pydantic import ValidationError

from growprune.data import (
    FeatureSettings,
    Noise,
    add_noise,
    log_powers,
    noise_powers,
    normalised,
    part_of,
)
from growprune.data.features import mel_filters
from growprune.data.noise import noise_wave

RATE = 16_000
MEL, BINS = FeatureSettings(bands=20), FeatureSettings(kind="log_spectrogram", window_ms=20)


def like_speech(seconds=8):
    """Harmonics of 120 Hz, weaker the higher, that come and go four times a second; a breath."""
    time = np.arange(seconds * RATE) / RATE
    tones = sum(np.sin(2 * np.pi * 120 * k * time + k * k) / k for k in range(1, 60))
    breath = 0.05 * np.random.default_rng(5).standard_normal(len(time))
    return (0.1 * (tones + breath) * (0.2 + np.sin(2 * np.pi * 4 * time) ** 2)).astype(np.float32)


def heard_power(wave, options):
    """Mean square of `y[t] = x[t] - a x[t-1]`, frequencies weighted as all bands together do."""
    wave = wave.astype(np.float64)
    spectrum = np.abs(np.fft.rfft(wave[1:] - options.pre_emphasis * wave[:-1])) ** 2
    if options.kind == "log_mel":
        bins = np.fft.rfftfreq(options.transform_length, 1 / RATE)
        hertz = np.fft.rfftfreq(len(wave) - 1, 1 / RATE)
        spectrum *= np.interp(hertz, bins, mel_filters(options).sum(axis=0))
    return spectrum.mean()


@pytest.mark.parametrize("options", [MEL, BINS])
@pytest.mark.parametrize("kind", ["white", "pink"])
@pytest.mark.parametrize("snr_db", [-5.0, 10.0])
def test_features_with_noise_are_those_of_audio_with_noise(options, kind, snr_db):
    wave = like_speech()
    noise = noise_wave(kind, len(wave), np.random.default_rng(1))
    ratio = heard_power(wave, options) / heard_power(noise, options)
    mixed = wave + np.float32(math.sqrt(ratio / 10 ** (snr_db / 10))) * noise
    expected = np.exp(log_powers(mixed, options)).mean(axis=0)
    minute = noise_powers(kind, options)
    cut = part_of(minute, len(log_powers(wave, options)), np.random.default_rng(2))
    found = np.exp(add_noise(log_powers(wave, options), cut, snr_db)).mean(axis=0)
    if options.kind == "log_mel":
        np.testing.assert_allclose(found, expected, rtol=0.1)
    else:  # single bins vary more
        np.testing.assert_allclose(found[1:], expected[1:], rtol=0.4)
    assert found.sum() == pytest.approx(expected.sum(), rel=0.02)


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 17.0])
def test_noise_has_the_power_that_was_asked_and_speech_keeps_its_own(snr_db):
    rng = np.random.default_rng(0)
    clean = rng.normal(-3, 2, (50, 6)).astype(np.float32)
    original, noise = clean.copy(), rng.exponential(7.0, (50, 6)).astype(np.float32)
    noisy = add_noise(clean, noise, snr_db)
    assert noisy.dtype == np.float32
    np.testing.assert_array_equal(clean, original)
    added = np.exp(noisy.astype(np.float64)) - np.exp(clean.astype(np.float64))
    speech = np.exp(clean.astype(np.float64))
    assert 10 * np.log10(speech.mean() / added.mean()) == pytest.approx(snr_db, abs=1e-3)
    expected = noise * added.mean() / noise.mean()
    np.testing.assert_allclose(added, expected, rtol=1e-3, atol=1e-5 * speech.max())
    np.testing.assert_allclose(add_noise(clean, 9 * noise, snr_db), noisy, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [MEL, BINS])
@pytest.mark.parametrize("kind", ["white", "pink"])
def test_spectra_are_flat_or_fall_as_one_over_frequency(options, kind):
    hertz = np.fft.rfftfreq(options.transform_length, 1 / RATE)
    a = options.pre_emphasis
    spectrum = 1 + a * a - 2 * a * np.cos(2 * np.pi * hertz / RATE)
    if kind == "pink":
        spectrum = spectrum / np.maximum(hertz, 1)
    else:  # every bin of white noise has its variance times the window's energy
        n = np.arange(options.window)
        spectrum *= 0.1**2 * np.sum((0.5 - 0.5 * np.cos(2 * np.pi * n / options.window)) ** 2)
    expected = mel_filters(options) @ spectrum if options.kind == "log_mel" else spectrum
    found = noise_powers(kind, options).mean(axis=0)
    high = slice(len(found) // 4, -2)  # where the window's width is narrow beside the frequency
    if kind == "pink":
        expected = expected * found[high].sum() / expected[high].sum()
    tolerance = 0.04 if options.kind == "log_mel" else 0.09
    np.testing.assert_allclose(found[high], expected[high], rtol=tolerance)


def test_single_bins_of_noise_are_exponentially_distributed():
    bins = noise_powers("white", BINS)[::2, 10:-10]  # every other frame: windows do not overlap
    relative = bins / bins.mean(axis=0)
    for limit in (0.1, 1.0, 3.0):
        assert (relative > limit).mean() == pytest.approx(math.exp(-limit), abs=0.005)


def test_normalised_features_of_pure_noise_look_like_it_whatever_the_speech():
    cut = noise_powers("pink", MEL)[:300]
    speech = np.full((300, 20), -9.0, np.float32)
    np.testing.assert_allclose(
        normalised(add_noise(speech, cut, -60.0), MEL), normalised(np.log(cut), MEL), atol=1e-3
    )


def test_a_part_begins_anywhere_and_begins_again_where_it_ends():
    powers = np.arange(5.0)[:, None] * np.ones(2)
    rng = np.random.default_rng(0)
    parts = [part_of(powers, 7, rng)[:, 0] for _ in range(100)]
    assert {part[0] for part in parts} == {0, 1, 2, 3, 4}
    for part in parts:
        np.testing.assert_array_equal(part, (part[0] + np.arange(7)) % 5)


def test_noise_is_always_the_same_and_cannot_be_changed():
    first = noise_powers("pink", MEL).copy()
    noise_powers.cache_clear()
    np.testing.assert_array_equal(noise_powers("pink", MEL), first)
    with pytest.raises(ValueError, match="read-only"):
        noise_powers("pink", MEL)[0] = 0


@pytest.mark.parametrize(
    "changes", [{"snr_db": (9, 5)}, {"snr_db": (0, 90)}, {"kinds": ["brown"]}, {"kinds": []}]
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ValidationError, match=next(iter(changes))):
        Noise(**changes)
