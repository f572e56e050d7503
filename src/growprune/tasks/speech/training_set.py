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
    WordSpan,
    add_noise,
    audio_seconds,
    frames_needed,
    load_audio,
    log_powers,
    noise_powers,
    normalised,
    part_of,
    read_words,
    spec_augment,
    speed_perturb,
    warp_frequencies,
)
from growprune.tasks.speech.settings import DataSettings

_CACHED_NUMBERS = 1_000_000_000
"""Features are kept in memory up to this many numbers (4 GB), then computed again each time."""

# Which choice a generator is for; speeds have none.
_MASKS, _PARTNER, _NOISE, _WORDS, _VOICE = 1, 2, 3, 4, 5

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
    """A training utterance, by number, as it is heard, or one word of it."""

    index: int
    speed: float
    word: WordSpan | None = None


class TrainingSet:
    """Training utterances, and how they are changed.

    Args:
        settings: what is done to them.
        utterances: as recorded.
        cache: of their features.
        output_length: the model's output frames for so many feature frames.
        seed: decides everything random.

    Raises:
        DataError: the settings name a file of words that cannot be used.
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
        mix = settings.mix_words
        self._words = read_words(mix.words, utterances) if mix else ()

    def __len__(self) -> int:
        return len(self.utterances)

    def pieces(self, index: int, epoch: int) -> tuple[Piece, ...]:
        """What an utterance consists of in an epoch, one thing said after another."""
        speed = self._speed(index, epoch)
        pieces = self._mixed(index, speed, self._rng(epoch, index, _WORDS))
        return self._followed(pieces, index, speed, self._rng(epoch, index, _PARTNER))

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
        """What `pieces` are, one after another, in a changed voice, not normalised."""
        powers = np.concatenate([self._piece_powers(piece) for piece in self.pieces(index, epoch)])
        warp = self.settings.warp
        if not warp:
            return powers
        factor = self._rng(epoch, index, _VOICE).uniform(1 - warp, 1 + warp)
        return warp_frequencies(powers, self.settings.features, factor)

    def _piece_powers(self, piece: Piece) -> np.ndarray:
        rows = self._cache.log_powers(self.utterances[piece.index], piece.speed)
        return rows[self._part(piece, len(rows))]

    def _part(self, piece: Piece, frames: int) -> slice:
        """Which of its utterance's so many frames a piece is; at least one of them."""
        if piece.word is None:
            return slice(0, frames)
        rate = 1 / (self.settings.features.seconds_per_frame * piece.speed)
        start = min(round(piece.word.start * rate), frames - 1)
        return slice(start, min(max(round(piece.word.end * rate), start + 1), frames))

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

    def _mixed(self, index: int, speed: float, rng: np.random.Generator) -> tuple[Piece, ...]:
        """The utterance, or if that is drawn as many random words of its speaker."""
        own = (Piece(index, speed),)
        mix = self.settings.mix_words
        if mix is None or rng.random() >= mix.probability:
            return own
        known = self._known_words[self._speaker(index)]
        drawn = rng.integers(len(known), size=len(self._words[index]))
        pieces = tuple(Piece(known[n][0], speed, known[n][1]) for n in drawn)
        return pieces if self._has_room(pieces) else own

    def _followed(
        self, pieces: tuple[Piece, ...], index: int, speed: float, rng: np.random.Generator
    ) -> tuple[Piece, ...]:
        """The pieces, and if that is drawn another utterance of their speaker."""
        if rng.random() >= self.settings.concatenate:
            return pieces
        partners = [other for other in self._spoken[self._speaker(index)] if other != index]
        if not partners:
            return pieces
        partner = partners[rng.integers(len(partners))]
        joined = (*pieces, Piece(partner, self._possible(speed, partner)))
        too_long = sum(map(self._seconds, joined)) > self.settings.concatenate_seconds
        return pieces if too_long or not self._has_room(joined) else joined

    def _has_room(self, pieces: Sequence[Piece]) -> bool:
        """Whether CTC surely has frames enough for the letters and the spaces between pieces."""
        room = self._output_length(sum(self._frames(piece) - 1 for piece in pieces))
        return frames_needed(self._alphabet.encode(self._text(pieces))) <= room

    def _text(self, pieces: Sequence[Piece]) -> str:
        return " ".join(
            piece.word.text if piece.word else self.utterances[piece.index].text for piece in pieces
        )

    def _seconds(self, piece: Piece) -> float:
        if piece.word:
            return self._frames(piece) * self.settings.features.seconds_per_frame
        return self._recorded_seconds[piece.index] / piece.speed

    def _frames(self, piece: Piece) -> int:
        """Feature frames, to one more or less: resampling rounds."""
        settings = self.settings.features
        seconds = self._recorded_seconds[piece.index] / piece.speed
        part = self._part(piece, settings.frames(int(seconds * settings.sample_rate)))
        return part.stop - part.start

    def _speaker(self, index: int) -> str | None:
        """Who speaks, if that is known and there is more than this utterance."""
        speaker = self.utterances[index].speaker
        return speaker if speaker is not None and len(self._spoken[speaker]) > 1 else None

    @cached_property
    def _recorded_seconds(self) -> list[float]:
        return [seconds_of(utterance) for utterance in self.utterances]

    @cached_property
    def _spoken(self) -> dict[str | None, list[int]]:
        """Every speaker's utterances; all utterances under None."""
        found: dict[str | None, list[int]] = defaultdict(list)
        for index, utterance in enumerate(self.utterances):
            if utterance.speaker is not None:
                found[utterance.speaker].append(index)
        return found | {None: list(range(len(self)))}

    @cached_property
    def _known_words(self) -> dict[str | None, list[tuple[int, WordSpan]]]:
        """The words of `_spoken`, with the numbers of their utterances."""
        return {
            speaker: [(index, word) for index in spoken for word in self._words[index]]
            for speaker, spoken in self._spoken.items()
        }

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
