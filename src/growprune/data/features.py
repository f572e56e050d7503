"""Spectral features of speech, the same for training and for deployment.

A frame is `window_ms` of audio under a Hann window; a new frame begins every `hop_ms`. Frames lie
wholly inside the audio: there is no padding, except that audio shorter than one window is filled up
with zeros to give one frame.
"""

from functools import cache
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from growprune.settings import Settings

# Added to every power before the logarithm: about the noise of 16-bit quantisation, so that
# digital silence and a quiet room look alike.
_POWER_FLOOR = 1e-7
# Frames transformed at once: bounds memory for long recordings.
_BLOCK = 4096
# Running normalisation starts from a spread of about two natural-log units, believed as much
# as ten observed frames are.
_PRIOR_VARIANCE = 4.0
_PRIOR_FRAMES = 10.0
_LEAST_DEVIATION = 1e-3


class FeatureSettings(Settings):
    """What the features are; kept with a model, since both must agree.

    Attributes:
        kind: `log_mel` (triangular bands, equally wide on the mel scale) or `log_spectrogram`
            (every bin of the Fourier transform).
        sample_rate: Samples a second of the audio.
        window_ms: Length of a frame in milliseconds.
        hop_ms: From the start of one frame to the start of the next, in milliseconds.
        bands: Number of mel bands; a spectrogram has one column per bin and ignores it.
        low_hz: Lower edge of the lowest mel band.
        high_hz: Upper edge of the highest mel band; half the sample rate if not given.
        pre_emphasis: `a` in `y[t] = x[t] - a x[t-1]`; 0 leaves the audio as it is.
        normalise: `utterance` (each column to mean 0, deviation 1 over the whole utterance),
            `running` (the same from the past alone, for streams) or `none`.
        memory_seconds: How long a running mean remembers (time constant).
        prior_seconds: How many seconds of frames `running` believes to have heard before the first:
            of mean `prior_level` and deviation `prior_deviation`, in natural logarithms of power.
            Without them the first frames are compared with nothing but themselves.
        tail_ms: Zeros appended to the normalised features, in milliseconds: time for a model that
            looks back only to write what it heard last.
    """

    kind: Literal["log_mel", "log_spectrogram"] = "log_mel"
    sample_rate: int = Field(default=16_000, gt=0)
    window_ms: float = Field(default=25.0, gt=0)
    hop_ms: float = Field(default=10.0, gt=0)
    bands: int = Field(default=80, ge=1)
    low_hz: float = Field(default=20.0, ge=0)
    high_hz: float | None = Field(default=None, gt=0)
    pre_emphasis: float = Field(default=0.97, ge=0, le=1)
    normalise: Literal["utterance", "running", "none"] = "utterance"
    memory_seconds: float = Field(default=5.0, gt=0)
    prior_seconds: float = Field(default=0.0, ge=0)
    prior_level: float = -8.0
    prior_deviation: float = Field(default=3.5, gt=0)
    tail_ms: float = Field(default=0.0, ge=0, le=2000)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.window < 2 or not 1 <= self.hop <= self.window:
            raise ValueError(
                f"window_ms = {self.window_ms:g} must cover two samples at {self.sample_rate} Hz "
                f"and hop_ms = {self.hop_ms:g} between one sample and a window"
            )
        if not self.low_hz < self.top_hz <= self.sample_rate / 2:
            raise ValueError(
                f"low_hz = {self.low_hz:g} and high_hz = {self.top_hz:g} must rise "
                f"and stay within half the sample rate, {self.sample_rate / 2:g} Hz"
            )
        if self.kind == "log_mel" and not mel_filters(self).any(axis=1).all():
            raise ValueError(
                f"bands = {self.bands} leaves some mel bands without a single frequency bin; "
                "use fewer bands or a longer window"
            )
        return self

    @property
    def window(self) -> int:
        """Samples in a frame."""
        return round(self.sample_rate * self.window_ms / 1000)

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return round(self.sample_rate * self.hop_ms / 1000)

    @property
    def transform_length(self) -> int:
        """Points of the Fourier transform: the window, for mel bands up to a power of two."""
        return (
            self.window if self.kind == "log_spectrogram" else 1 << (self.window - 1).bit_length()
        )

    @property
    def columns(self) -> int:
        """Numbers per frame."""
        return self.bands if self.kind == "log_mel" else self.transform_length // 2 + 1

    @property
    def top_hz(self) -> float:
        """Upper edge of the highest mel band."""
        return self.sample_rate / 2 if self.high_hz is None else self.high_hz

    @property
    def tail(self) -> np.ndarray:
        """What comes after the features of a whole, `(frames, columns)`."""
        return np.zeros((round(self.tail_ms / self.hop_ms), self.columns), np.float32)

    @property
    def seconds_per_frame(self) -> float:
        """From the start of one frame to the start of the next."""
        return self.hop / self.sample_rate

    def frames(self, samples: int) -> int:
        """Number of frames that `samples` of audio give."""
        return 1 + max(0, samples - self.window) // self.hop


