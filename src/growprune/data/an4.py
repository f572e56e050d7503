"""The CMU AN4 (Census) corpus: spelled names, numbers and dates, 84 speakers, 16 kHz.

The official layout is read as it is unpacked, with the official NIST SPHERE audio or with FLAC or
WAV copies of it.
"""

import gzip
import hashlib
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import soundfile

from growprune.data.manifest import Corpus, Utterance
from growprune.errors import DataError

# The second is a copy for when the first, CMU's own, does not answer.
AN4_URLS = (
    "http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz",
    "https://dldata-public.s3.us-east-2.amazonaws.com/an4_sphere.tar.gz",
)

# Held out of training whole, for every choice that is made before the test. Among the speakers with
# exactly 13 utterances (the usual number) and no namesake (a digit ends the name), in alphabetical
# order, women and men apart: the four at positions n/8, 3n/8, 5n/8 and 7n/8, rounded down.
AN4_DEV_SPEAKERS = ("fejs", "fjmd", "fmjd", "ftal", "mcrt", "mfaa", "mmsh", "msrb")

# What `an4_digest` gives for the official corpus of 1,078 utterances.
AN4_DIGEST = "83c481e067a87b9d18f5ab26293f78505085cc8bf44cca6904c6c8fbfd2d78ee"

_SUFFIXES = (".sph", ".flac", ".wav")
_TIMEOUT_SECONDS = 30
_CHUNK = 1 << 16


def is_an4(folder: Path) -> bool:
    """Whether a folder has AN4's official layout."""
    return (folder / "etc" / "an4_train.fileids").is_file()


def read_an4(folder: str | Path) -> Corpus:
    """List AN4's utterances: `train` and `dev` (the official training set), `test`.

    Raises:
        DataError: a list or an audio file is missing, or lists do not match.
    """
    folder = Path(folder)
    training = _read_split(folder, "train")
    return Corpus(
        name="an4",
        splits={
            "train": tuple(u for u in training if u.speaker not in AN4_DEV_SPEAKERS),
            "dev": tuple(u for u in training if u.speaker in AN4_DEV_SPEAKERS),
            "test": _read_split(folder, "test"),
        },
    )


def an4_digest(folder: str | Path) -> str:
    """SHA-256 over names, transcripts and 16-bit samples, the same for every audio format.

    Raises:
        DataError: something is missing or damaged.
    """
    digest = hashlib.sha256()
    for split in ("train", "test"):
        for utterance in _read_split(Path(folder), split):
            digest.update(f"{utterance.id} {utterance.text}\n".encode())
            digest.update(_samples(utterance.audio))
    return digest.hexdigest()


def verify_an4(folder: str | Path) -> None:
    """Check that a folder holds exactly the official corpus, whatever its audio format.

    Raises:
        DataError: something is missing or differs.
    """
    found = an4_digest(folder)
    if found != AN4_DIGEST:
        raise DataError(
            f"{folder}: differs from the official AN4 corpus (SHA-256 of its contents "
            f"{found[:16]}..., expected {AN4_DIGEST[:16]}...); fetch it again from {AN4_URLS[0]}"
        )


def download_an4(
    destination: str | Path,
    progress: Callable[[int, int | None], None] | None = None,
    urls: Sequence[str] = AN4_URLS,
) -> Path:
    """Fetch the official archive (64 MB), check its contents and unpack it.

    The folder appears only when everything in it is checked. One that is there already is
    checked and kept.

    Args:
        destination: The corpus folder to make.
        progress: Called with the bytes received and the bytes expected, where known.
        urls: Where to look, in this order.

    Returns:
        `destination`.

    Raises:
        DataError: no address answers, or what came is not the corpus.
    """
    destination = Path(destination)
    if destination.exists():
        verify_an4(destination)
        return destination
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".an4-", dir=destination.parent) as temporary:
            archive = Path(temporary) / "an4_sphere.tar.gz"
            _fetch(urls, archive, destination, progress)
            _unpack(archive, Path(temporary)).rename(destination)
    except OSError as error:
        raise DataError(
            f"{destination}: cannot be written ({error.strerror or error}); "
            "free some space or choose another folder"
        ) from error
    return destination


