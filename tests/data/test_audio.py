import re

import numpy as np
import pytest
import soundfile

from growprune.data import audio_seconds, load_audio
from growprune.errors import DataError


def tone(seconds=0.5, rate=16_000, hertz=440.0, peak=0.5):
    return peak * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def write(path, samples, rate=16_000, **options):
    soundfile.write(path, samples, rate, **options)
    return path


@pytest.mark.parametrize(
    ("name", "format_name"), [("a.wav", "WAV"), ("a.sph", "NIST"), ("a.flac", "FLAC")]
)
def test_lossless_formats_give_back_every_sample(tmp_path, name, format_name):
    samples = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    path = write(tmp_path / name, samples, format=format_name, subtype="PCM_16")
    wave = load_audio(path)
    assert wave.dtype == np.float32
    np.testing.assert_array_equal(wave, samples / np.float32(32768))
    assert audio_seconds(path) == 5000 / 16_000


@pytest.mark.parametrize(("name", "format_name"), [("a.ogg", "OGG"), ("a.mp3", "MP3")])
def test_lossy_formats_are_close(tmp_path, name, format_name):
    path = write(tmp_path / name, tone(), format=format_name)
    wave = load_audio(path)
    assert len(wave) == 8000
    middle = slice(1000, -1000)
    assert np.abs(wave - tone())[middle].max() < 0.02


def test_channels_are_averaged(tmp_path):
    left, right = tone(hertz=300), tone(hertz=500)
    path = write(tmp_path / "a.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(load_audio(path), (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_become_the_same_tone(tmp_path, rate):
    path = write(tmp_path / "a.wav", tone(rate=rate), rate, subtype="FLOAT")
    wave = load_audio(path)
    assert len(wave) == 8000
    middle = slice(800, -800)
    np.testing.assert_allclose(wave[middle], tone()[middle], atol=2e-3)
    assert audio_seconds(path) == 0.5


def test_result_stays_within_full_scale(tmp_path):
    square = np.sign(tone(rate=44_100))
    path = write(tmp_path / "a.wav", square, 44_100, subtype="FLOAT")
    assert np.abs(load_audio(path)).max() == 1.0


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def defective(tmp_path, kind):
    path = tmp_path / "a.wav"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("these are words, not sound\n" * 50)
    elif kind == "folder":
        path.mkdir()
    elif kind == "no samples":
        write(path, np.zeros(0))
    elif kind == "silent":
        write(path, np.zeros(4000))
    elif kind == "constant":
        write(path, np.full(4000, 0.25))
    elif kind == "nan":
        samples = tone()
        samples[100] = np.nan
        write(path, samples, subtype="FLOAT")
    elif kind == "unscaled":
        write(path, 30_000 * tone(), subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such file"),
        ("empty", "empty file"),
        ("text", "cannot be read as audio .*convert it"),
        ("folder", "is a folder"),
        ("no samples", "holds no samples"),
        ("silent", "silent, every sample equals 0; record it again"),
        ("constant", "silent, every sample equals 0.25"),
        ("nan", "not finite"),
        ("unscaled", "samples reach 15000, but full scale is 1"),
    ],
)
def test_each_defect_has_its_line(tmp_path, kind, message):
    path = defective(tmp_path, kind)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: .*{message}") as caught:
        load_audio(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "format_name"),
    [("a.wav", "WAV"), ("a.sph", "NIST"), ("a.flac", "FLAC"), ("a.wav", "WAVEX")],
)
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_truncated_files_are_found(tmp_path, name, format_name, share):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000)
    path = cut(write(tmp_path / name, samples, format=format_name, subtype="PCM_16"), share)
    with pytest.raises(DataError, match=rf"^{re.escape(str(path))}: truncated"):
        load_audio(path)


def test_truncated_compressed_file_is_not_taken_for_whole(tmp_path, capfd):
    path = cut(write(tmp_path / "a.ogg", tone(seconds=2), format="OGG"), 0.5)
    with pytest.raises(DataError, match=re.escape(str(path))):
        load_audio(path)
    capfd.readouterr()


def test_wav_of_unknown_length_is_read_to_its_end(tmp_path):
    path = write(tmp_path / "a.wav", tone(), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(load_audio(path)) == 8000


def test_chunks_around_the_samples_do_not_matter(tmp_path):
    path = write(tmp_path / "a.wav", tone(), subtype="PCM_16")
    content = path.read_bytes()
    place = content.index(b"data")
    odd = b"LIST\x05\x00\x00\x00hello\x00"
    path.write_bytes(content[:place] + odd + content[place:] + odd)
    assert len(load_audio(path)) == 8000
    with pytest.raises(DataError, match="truncated"):
        load_audio(cut(path, 0.9))


@pytest.mark.parametrize(
    ("kind", "message"), [("missing", "no such file"), ("text", "cannot be read as audio")]
)
def test_length_of_a_defective_file_is_an_error_too(tmp_path, kind, message):
    with pytest.raises(DataError, match=message):
        audio_seconds(defective(tmp_path, kind))


@pytest.mark.parametrize("length", [1 << 20, 1 << 35])
def test_header_that_promises_far_too_much_is_an_error(tmp_path, length):
    path = write(tmp_path / "a.flac", tone(), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    # Its number of samples: the last 36 bits of bytes 10 to 17 of the first block.
    place = content.index(b"fLaC") + 8 + 10
    packed = int.from_bytes(content[place : place + 8], "big")
    packed = packed >> 36 << 36 | length
    content[place : place + 8] = packed.to_bytes(8, "big")
    path.write_bytes(content)
    with pytest.raises(DataError, match="truncated"):
        load_audio(path)