def extract(wave: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Features of a whole utterance.

    Args:
        wave: Audio `(samples,)` at `settings.sample_rate`.
        settings: What to compute.

    Returns:
        Contiguous float32 `(frames, columns)`.
    """
    return normalised(log_powers(wave, settings), settings)


def log_powers(wave: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Features of `extract` before they are normalised.

    Natural logarithms of the powers of every band or bin, `(frames, columns)`. Their exponentials
    add up where sounds do.
    """
    wave = _checked(wave)
    if not len(wave):
        raise ValueError("wave has no samples; features need at least one")
    emphasised = _emphasise(wave, np.float32(0), settings)
    missing = settings.window - len(emphasised)
    if missing > 0:
        emphasised = np.pad(emphasised, (0, missing))
    return _log_powers(emphasised, settings)


def normalised(features: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """The last step of `extract`, on what `log_powers` gave: `(frames, columns)` of a whole."""
    if settings.normalise == "utterance":
        features = _whiten(features)
    elif settings.normalise == "running":
        features = _RunningNorm(settings)(features)
    return np.concatenate([features, settings.tail]) if settings.tail_ms else features


class FeatureStream:
    """The features of `extract` while the audio is still arriving, in pieces of any size.

    The pieces do not matter: the frames are those of `extract` on the whole (to rounding), each
    as soon as its last sample is there.
    """

    def __init__(self, settings: FeatureSettings) -> None:
        if settings.normalise == "utterance":
            raise ValueError(
                'normalise = "utterance" needs the whole utterance; a stream takes "running" '
                'or "none"'
            )
        self._settings = settings
        self._norm = _RunningNorm(settings) if settings.normalise == "running" else None
        self._last = np.float32(0)
        self._waiting = np.empty(0, np.float32)

    def push(self, wave: np.ndarray) -> np.ndarray:
        """Take the next samples `(samples,)`; return the frames `(frames, columns)` they finish."""
        wave = _checked(wave)
        if not len(wave):
            return np.empty((0, self._settings.columns), np.float32)
        new = _emphasise(wave, self._last, self._settings)
        self._last = wave[-1]
        self._waiting = np.concatenate([self._waiting, new])
        if len(self._waiting) < self._settings.window:
            return np.empty((0, self._settings.columns), np.float32)
        features = _log_powers(self._waiting, self._settings)
        self._waiting = self._waiting[len(features) * self._settings.hop :]
        return features if self._norm is None else self._norm(features)


@cache
def mel_filters(settings: FeatureSettings) -> np.ndarray:
    """Triangles of the mel bands over the bins of the transform, `(bands, bins)`, peak 1.

    The mel scale is `1127 ln(1 + f / 700)`; neighbouring triangles cross at half height.
    """
    edges = _edges(settings)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = _mel(np.fft.rfftfreq(settings.transform_length, 1 / settings.sample_rate))
    rise, fall = (bins - left) / (centre - left), (right - bins) / (right - centre)
    filters = np.maximum(0, np.minimum(rise, fall)).astype(np.float32)
    filters.flags.writeable = False
    return filters


def column_hz(settings: FeatureSettings) -> np.ndarray:
    """Frequency of every column in Hz, a mel band's where its triangle peaks."""
    if settings.kind == "log_spectrogram":
        return np.fft.rfftfreq(settings.transform_length, 1 / settings.sample_rate)
    return 700 * np.expm1(_edges(settings)[1:-1] / 1127)


def _edges(settings: FeatureSettings) -> np.ndarray:
    """Where the mel bands begin, peak and end, on the mel scale, `(bands + 2,)`."""
    return np.linspace(_mel(settings.low_hz), _mel(settings.top_hz), settings.bands + 2)


def _mel(hertz: float | np.ndarray) -> float | np.ndarray:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def _checked(wave: np.ndarray) -> np.ndarray:
    wave = np.asarray(wave)
    if wave.ndim != 1 or not np.issubdtype(wave.dtype, np.floating):
        raise ValueError(
            f"wave must be floating point (samples,), got {wave.dtype} {wave.shape}; "
            "read files with load_audio"
        )
    return wave.astype(np.float32, copy=False)


def _emphasise(wave: np.ndarray, before: np.float32, settings: FeatureSettings) -> np.ndarray:
    """`y[t] = x[t] - a x[t-1]`, where `before` is the sample ahead of the first."""
    past = np.concatenate([[before], wave[:-1]])
    return wave - np.float32(settings.pre_emphasis) * past


def _log_powers(wave: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Logarithms of the powers of every full frame, `(frames, columns)`."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, settings.window)[:: settings.hop]
    window = _hann(settings.window)
    features = np.empty((len(frames), settings.columns), np.float32)
    for start in range(0, len(frames), _BLOCK):
        block = frames[start : start + _BLOCK] * window
        spectrum = np.fft.rfft(block, settings.transform_length)
        power = spectrum.real**2 + spectrum.imag**2
        if settings.kind == "log_mel":
            power = power @ mel_filters(settings).T
        np.log(power + np.float32(_POWER_FLOOR), out=features[start : start + _BLOCK])
    return features


@cache
def _hann(length: int) -> np.ndarray:
    window = np.hanning(length + 1)[:-1].astype(np.float32)
    window.flags.writeable = False
    return window


def _whiten(features: np.ndarray) -> np.ndarray:
    """Every column to mean 0 and deviation 1; a constant column to 0."""
    centred = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = np.sqrt(np.mean(centred**2, axis=0, dtype=np.float64)).astype(np.float32)
    return centred / np.maximum(deviation, np.float32(_LEAST_DEVIATION))


class _RunningNorm:
    """Mean and deviation of the frames so far, older ones counting less and less."""

    def __init__(self, settings: FeatureSettings) -> None:
        self._keep = np.exp(-settings.seconds_per_frame / settings.memory_seconds)
        # Of ones, of the frames so far, and of their squares.
        level = settings.prior_level
        first = np.array([1.0, level, level**2 + settings.prior_deviation**2])
        frames = settings.prior_seconds / settings.seconds_per_frame
        self._sums = np.repeat(frames * first[:, None], settings.columns, axis=1)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Normalise the next frames `(frames, columns)`, each by itself and those before it."""
        normal = np.empty_like(features)
        for start in range(0, len(features), _BLOCK):
            block = slice(start, start + _BLOCK)
            normal[block] = self._next(features[block].astype(np.float64))
        return normal

    def _next(self, frames: np.ndarray) -> np.ndarray:
        sums = np.stack([np.ones_like(frames), frames, frames**2], axis=1)
        before = self._sums
        for row in sums:
            row += self._keep * before
            before = row
        self._sums = before.copy()
        weight, total, squares = sums[:, 0], sums[:, 1], sums[:, 2]
        mean = total / weight
        spread = np.maximum(squares - weight * mean**2, 0.0)
        variance = (spread + _PRIOR_FRAMES * _PRIOR_VARIANCE) / (weight + _PRIOR_FRAMES)
        return (frames - mean) / np.sqrt(variance)
