"""A small corpus of synthetic speech: spelled names, numbers, dates and commands, as in AN4.

Everything is drawn from one seed, and no sentence and no voice occurs in two splits.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from growprune.data import espeak
from growprune.data.audio import SAMPLE_RATE
from growprune.data.generated import generate
from growprune.data.manifest import Corpus, Utterance, read_manifest, write_manifest

T = TypeVar("T")
Progress = Callable[[int, int], None]

_FORMAT = 1  # raised by whoever changes what the generator draws

_ACCENTS = ("en-us", "en-gb-x-rp")

# eSpeak's voice variants that sound like people and always speak the same (see espeak.synthesise).
_VARIANTS: Mapping[str, tuple[str, ...]] = {
    "train": (
        *("f1", "f4", "anika", "Nguyen", "aunty", "belinda", "grandma", "shelby"),
        *("m1", "m2", "m4", "m5", "m7", "Alex", "Andy", "Gene", "Lee", "Mario", "Mike", "adam"),
        *("boris", "david", "edward", "ian", "max", "pablo", "paul", "robert"),
    ),
    "dev": ("Andrea", "steph", "m6", "gustave", "quincy", "rob"),
    "test": ("Annie", "linda", "m3", "m8", "Michael", "john", "miguel", "norbert"),
}

_LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
_TEENS = (
    *("TEN", "ELEVEN", "TWELVE", "THIRTEEN", "FOURTEEN"),
    *("FIFTEEN", "SIXTEEN", "SEVENTEEN", "EIGHTEEN", "NINETEEN"),
)
_TENS = ("TWENTY", "THIRTY", "FORTY", "FIFTY", "SIXTY", "SEVENTY", "EIGHTY", "NINETY")
_MONTHS = (
    *("JANUARY", "FEBRUARY", "MARCH", "APRIL", "MAY", "JUNE"),
    *("JULY", "AUGUST", "SEPTEMBER", "OCTOBER", "NOVEMBER", "DECEMBER"),
)
_COMMANDS = ("ENTER", "ERASE", "GO", "HELP", "REPEAT", "RUBOUT", "START", "STOP")
_ANSWERS = ("YES", "NO")
_NAMES = (
    *("ADAMS", "ALLEN", "BAKER", "BAXTER", "BELL", "BLACK", "BROWN", "CHEN", "CLARK", "COHEN"),
    *("COLE", "COOPER", "COX", "CRUZ", "DAVIS", "DIAZ", "DIXON", "EVANS", "FISHER", "FORD"),
    *("FOX", "GARCIA", "GRAY", "GREEN", "GUPTA", "HALL", "HAYES", "HILL", "HUGHES", "JACKSON"),
    *("JAMES", "JONES", "KAPLAN", "KELLY", "KHAN", "KIM", "KING", "KLEIN", "KNOX", "LEE"),
    *("LEWIS", "LOPEZ", "LYNCH", "MARTIN", "MASON", "MOORE", "MURPHY", "NAVARRO", "OLSEN"),
    *("ORTIZ", "OWENS", "PARK", "PEREZ", "POWELL", "PRICE", "QUINN", "REED", "REYES", "ROSS"),
    *("RUIZ", "SAITO", "SCOTT", "SILVA", "SINGH", "SMITH", "TAYLOR", "TURNER", "VANCE", "VEGA"),
    *("VOGEL", "WALKER", "WANG", "WARD", "WEBB", "WHITE", "WOLF", "WOODS", "WRIGHT", "XU"),
    *("YANG", "YOUNG", "ZHANG", "ZIMMER"),
)

VOCABULARY = frozenset(
    (*_LETTERS, *_DIGITS, *_TEENS, *_TENS, "HUNDRED", *_MONTHS, *_COMMANDS, *_ANSWERS)
)
"""Every word that a transcript can hold; a letter is a word of its own."""

# These letters are also words ("a cat", "I am"), which eSpeak would take them for.
_LETTER_NAMES = {"A": "[['eI]]", "I": "[['aI]]"}


def make_corpus(
    folder: str | Path,
    seed: int = 0,
    *,
    train: int = 3000,
    dev: int = 160,
    test: int = 800,
    progress: Progress | None = None,
) -> Corpus:
    """Synthesise the corpus into `folder`, or reuse what an earlier call with these settings left.

    The folder appears whole or not at all: 16 kHz mono WAV files of 16 bits under `wav/`, and the
    manifests `train.jsonl`, `dev.jsonl` and `test.jsonl`. The same settings, eSpeak NG, NumPy and
    soxr give the same samples.

    Args:
        folder: where the corpus goes; an older corpus of this function there is replaced.
        seed: decides sentences, voices, rates, pitches, gains and noise.
        train: number of training utterances; likewise `dev` and `test`.
        dev: see `train`.
        test: see `train`.
        progress: called after each utterance with the number done and the number wanted.

    Raises:
        DataError: eSpeak NG is missing, or the folder holds other files or cannot be written.
    """
    folder = Path(folder)
    sizes = {"train": train, "dev": dev, "test": test}
    if min(sizes.values()) < 1:
        raise ValueError(f"every split needs at least 1 utterance, got {sizes}")
    settings = {"format": _FORMAT, "seed": seed, "espeak": espeak.version(), **sizes}
    generate(
        folder,
        settings,
        lambda empty: _synthesise(empty, seed, sizes, progress),
        marker="spoken.json",
        failures=(OSError, soundfile.LibsndfileError),
    )
    return _open(folder)


def sentences(seed: int) -> Iterator[str]:
    """Yield distinct transcripts, such as "J COOPER" spelled out or "MAY TWENTY THREE", for ever.

    There are more than ten million, so a corpus of any sensible size is quickly drawn.
    """
    generator = np.random.default_rng([seed, 0])
    kinds = (_spelled_name, _digit_string, _number, _date, _command)
    seen: set[str] = set()
    while True:
        sentence = " ".join(kinds[generator.integers(len(kinds))](generator))
        if sentence not in seen:
            seen.add(sentence)
            yield sentence


def spoken_form(transcript: str) -> str:
    """Return what eSpeak must be given to speak `transcript`: letters by name, words as words."""
    return " ".join(
        _LETTER_NAMES.get(word, word) if len(word) == 1 else word.lower()
        for word in transcript.split()
    )


def digest(corpus: Corpus) -> str:
    """Return the SHA-256, in hexadecimal, over the splits' names, transcripts, speakers and PCM."""
    total = hashlib.sha256()
    for split in sorted(corpus.splits):
        for utterance in corpus.splits[split]:
            samples, rate = soundfile.read(utterance.audio, dtype="int16")
            header = f"{split}\t{utterance.text}\t{utterance.speaker}\t{rate}\t{len(samples)}\n"
            total.update(header.encode())
            total.update(samples.astype("<i2").tobytes())
    return total.hexdigest()


