"""Reading audio files: any rate, any number of channels, one readable error for each defect."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr

from growprune.errors import DataError

SAMPLE_RATE = 16_000
# A floating-point file may overshoot full scale a little; far beyond it, it was never scaled.
_LOUDEST = 4.0
# Programs that write to a pipe cannot know the length of a WAV file and leave one of these.
UNKNOWN_LENGTHS = (0, 0x7FFF_FFFF, 0xFFFF_FFFF)


def load_audio(path: str | Path, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Read a file as one channel at `sample_rate`.

    Every format libsndfile knows is read (WAV, FLAC, NIST SPHERE, Ogg, MP3, ...); channels are
    averaged; other rates are resampled.

    Returns:
        Float32 samples `(samples,)` within [-1, 1].

    Raises:
        DataError: the file is missing, empty, not audio, truncated, silent or not finite.
    """
    path = Path(path)
    samples, rate = _read(path)
    if not len(samples):
        raise no_samples(path)
    wave = samples.mean(axis=1)
    check_values(path, wave)
    check_sounds(path, float(wave.min()), float(wave.max()))
    if rate != sample_rate:
        wave = soxr.resample(wave, rate, sample_rate)
        if not len(wave):
            raise DataError(f"{path}: too short to resample; record it again or leave it out")
    return np.clip(wave, -1.0, 1.0)


def audio_seconds(path: str | Path) -> float:
    """Length of an audio file in seconds, from its header alone.

    Raises:
        DataError: the file is missing, empty or not audio.
    """
    path = Path(path)
    _check_present(path)
    try:
        header = soundfile.info(str(path))
    except soundfile.SoundFileError as error:
        raise _not_audio(path, error) from error
    return header.frames / header.samplerate


@contextmanager
def opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """An audio file to read from.

    Raises:
        DataError: the file is missing, empty, not audio, or shorter than its header says.
    """
    _check_present(path)
    try:
        file = soundfile.SoundFile(str(path))
    except soundfile.SoundFileError as error:
        raise _not_audio(path, error) from error
    with file:
        if _promised_bytes(path) > path.stat().st_size:
            raise truncated(path, file.frames)
        yield file


def check_values(source: str | Path, wave: np.ndarray) -> None:
    """Check that samples `(samples,)`, at least one, are finite and scaled.

    Raises:
        DataError: they are not.
    """
    low, high = float(wave.min()), float(wave.max())
    if not np.isfinite(low + high):
        raise DataError(f"{source}: holds samples that are not finite numbers; export it again")
    if max(-low, high) > _LOUDEST:
        raise DataError(
            f"{source}: samples reach {max(-low, high):g}, but full scale is 1; "
            "export it as 16-bit WAV or FLAC"
        )


def check_sounds(source: str | Path, low: float, high: float) -> None:
    """Check that not all samples are equal, given the lowest and the highest.

    Raises:
        DataError: they are.
    """
    if low == high:
        raise DataError(
            f"{source}: silent, every sample equals {low:g}; record it again or leave it out"
        )


def no_samples(source: str | Path) -> DataError:
    """The error for audio of length 0."""
    return DataError(f"{source}: holds no samples; record it again or leave it out")


def damaged(path: Path, error: Exception) -> DataError:
    """The error for a file that libsndfile cannot read to its end."""
    return DataError(f"{path}: truncated or damaged ({_reason(error)}); copy or download it again")


def truncated(path: Path, samples: int) -> DataError:
    """The error for a file that holds only so many samples of those its header promises."""
    return DataError(
        f"{path}: truncated, its header promises more audio than the {samples} "
        "samples there are; copy or download it again"
    )


def _read(path: Path) -> tuple[np.ndarray, int]:
    """All samples `(frames, channels)` and their rate."""
    with opened(path) as file:
        try:
            samples = file.read(dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, MemoryError) as error:  # a broken header asks for all
            raise damaged(path, error) from error
        if len(samples) < file.frames:
            raise truncated(path, len(samples))
        return samples, file.samplerate


def _check_present(path: Path) -> None:
    if not path.exists():
        raise DataError(f"{path}: no such file; check the path or the manifest that names it")
    if not path.is_file():
        raise DataError(f"{path}: is a folder, not an audio file; name a file in it")
    if not path.stat().st_size:
        raise DataError(f"{path}: empty file; copy or download it again")


def _not_audio(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: cannot be read as audio ({_reason(error)}); convert it to WAV or FLAC"
    )


def _reason(error: Exception) -> str:
    """What libsndfile said, without the file name and the full stop."""
    return str(error).rsplit(": ", 1)[-1].rstrip(".")


def _promised_bytes(path: Path) -> int:
    """File size that a WAV or SPHERE header promises; 0 where it makes no promise.

    libsndfile takes the length of these two formats from the file size, so it does not notice
    that the end is missing.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"NIST_1A"):
        return _sphere_bytes(head)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _wav_bytes(path)
    return 0


def _sphere_bytes(head: bytes) -> int:
    lines = head.decode("latin-1").split("end_head", 1)[0].splitlines()
    fields = {parts[0]: parts[2] for line in lines if len(parts := line.split()) == 3}
    names = ("sample_count", "sample_n_bytes", "channel_count")
    try:
        count, width, channels = (int(fields[name]) for name in names)
        return int(lines[1]) + count * width * channels
    except (KeyError, ValueError):
        return 0


def _wav_bytes(path: Path) -> int:
    """End of the data chunk according to its header."""
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            kind, size = struct.unpack("<4sI", head)
            if kind == b"data":
                return 0 if size in UNKNOWN_LENGTHS else file.tell() + size
            file.seek(size + size % 2, 1)
    return 0
