"""Speech from text, by the eSpeak NG library that the `espeakng-loader` package carries."""

import _ctypes
import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from growprune.errors import DataError

# Constants of eSpeak NG's speak_lib.h.
_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_FROM_CHARACTER = 1
_UTF8_WITH_PHONEMES = 0x1 | 0x100
_RATE, _PITCH, _PITCH_RANGE = 1, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)

_library_in_use = threading.Lock()


def synthesise(
    text: str, voice: str, *, rate: int = 175, pitch: int = 50, pitch_range: int = 50
) -> tuple[NDArray[np.float32], int]:
    """Speak `text` and return the sound; equal arguments give equal bytes, in any order of calls.

    The exception are breathy voices, whose noise comes from the C library's `rand`: the variants
    whose file has a `breath` line, such as f2, f3 and f5.

    Args:
        text: words to speak; `[[...]]` encloses eSpeak phoneme mnemonics.
        voice: a language, optionally with a variant: "en-us" or "en-us+f3".
        rate: words per minute, 80 to 450.
        pitch: 0 (low) to 99 (high); 50 is the voice's own.
        pitch_range: liveliness of the intonation, 0 (monotone) to 99.

    Returns:
        Samples in [-1, 1) of shape `(samples,)` and the sample rate in Hz.

    Raises:
        DataError: the library is not installed or does not know the voice.
    """
    spoken: list[bytes] = []

    @_CALLBACK
    def collect(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: int | None) -> int:
        if samples and count:
            spoken.append(ctypes.string_at(samples, 2 * count))
        return 0

    with _library_in_use, _fresh_library() as (library, sample_rate):
        library.espeak_SetSynthCallback(collect)
        _set_voice(library, voice)
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_PITCH_RANGE, pitch_range)):
            library.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode()
        status = library.espeak_Synth(
            encoded, len(encoded) + 1, 0, _FROM_CHARACTER, 0, _UTF8_WITH_PHONEMES, None, None
        )
        if status != 0:
            raise DataError(f"eSpeak NG could not speak {text!r} (status {status})")
        library.espeak_Synchronize()
    samples = np.frombuffer(b"".join(spoken), dtype=np.int16)
    return samples.astype(np.float32) / np.float32(32768), sample_rate


def version() -> str:
    """Return the release of the eSpeak NG library, such as "1.52.0".

    Raises:
        DataError: the library is not installed.
    """
    with _library_in_use, _fresh_library() as (library, _):
        library.espeak_Info.restype = ctypes.c_char_p
        return str(library.espeak_Info(None).decode())


@contextmanager
def _fresh_library() -> Iterator[tuple[ctypes.CDLL, int]]:
    """Load and initialise the library, and unload it afterwards.

    Pitch flutter and gain control live in static variables that nothing but loading resets, not
    even `espeak_Terminate`: a copy that has spoken before speaks a little differently. Loading
    costs 4 ms.
    """
    library_path, data_path = _locate()
    try:
        library = ctypes.CDLL(library_path)
    except OSError as error:
        raise DataError(
            f"{library_path}: the eSpeak NG library cannot be loaded ({error}); "
            'reinstall it: pip install --force-reinstall "growprune[demo]"'
        ) from error
    try:
        sample_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data_path.encode(), _DO_NOT_EXIT)
        if sample_rate <= 0:
            raise DataError(
                f"{data_path}: eSpeak NG cannot read its voices; "
                'reinstall them: pip install --force-reinstall "growprune[demo]"'
            )
        yield library, sample_rate
        library.espeak_Terminate()
    finally:
        _unload(library)


def _locate() -> tuple[str, str]:
    """Return the paths of the library and of its data."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise DataError(
            'eSpeak NG is needed to synthesise speech; install it: pip install "growprune[demo]"'
        ) from error
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()


def _set_voice(library: ctypes.CDLL, voice: str) -> None:
    """Choose a voice; each choice leaks 3 KB inside the library, release 1.52."""
    _, _, variant = voice.partition("+")
    # The library speaks in the plain voice where it does not know the variant.
    known = not variant or (Path(_locate()[1]) / "voices" / "!v" / variant).is_file()
    if not known or library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise DataError(f"eSpeak NG has no voice {voice!r}; examples are 'en-us' and 'en-us+f3'")


def _unload(library: ctypes.CDLL) -> None:
    """Close the library; ctypes offers this only in its private half."""
    if sys.platform == "win32":
        _ctypes.FreeLibrary(library._handle)
    else:
        _ctypes.dlclose(library._handle)