def _open(folder: Path) -> Corpus:
    return Corpus(
        "spoken", {split: read_manifest(folder / f"{split}.jsonl") for split in _VARIANTS}
    )


def _synthesise(
    folder: Path, seed: int, sizes: Mapping[str, int], progress: Progress | None
) -> None:
    """Write the audio and the manifests of all splits under `folder`."""
    transcripts = sentences(seed)
    generator = np.random.default_rng([seed, 1])
    total = sum(sizes.values())
    done = 0
    for split, size in sizes.items():
        utterances = []
        (folder / "wav" / split).mkdir(parents=True)
        for index, transcript in enumerate(islice(transcripts, size)):
            path = folder / "wav" / split / f"{split}-{index:05d}.wav"
            utterances.append(_utterance(path, transcript, _VARIANTS[split], generator))
            done += 1
            if progress is not None:
                progress(done, total)
        write_manifest(folder / f"{split}.jsonl", utterances)


def _utterance(
    path: Path, transcript: str, variants: Sequence[str], generator: np.random.Generator
) -> Utterance:
    """Speak one transcript in a random voice, write it to `path` and return its manifest entry."""
    voice = f"{_choice(_ACCENTS, generator)}+{_choice(variants, generator)}"
    samples, rate = espeak.synthesise(
        spoken_form(transcript),
        voice,
        rate=int(generator.integers(125, 186)),
        pitch=int(generator.integers(35, 66)),
        pitch_range=int(generator.integers(30, 71)),
    )
    # In float64 the processor's rounding cannot reach the 16 bits kept.
    resampled = soxr.resample(samples.astype(np.float64), rate, SAMPLE_RATE)
    recorded = _record(_trim(resampled), generator)
    soundfile.write(path, recorded, SAMPLE_RATE, subtype="PCM_16")
    return Utterance(
        id=path.stem,
        audio=path,
        text=transcript,
        duration=len(recorded) / SAMPLE_RATE,
        speaker=voice,
    )