def _read_split(folder: Path, split: str) -> tuple[Utterance, ...]:
    names = _read_list(folder / "etc" / f"an4_{split}.fileids")
    lines = _read_list(folder / "etc" / f"an4_{split}.transcription")
    if len(names) != len(lines):
        raise DataError(
            f"{folder / 'etc'}: an4_{split}.fileids has {len(names)} lines but "
            f"an4_{split}.transcription {len(lines)}; unpack the archive again"
        )
    return tuple(_utterance(folder, name, line) for name, line in zip(names, lines, strict=True))


def _read_list(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); name the folder that holds AN4's etc and "
            "wav folders"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text; unpack the archive again") from error


def _utterance(folder: Path, name: str, line: str) -> Utterance:
    """From `an4_clstk/fash/an251-fash-b` and `<s> YES </s> (an251-fash-b)`."""
    speaker, identity = Path(name).parts[-2:]
    words, mark, label = line.rpartition("(")
    if not mark or label.rstrip(" )") != identity:
        raise DataError(
            f"{folder / 'etc'}: transcript {line!r} does not belong to {name}; "
            "unpack the archive again"
        )
    text = " ".join(word for word in words.split() if word not in ("<s>", "</s>"))
    return Utterance(id=identity, audio=_audio(folder, name), text=text, speaker=speaker)


def _audio(folder: Path, name: str) -> Path:
    candidates = [folder / "wav" / f"{name}{suffix}" for suffix in _SUFFIXES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise DataError(
        f"{candidates[0]}: no such file, nor with {' or '.join(_SUFFIXES[1:])}; "
        "unpack the archive again"
    )


def _samples(path: Path) -> bytes:
    try:
        samples, _ = soundfile.read(str(path), dtype="int16")
    except soundfile.SoundFileError as error:
        raise DataError(f"{path}: damaged ({error}); fetch the corpus again") from error
    return samples.astype("<i2").tobytes()


def _fetch(
    urls: Sequence[str],
    archive: Path,
    destination: Path,
    progress: Callable[[int, int | None], None] | None,
) -> None:
    """Download from the first address that delivers the whole archive."""
    # Here, since it takes 20 ms to import, which a recogniser's start need not wait for.
    from http.client import HTTPException

    reasons = []
    for url in urls:
        try:
            return _fetch_one(url, archive, progress)
        except (OSError, EOFError, HTTPException) as error:
            reasons.append(f"{url}: {error}")
    raise DataError(
        f"AN4 could not be downloaded ({'; '.join(reasons)}). Fetch {urls[0]} where the network "
        f"allows it, unpack it with `tar xzf an4_sphere.tar.gz` and move its folder an4 to "
        f"{destination}"
    )


def _fetch_one(url: str, archive: Path, progress: Callable[[int, int | None], None] | None) -> None:
    import urllib.request

    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer, archive.open("wb") as out:
        length = answer.headers.get("Content-Length")
        expected = int(length) if length else None
        received = 0
        while chunk := answer.read(_CHUNK):
            out.write(chunk)
            received += len(chunk)
            if progress:
                progress(received, expected)
    if expected is not None and received < expected:
        raise EOFError(f"the connection broke after {received} of {expected} bytes")


def _extract(tar: tarfile.TarFile, folder: Path) -> None:
    if hasattr(tarfile, "data_filter"):
        tar.extractall(folder, filter="data")
        return
    for member in tar.getmembers():  # Python before 3.11.4
        inside = (folder / member.name).resolve().is_relative_to(folder.resolve())
        if not inside or not (member.isfile() or member.isdir()):
            raise tarfile.TarError(f"{member.name} is no file or folder inside the archive")
    tar.extractall(folder)


def _unpack(archive: Path, folder: Path) -> Path:
    """Extract, refusing members that would land outside `folder`, and check what came."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            _extract(tar, folder)
        found = an4_digest(folder / "an4")
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, DataError) as error:
        raise _not_an4(str(error)) from error
    if found != AN4_DIGEST:
        raise _not_an4(f"contents have SHA-256 {found[:16]}..., not {AN4_DIGEST[:16]}...")
    return folder / "an4"


def _not_an4(reason: str) -> DataError:
    return DataError(
        f"the downloaded archive is not the official AN4 ({reason}); try again, or fetch "
        f"{AN4_URLS[0]} by hand"
    )
