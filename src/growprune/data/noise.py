"""Noise behind speech, added to features instead of audio, so that features can be kept.

Powers of independent sounds add up on average; what their phases do beside is left out.
"""

from functools import cache
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from growprune.data.features import FeatureSettings, log_powers
from growprune.settings import Settings

NoiseKind = Literal["white", "pink"]

_SECONDS = 60
# Far above the floor under every power, far below full scale.
_DEVIATION = 0.1

Decibels = Annotated[float, Field(ge=-60, le=60)]


class Noise(Settings):
    """How often and how loud noise is.

    Attributes:
        probability: How often there is any.
        kinds: What there is, drawn evenly: `white`, `pink` (its power falls as 1/frequency) or
            `babble` (other training utterances, three at once).
        snr_db: Lowest and highest ratio of speech to noise in dB, drawn evenly between them. It is
            of powers as the features have them, after pre-emphasis, over all columns and the whole
            utterance, pauses included.
    """

    probability: float = Field(default=0.5, ge=0, le=1)
    kinds: tuple[Literal["white", "pink", "babble"], ...] = Field(
        default=("white", "pink", "babble"), min_length=1
    )
    snr_db: tuple[Decibels, Decibels] = (5.0, 25.0)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.snr_db[0] > self.snr_db[1]:
            raise ValueError(f"snr_db = {list(self.snr_db)} must name the lowest ratio first")
        return self


def add_noise(features: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise to features that are not normalised.

    Args:
        features: What `log_powers` gives, `(frames, columns)`; not changed.
        noise: Powers of the same shape, of any loudness.
        snr_db: Ratio of the mean powers in dB.

    Returns:
        New features, with the noise made as loud as that.
    """
    speech = np.exp(features)
    gain = speech.mean() / noise.mean() / 10 ** (snr_db / 10)
    return np.log(speech + gain * noise)


def part_of(powers: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
    """So many frames of `(time, columns)` from a random one on; what ends begins again."""
    start = rng.integers(len(powers))
    return powers.take(range(start, start + frames), axis=0, mode="wrap")


@cache
def noise_powers(kind: NoiseKind, settings: FeatureSettings) -> np.ndarray:
    """Powers of a minute of noise, `(frames, columns)`: always the same minute."""
    wave = noise_wave(kind, _SECONDS * settings.sample_rate, np.random.default_rng(0))
    powers = np.exp(log_powers(wave, settings))
    powers.flags.writeable = False
    return powers


def noise_wave(kind: NoiseKind, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise `(samples,)` in float32 with a standard deviation of 0.1."""
    wave = rng.standard_normal(samples)
    if kind == "pink":
        spectrum = np.fft.rfft(wave)
        spectrum[0] = 0.0
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        wave = np.fft.irfft(spectrum, samples)
    return (_DEVIATION / wave.std() * wave).astype(np.float32)