def _trim(samples: NDArray[np.float64], threshold: float = 0.01) -> NDArray[np.float64]:
    """Cut the silence before and after the speech; `threshold` is relative to the peak."""
    loudness = np.abs(samples)
    audible = np.flatnonzero(loudness > threshold * loudness.max())
    return samples[audible[0] : audible[-1] + 1]


def _record(samples: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.int16]:
    """Add what a microphone would: pauses of 50-200 ms, a gain, noise 20-40 dB below the speech."""
    before, after = generator.integers(SAMPLE_RATE // 20, SAMPLE_RATE // 5, size=2)
    level = np.sqrt(np.mean(samples**2))
    noise_level = level * 10 ** (-generator.uniform(20, 40) / 20)
    padded = np.pad(samples, (int(before), int(after)))
    padded += noise_level * generator.standard_normal(len(padded))
    peak = 10 ** (-generator.uniform(1, 12) / 20)
    return np.rint(padded * (32767 * peak / np.abs(padded).max())).astype(np.int16)


def _spelled_name(generator: np.random.Generator) -> list[str]:
    """A surname letter by letter, half the time after an initial."""
    initial = [_choice(_LETTERS, generator)] if generator.random() < 0.5 else []
    return [*initial, *_choice(_NAMES, generator)]


def _digit_string(generator: np.random.Generator) -> list[str]:
    """A room (three digits), a zip code (five) or a telephone number (seven)."""
    return [_choice(_DIGITS, generator) for _ in range(_choice((3, 5, 7), generator))]


def _number(generator: np.random.Generator) -> list[str]:
    """A number from 100 to 999 in words."""
    hundreds = _choice(_DIGITS[1:], generator)
    return [hundreds, "HUNDRED", *_below_hundred(int(generator.integers(100)))]


def _date(generator: np.random.Generator) -> list[str]:
    """A month and a day, half the time with a year from 1910 to 1999."""
    day = _below_hundred(int(generator.integers(1, 32)))
    year = _below_hundred(int(generator.integers(10, 100)))
    return [
        _choice(_MONTHS, generator),
        *day,
        *(["NINETEEN", *year] if generator.random() < 0.5 else []),
    ]


def _command(generator: np.random.Generator) -> list[str]:
    """A command for a letter and a number, sometimes after a yes or no."""
    answer = [_choice(_ANSWERS, generator)] if generator.random() < 0.3 else []
    number = _below_hundred(int(generator.integers(1, 100)))
    return [*answer, _choice(_COMMANDS, generator), _choice(_LETTERS, generator), *number]


def _below_hundred(number: int) -> list[str]:
    """The words of a number from 0 to 99; none for 0."""
    if number == 0:
        return []
    if number < 10:
        return [_DIGITS[number]]
    if number < 20:
        return [_TEENS[number - 10]]
    tens, units = divmod(number, 10)
    return [_TENS[tens - 2], *([_DIGITS[units]] if units else [])]


def _choice(items: Sequence[T], generator: np.random.Generator) -> T:
    return items[int(generator.integers(len(items)))]
