"""Audio in pieces while it arrives: from a file, or from a pipe."""

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path

import numpy as np
import soundfile
import soxr

from growprune.data.audio import (
    UNKNOWN_LENGTHS,
    check_sounds,
    check_values,
    damaged,
    no_samples,
    opened,
    truncated,
)
from growprune.errors import DataError

_PIECE_SECONDS = 0.1
_PIPE_BYTES = 1 << 16
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# What one sample is on the wire, and the number that full scale is in it.
_SAMPLES = {
    (_PCM, 16): ("<i2", 32768.0),
    (_PCM, 32): ("<i4", 2147483648.0),
    (_FLOAT, 32): ("<f4", 1.0),
    (_FLOAT, 64): ("<f8", 1.0),
}

# How streams begin that would be noise if they were taken for raw samples.
_OTHERS = {b"fLaC": "FLAC", b"OggS": "Ogg", b"NIST": "SPHERE", b"ID3": "MP3", b"FORM": "AIFF"}


def file_pieces(path: str | Path, sample_rate: int) -> Iterator[np.ndarray]:
    """The samples of `load_audio` in pieces of a tenth of a second.

    Yields:
        Float32 samples `(samples,)` within [-1, 1].

    Raises:
        DataError: the file is missing, empty, not audio, truncated or not finite; at its end:
            it was silent.
    """
    path = Path(path)
    with opened(path) as file:
        yield from _resampled(_blocks(file, path), file.samplerate, sample_rate, str(path))


def pipe_pieces(pipe: BufferedReader, sample_rate: int, name: str = "-") -> Iterator[np.ndarray]:
    """Samples from a pipe, as soon as they are there.

    A stream that begins with a WAV header (16- or 32-bit integers, or floating point) is read as
    the header says; its length may be unknown, and what follows the samples is left alone.
    Anything else is raw audio: 16-bit little-endian samples of one channel at `sample_rate`.

    Args:
        pipe: where the bytes come from, such as `sys.stdin.buffer`.
        sample_rate: samples per second of what is returned.
        name: what error messages call the pipe.

    Yields:
        Float32 samples `(samples,)` within [-1, 1].

    Raises:
        DataError: the header is broken or of an unknown kind, or samples are not finite; at the
            stream's end: it was empty or silent.
    """
    head = pipe.read(4)
    for beginning, kind in _OTHERS.items():
        if head.startswith(beginning):
            raise DataError(f"{name}: a stream of {kind}; send WAV or raw samples, or name a file")
    if head == b"RIFF":
        wire, head = _wav_header(pipe, name), b""
    else:
        wire = _Wire("<i2", 32768.0, channels=1, sample_rate=sample_rate)
    yield from _resampled(_waves(pipe, head, wire), wire.sample_rate, sample_rate, name)


@dataclass(frozen=True)
class _Wire:
    """How samples lie in the bytes of a stream."""

    dtype: str
    full_scale: float
    channels: int
    sample_rate: int
    size: int = sys.maxsize
    """Bytes of samples, where known; they may be fewer, and other things may follow them."""


def _blocks(file: soundfile.SoundFile, path: Path) -> Iterator[np.ndarray]:
    """A file's samples, channels averaged, checked to be as many as its header says."""
    frames, read = max(1, round(_PIECE_SECONDS * file.samplerate)), 0
    try:
        while len(block := file.read(frames, dtype="float32", always_2d=True)):
            read += len(block)
            yield block.mean(axis=1)
    except soundfile.SoundFileError as error:
        raise damaged(path, error) from error
    if read < file.frames:
        raise truncated(path, read)


def _waves(pipe: BufferedReader, head: bytes, wire: _Wire) -> Iterator[np.ndarray]:
    """Whole frames, channels averaged; half a frame waits for its other half."""
    width = np.dtype(wire.dtype).itemsize * wire.channels
    rest = b""
    for data in _reads(pipe, head, wire.size):
        data = rest + data
        whole = len(data) - len(data) % width
        rest = data[whole:]
        samples = np.frombuffer(data[:whole], wire.dtype).reshape(-1, wire.channels)
        yield (samples / wire.full_scale).astype(np.float32).mean(axis=1)


def _reads(pipe: BufferedReader, head: bytes, size: int) -> Iterator[bytes]:
    """`head`, then what arrives, `size` bytes in all or up to the end."""
    data = head or pipe.read1(min(size, _PIPE_BYTES))
    while data:
        yield data
        size -= len(data)
        data = pipe.read1(min(size, _PIPE_BYTES))


def _resampled(
    waves: Iterator[np.ndarray], rate: int, wanted: int, name: str
) -> Iterator[np.ndarray]:
    """Check and resample; the pieces together equal the resampled whole."""
    low, high = np.inf, -np.inf
    resampler = None if rate == wanted else soxr.ResampleStream(rate, wanted, 1, dtype="float32")
    for wave in waves:
        if not len(wave):
            continue
        check_values(name, wave)
        low, high = min(low, float(wave.min())), max(high, float(wave.max()))
        piece = wave if resampler is None else resampler.resample_chunk(wave)
        if len(piece):
            yield np.clip(piece, -1.0, 1.0)
    if low > high:
        raise no_samples(name)
    check_sounds(name, low, high)
    if resampler is not None:
        piece = resampler.resample_chunk(np.empty(0, np.float32), last=True)
        if len(piece):
            yield np.clip(piece, -1.0, 1.0)


def _wav_header(pipe: BufferedReader, name: str) -> _Wire:
    """Read a WAV stream up to its first sample."""
    if pipe.read(8)[4:] != b"WAVE":
        raise DataError(f"{name}: begins like a WAV file but is none; send WAV or raw samples")
    wire = None
    while len(head := pipe.read(8)) == 8:
        kind, size = struct.unpack("<4sI", head)
        if kind == b"data" and wire is not None:
            return wire if size in UNKNOWN_LENGTHS else replace(wire, size=size)
        content = pipe.read(size + size % 2)
        if kind == b"fmt ":
            wire = _wire(content, name)
    raise DataError(f"{name}: a WAV stream that ends before its samples; send it again")


def _wire(content: bytes, name: str) -> _Wire:
    if len(content) < 16:
        raise DataError(f"{name}: a WAV stream with a broken header; send it again")
    encoding, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
    if encoding == _EXTENSIBLE and len(content) >= 26:
        encoding = struct.unpack("<H", content[24:26])[0]
    if (encoding, bits) not in _SAMPLES or not channels or not rate:
        raise DataError(
            f"{name}: a WAV stream of encoding {encoding} with {bits} bits, {channels} channels "
            f"at {rate} Hz; send 16-bit samples"
        )
    dtype, full_scale = _SAMPLES[encoding, bits]
    return _Wire(dtype, full_scale, channels, rate)
