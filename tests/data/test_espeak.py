"""eSpeak NG as a function: equal arguments, equal sound; letters are spoken as letters."""

import ctypes
import hashlib
import subprocess
import sys

import numpy as np
import pytest

from growprune.data import espeak
from growprune.errors import DataError

JOBS = [
    ("one two three", "en-us+f1", 150),
    ("march twenty", "en-us+m3", 200),
    ("zero", "en-gb-scotland+Andy", 175),
    ("repeat B seven", "en-us", 175),
]

SPEAK_IN_ANOTHER_PROCESS = """
import sys
from growprune.data.espeak import synthesise
for job in reversed({jobs!r}):
    sys.stdout.buffer.write(synthesise(job[0], job[1], rate=job[2])[0].tobytes())
"""


def speak(job: tuple[str, str, int]) -> bytes:
    text, voice, rate = job
    return espeak.synthesise(text, voice, rate=rate)[0].tobytes()


def phonemes(text: str, voice: str = "en-us") -> str:
    """What eSpeak says for `text`, in its own phoneme mnemonics."""
    spoken = []
    with espeak._fresh_library() as (library, _):
        assert library.espeak_SetVoiceByName(voice.encode()) == 0
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        rest = ctypes.c_char_p(text.encode())
        while rest.value:
            spoken.append(library.espeak_TextToPhonemes(ctypes.byref(rest), 1, 0).decode())
    return " ".join(spoken)


def test_the_order_of_calls_does_not_change_the_sound():
    forwards = [speak(job) for job in JOBS]
    backwards = [speak(job) for job in reversed(JOBS)]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == len(JOBS)


def test_another_process_says_the_same():
    program = SPEAK_IN_ANOTHER_PROCESS.format(jobs=JOBS)
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert other.stderr == b""
    ours = b"".join(speak(job) for job in reversed(JOBS))
    assert hashlib.sha256(other.stdout).digest() == hashlib.sha256(ours).digest()


def test_sound_is_audible_mono_float32(capfd):
    samples, rate = espeak.synthesise("one two three", "en-us")
    assert rate == 22050
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert 0.5 < len(samples) / rate < 2
    assert 0.1 < np.abs(samples).max() < 1
    assert capfd.readouterr() == ("", "")


def test_rate_and_pitch_are_obeyed():
    def fundamental(pitch: int) -> float:
        samples, rate = espeak.synthesise("[[A:]]", "en-us", pitch=pitch, pitch_range=0)
        middle = samples[len(samples) // 3 : 2 * len(samples) // 3]
        lags = np.correlate(middle, middle, "full")[len(middle) - 1 :]
        shortest = rate // 400
        return rate / (shortest + np.argmax(lags[shortest : rate // 50]))

    slow = len(espeak.synthesise("one two three four", "en-us", rate=120)[0])
    fast = len(espeak.synthesise("one two three four", "en-us", rate=240)[0])
    assert slow == pytest.approx(2 * fast, rel=0.2)
    assert fundamental(80) > 1.3 * fundamental(30)


def test_text_in_double_brackets_is_phonemes():
    by_phonemes = espeak.synthesise("[[w'0n]]", "en-us")[0]
    by_letters = espeak.synthesise("w 0 n", "en-us")[0]
    assert len(by_phonemes) < len(by_letters) / 2


@pytest.mark.parametrize("voice", ["tlh-qo", "en-us+nobody"])
def test_unknown_voice_is_named(voice):
    with pytest.raises(DataError, match=r"no voice '" + voice.replace("+", r"\+")):
        espeak.synthesise("hello", voice)


def test_missing_library_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(DataError, match=r'pip install "growprune\[demo\]"'):
        espeak.synthesise("hello", "en-us")


def test_unreadable_library_and_data_name_the_remedy(monkeypatch, tmp_path, capfd):
    library, _ = espeak._locate()
    monkeypatch.setattr(espeak, "_locate", lambda: (library, str(tmp_path)))
    with pytest.raises(DataError, match=r"cannot read its voices.*reinstall"):
        espeak.synthesise("hello", "en-us")
    broken = tmp_path / "libespeak-ng.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(espeak, "_locate", lambda: (str(broken), str(tmp_path)))
    with pytest.raises(DataError, match=r"cannot be loaded.*reinstall"):
        espeak.synthesise("hello", "en-us")
    capfd.readouterr()


def test_version_is_a_release_number():
    assert espeak.version().split(".")[0].isdigit()


def test_a_and_i_among_letters_need_their_phonemes():
    """Alone they are letters; beside others "A" would be an article, so phonemes stand for it."""
    assert speak(("[['eI]]", "en-us", 175)) == speak(("A", "en-us", 175))
    assert phonemes("A").replace("'", "") == "eI"
    assert phonemes("I").replace("'", "") == "aI"
    assert phonemes("B A B").split()[1] != phonemes("A")


def test_other_letters_are_spoken_by_name_in_a_row():
    """Letter names in eSpeak's mnemonics, without its marks of stress (' ,) and linking (; -)."""
    names = (
        "bi: si: di: i: Ef dZi: eItS dZeI keI El Em En oU pi: kju: A@r Es ti: ju: vi: dVb@Lju: Eks "
        "waI zi:"
    )
    spoken = phonemes("B C D E F G H J K L M N O P Q R S T U V W X Y Z")
    assert spoken.translate(str.maketrans("", "", "',;-")) == names
