import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from growprune.data import file_pieces, load_audio, pipe_pieces
from growprune.errors import DataError

RATE = 16_000


def noise(samples, channels=1, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal((samples, channels))


def joined(pieces):
    return np.concatenate(list(pieces) or [np.empty(0, np.float32)])


class Dribble(io.BytesIO):
    """A pipe that hands out its bytes in pieces of random size."""

    def __init__(self, data, seed=0):
        super().__init__(data)
        self.rng = np.random.default_rng(seed)

    def read1(self, size=-1):
        some = int(self.rng.integers(1, 700))
        return self.read(some if size < 0 else min(size, some))


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_files_pieces_are_the_whole(tmp_path, rate, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(rate + 123, 2), rate)
    pieces = list(file_pieces(path, RATE))
    assert len(pieces) > 5
    assert all(piece.dtype == np.float32 for piece in pieces)
    np.testing.assert_array_equal(np.concatenate(pieces), load_audio(path, RATE))


def test_broken_files_are_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        list(file_pieces(tmp_path / "none.wav", RATE))
    path = tmp_path / "cut.wav"
    soundfile.write(path, noise(RATE), RATE)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match="truncated"):
        list(file_pieces(path, RATE))
    flac = tmp_path / "cut.flac"
    soundfile.write(flac, noise(RATE), RATE)
    flac.write_bytes(flac.read_bytes()[:-9000])
    with pytest.raises(DataError, match="truncated"):
        list(file_pieces(flac, RATE))
    wild = tmp_path / "wild.wav"
    soundfile.write(wild, np.full(100, 7.0), RATE, subtype="FLOAT")
    with pytest.raises(DataError, match="full scale"):
        list(file_pieces(wild, RATE))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 10))
@example(1, 0)
@example(2, 0)
@example(3, 0)
def test_raw_samples_come_whole_whatever_the_pieces(samples, seed):
    numbers = np.random.default_rng(seed).integers(-32768, 32768, samples).astype("<i2")
    pieces = pipe_pieces(Dribble(numbers.tobytes(), seed), RATE)
    if len(set(numbers)) < 2:
        with pytest.raises(DataError, match="silent" if samples else "no samples"):
            joined(pieces)
        return
    found = joined(pieces)
    np.testing.assert_array_equal(found, (numbers / 32768).astype(np.float32))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_a_wav_stream_is_read_as_its_header_says(tmp_path, subtype, rate, channels, kind):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(rate // 2, channels), rate, subtype=subtype, format=kind)
    found = joined(pipe_pieces(Dribble(path.read_bytes()), RATE))
    np.testing.assert_allclose(found, load_audio(path, RATE), atol=1e-7)


def test_a_wav_stream_of_unknown_length(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(RATE), RATE)
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = b"\xff\xff\xff\xff"
    np.testing.assert_allclose(
        joined(pipe_pieces(Dribble(bytes(data)), RATE)), load_audio(path, RATE), atol=1e-7
    )


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"RIFF1234AVI ", "is none"),
        (b"RIFF1234WAVE", "ends before its samples"),
        (b"RIFF1234WAVEfmt \x04\0\0\0abcd", "broken header"),
        (
            b"RIFF1234WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8),
            "encoding 1 with 8 bits",
        ),
    ],
)
def test_broken_wav_streams_are_named(data, complaint):
    with pytest.raises(DataError, match=complaint):
        list(pipe_pieces(io.BytesIO(data), RATE, "standard input"))


def test_what_follows_the_samples_of_a_wav_stream_is_not_heard(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(RATE), RATE)
    tagged = path.read_bytes() + b"LIST" + struct.pack("<I", 400) + bytes(range(200)) * 2
    found = joined(pipe_pieces(Dribble(tagged), RATE))
    np.testing.assert_allclose(found, load_audio(path, RATE), atol=1e-7)


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "NIST", "AIFF"])
def test_streams_of_other_formats_are_not_taken_for_raw_samples(tmp_path, kind):
    path = tmp_path / "a"
    soundfile.write(path, noise(RATE), RATE, format=kind)
    with pytest.raises(DataError, match=r"-: a stream of .*; send WAV or raw samples"):
        list(pipe_pieces(io.BytesIO(path.read_bytes()), RATE))


def test_empty_and_silent_audio_is_named_when_it_ends(tmp_path):
    with pytest.raises(DataError, match="-: holds no samples"):
        list(pipe_pieces(io.BytesIO(b""), RATE))
    with pytest.raises(DataError, match="-: silent, every sample equals 0"):
        list(pipe_pieces(io.BytesIO(bytes(9000)), RATE))
    for samples, complaint in ((0, "holds no samples"), (9000, "silent, every sample equals 0")):
        path = tmp_path / "a.wav"
        soundfile.write(path, np.zeros(samples), 44_100)
        with pytest.raises(DataError, match=complaint) as whole:
            load_audio(path, RATE)
        with pytest.raises(DataError) as pieces:
            list(file_pieces(path, RATE))
        assert str(pieces.value) == str(whole.value)
