"""What a recogniser learns from: utterances, and what becomes of each of them in an epoch.

Everything random about an utterance is drawn from (seed, epoch, its number), and from the number of
the choice where there are several, so it does not matter what was drawn before.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from growprune.data import (
    Alphabet,
    FeatureSettings,
    Utterance,
    add_noise,
    audio_seconds,
    frames_needed,
    load_audio,
    log_powers,
    noise_powers,
    normalised,
    part_of,
    spec_augment,
    speed_perturb,
)
from growprune.tasks.speech.settings import DataSettings

_CACHED_NUMBERS = 1_000_000_000
"""Features are kept in memory up to this many numbers (4 GB), then computed again each time."""

# Which choice a generator is for; speeds have none.
_MASKS, _PARTNER, _NOISE = 1, 2, 3

_VOICES = 3
"""Utterances that are babble together."""


class FeatureCache:
    """Features of recordings, kept in memory, before they are normalised, while there is room."""

    def __init__(self, settings: FeatureSettings) -> None:
        self.settings = settings
        self._kept: dict[tuple[Path, float], np.ndarray] = {}
        self._numbers = 0

    def features(self, utterance: Utterance) -> np.ndarray:
        """Features `(time, bands)` of an utterance as it is."""
        return normalised(self.log_powers(utterance, 1.0), self.settings)

    def log_powers(self, utterance: Utterance, speed: float) -> np.ndarray:
        """The same at a speed and not normalised."""
        key = (utterance.audio, speed)
        if key in self._kept:
            return self._kept[key]
        wave = load_audio(utterance.audio, self.settings.sample_rate)
        features = log_powers(speed_perturb(wave, speed), self.settings)
        if self._numbers + features.size <= _CACHED_NUMBERS:
            self._kept[key] = features
            self._numbers += features.size
        return features


@dataclass(frozen=True)
class Piece:
    """A training utterance, by number, as it is heard."""

    index: int
    speed: float


class TrainingSet:
    """Training utterances, and how they are changed.

    Args:
        settings: what is done to them.
        utterances: as recorded.
        cache: of their features.
        output_length: the model's output frames for so many feature frames.
        seed: decides everything random.
    """

    def __init__(
        self,
        settings: DataSettings,
        utterances: Sequence[Utterance],
        cache: FeatureCache,
        output_length: Callable[[int], int],
        seed: int,
    ) -> None:
        self.settings = settings
        self.utterances = utterances
        self.seed = seed
        self._cache = cache
        self._output_length = output_length
        self._alphabet = Alphabet(settings.letters)

    def __len__(self) -> int:
        return len(self.utterances)

    def pieces(self, index: int, epoch: int) -> tuple[Piece, ...]:
        """What an utterance consists of in an epoch, one thing said after another."""
        own = Piece(index, self._speed(index, epoch))
        rng = self._rng(epoch, index, _PARTNER)
        if rng.random() >= self.settings.concatenate:
            return (own,)
        partners = self._partners(index)
        if not partners:
            return (own,)
        partner = partners[rng.integers(len(partners))]
        joined = (own, Piece(partner, self._possible(own.speed, partner)))
        return joined if self._can_be_joined(joined) else (own,)

    def seconds(self, index: int, epoch: int) -> float:
        """How long an utterance lasts in an epoch."""
        return sum(map(self._seconds, self.pieces(index, epoch)))

    def text(self, index: int, epoch: int) -> str:
        """What is said in it."""
        return self._text(self.pieces(index, epoch))

    def plain(self, index: int, epoch: int) -> np.ndarray:
        """Its features `(time, bands)`, normalised as one recording's."""
        return normalised(self._log_powers(index, epoch), self.settings.features)

    def features(self, index: int, epoch: int) -> np.ndarray:
        """The same with noise, and with parts hidden."""
        noisy = self._noisy(self._log_powers(index, epoch), self._rng(epoch, index, _NOISE))
        features = normalised(noisy, self.settings.features)
        if self.settings.spec_augment is None:
            return features
        rng = self._rng(epoch, index, _MASKS)
        return spec_augment(features, self.settings.spec_augment, rng)

    def _log_powers(self, index: int, epoch: int) -> np.ndarray:
        """What `pieces` are, one after another, not normalised."""
        return np.concatenate(
            [
                self._cache.log_powers(self.utterances[piece.index], piece.speed)
                for piece in self.pieces(index, epoch)
            ]
        )

    def _noisy(self, features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Features, not normalised, with noise if it is drawn."""
        noise = self.settings.noise
        if noise is None or rng.random() >= noise.probability:
            return features
        snr_db = rng.uniform(*noise.snr_db)
        kind = noise.kinds[rng.integers(len(noise.kinds))]
        if kind == "babble":
            return add_noise(features, self._babble(len(features), rng), snr_db)
        powers = noise_powers(kind, self.settings.features)
        return add_noise(features, part_of(powers, len(features), rng), snr_db)

    def _babble(self, frames: int, rng: np.random.Generator) -> np.ndarray:
        """Powers `(frames, bands)` of a few utterances at once, each as loud as the others."""
        voices = [self.utterances[number] for number in rng.integers(len(self), size=_VOICES)]
        powers = [np.exp(self._cache.log_powers(voice, 1.0)) for voice in voices]
        return np.sum([part_of(rows / rows.mean(), frames, rng) for rows in powers], axis=0)

    def _rng(self, *place: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, *place))

    def _speed(self, index: int, epoch: int) -> float:
        """The speed factor of an utterance in an epoch."""
        speeds = self.settings.speeds
        return self._possible(speeds[self._rng(epoch, index).integers(len(speeds))], index)

    def _possible(self, speed: float, index: int) -> float:
        """The speed, unless it makes the utterance too short for CTC."""
        return 1.0 if speed > self._fastest[index] else speed

    def _partners(self, index: int) -> list[int]:
        """The other utterances of the same speaker, or all others where there are none."""
        speaker = self.utterances[index].speaker
        same = self._by_speaker[speaker] if speaker is not None else []
        group = same if len(same) > 1 else range(len(self))
        return [other for other in group if other != index]

    def _can_be_joined(self, pieces: Sequence[Piece]) -> bool:
        """Whether they are short enough together, and long enough for CTC to write the space."""
        if sum(map(self._seconds, pieces)) > self.settings.concatenate_seconds:
            return False
        room = self._output_length(sum(map(self._frames, pieces))) - 1
        return frames_needed(self._alphabet.encode(self._text(pieces))) <= room

    def _text(self, pieces: Sequence[Piece]) -> str:
        return " ".join(self.utterances[piece.index].text for piece in pieces)

    def _seconds(self, piece: Piece) -> float:
        return self._recorded_seconds[piece.index] / piece.speed

    def _frames(self, piece: Piece) -> int:
        """Feature frames, to one more or less: resampling rounds."""
        settings = self.settings.features
        return settings.frames(int(self._seconds(piece) * settings.sample_rate))

    @cached_property
    def _recorded_seconds(self) -> list[float]:
        return [seconds_of(utterance) for utterance in self.utterances]

    @cached_property
    def _by_speaker(self) -> dict[str | None, list[int]]:
        found: dict[str | None, list[int]] = defaultdict(list)
        for index, utterance in enumerate(self.utterances):
            found[utterance.speaker].append(index)
        return found

    @cached_property
    def _fastest(self) -> list[float]:
        """How many times every utterance could be sped up before CTC has no room."""
        room = []
        for index, utterance in enumerate(self.utterances):
            letters = self._alphabet.encode(utterance.text)
            frames = self._output_length(self._frames(Piece(index, 1.0)))
            room.append((frames - 1) / frames_needed(letters))
        return room


def seconds_of(utterance: Utterance) -> float:
    """Length of a recording."""
    return audio_seconds(utterance.audio) if utterance.duration is None else utterance.duration
