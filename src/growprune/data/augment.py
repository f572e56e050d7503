"""Changes to audio and features that a recogniser should not mind.

A result depends on the input and the generator alone, so a run can be repeated exactly.
"""

import numpy as np
import soxr
from pydantic import Field

from growprune.data.features import FeatureSettings, column_hz
from growprune.settings import Settings

# Any common base serves: the resampler wants rates, only their ratio matters here.
_BASE_RATE = 16_000

_BEND_HZ = 4800.0
"""Up to where warped frequencies are multiplied, unless the sample rate is low."""


class SpecAugment(Settings):
    """How much of the features is hidden (Park et al. 2019, without time warping).

    Attributes:
        time_masks: Number of spans of frames hidden.
        time_width: Widest such span, in frames.
        time_fraction: Largest part of an utterance that all spans together may hide.
        frequency_masks: Number of spans of columns hidden.
        frequency_width: Widest such span, in columns.
    """

    time_masks: int = Field(default=2, ge=0)
    time_width: int = Field(default=40, ge=0)
    time_fraction: float = Field(default=0.4, ge=0, lt=1)
    frequency_masks: int = Field(default=2, ge=0)
    frequency_width: int = Field(default=15, ge=0)


def spec_augment(
    features: np.ndarray, settings: SpecAugment, rng: np.random.Generator
) -> np.ndarray:
    """Hide random spans of frames and of columns behind the columns' means.

    Widths are drawn evenly from 0 to the widest allowed, which is cut so that neither all frames
    nor all columns can be hidden.

    Args:
        features: `(frames, columns)`; not changed.
        settings: How much to hide.
        rng: Source of every random choice.

    Returns:
        A new array of the same shape.
    """
    frames, columns = features.shape
    longest = min(
        settings.time_width, _share(int(settings.time_fraction * frames), settings.time_masks)
    )
    widest = min(settings.frequency_width, _share(columns - 1, settings.frequency_masks))
    hidden_frames = _spans(frames, settings.time_masks, longest, rng)
    hidden_columns = _spans(columns, settings.frequency_masks, widest, rng)
    hidden = hidden_frames[:, None] | hidden_columns[None, :]
    return np.where(hidden, features.mean(axis=0, dtype=features.dtype), features)


def speed_perturb(wave: np.ndarray, factor: float) -> np.ndarray:
    """Play audio `(samples,)` `factor` times as fast, tempo and pitch together.

    Returns:
        Float32 audio of about `samples / factor` samples.
    """
    if not 0.5 <= factor <= 2.0:
        raise ValueError(f"speed factor must be within 0.5 and 2, got {factor:g}")
    if factor == 1.0:
        return wave
    return soxr.resample(wave, _BASE_RATE * factor, _BASE_RATE)


def warp_frequencies(features: np.ndarray, settings: FeatureSettings, factor: float) -> np.ndarray:
    """Make a voice's resonances `factor` times as high, its tempo and loudness as they were.

    Vocal tract length perturbation (Jaitly and Hinton 2013): frequencies are multiplied by the
    factor as long as neither they nor what becomes of them is above 4800 Hz; the rest is moved
    linearly, so that half the sample rate stays where it is. Columns are interpolated.

    Args:
        features: Logarithms of powers, `(frames, columns)`, not normalised; not changed.
        settings: What the columns are.
        factor: Such as 0.9 to 1.1.

    Returns:
        A new array of the same shape and type.
    """
    top = settings.sample_rate / 2
    bend = min(_BEND_HZ, 0.9 * top)
    came, went = [0.0, bend * min(1, 1 / factor), top], [0.0, bend * min(factor, 1), top]
    hertz = column_hz(settings)
    origin = np.interp(hertz, went, came)
    place = np.interp(origin, hertz, np.arange(len(hertz)))
    lower = place.astype(int)
    part = (place - lower).astype(features.dtype)
    upper = np.minimum(lower + 1, len(hertz) - 1)
    return features[:, lower] * (1 - part) + features[:, upper] * part


def _share(total: int, parts: int) -> int:
    return total // parts if parts else 0


def _spans(length: int, count: int, widest: int, rng: np.random.Generator) -> np.ndarray:
    """Mask `(length,)` of `count` random spans, each 0 to `widest` long."""
    widths = rng.integers(0, widest, count, endpoint=True)
    starts = rng.integers(0, length - widths, endpoint=True)
    index = np.arange(length)
    inside = (index >= starts[:, None]) & (index < (starts + widths)[:, None])
    return np.logical_or.reduce(inside, axis=0)
