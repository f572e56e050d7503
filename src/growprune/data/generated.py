"""Corpora made on the spot: their folder appears whole, and is filled again only when it must."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from growprune.errors import DataError
from growprune.files import write_text


def generate(
    folder: Path,
    settings: Mapping[str, Any],
    fill: Callable[[Path], None],
    *,
    marker: str,
    failures: tuple[type[Exception], ...] = (OSError,),
) -> None:
    """Fill `folder`, or leave it alone where an earlier call with these settings filled it.

    Args:
        folder: appears whole or not at all; what an older call left there is replaced.
        settings: everything that decides the content; JSON types.
        fill: writes the content into the empty folder it is given.
        marker: name of the file, in the folder, that keeps the settings.
        failures: what `fill` raises when it cannot write.

    Raises:
        DataError: the folder holds other files or cannot be written.
    """
    found = _settings_of(folder / marker)
    if found == settings:
        return
    if found is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: holds other files; choose a new or empty folder for the corpus")
    with _replacing_folder(folder, failures) as temporary:
        fill(temporary)
        write_text(temporary / marker, json.dumps(settings, indent=1) + "\n")


def _settings_of(path: Path) -> dict[str, Any] | None:
    """Return the settings a corpus was made with, or None where there is no such corpus."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return settings if isinstance(settings, dict) else None


@contextmanager
def _replacing_folder(folder: Path, failures: tuple[type[Exception], ...]) -> Iterator[Path]:
    """Yield a temporary folder beside `folder` that takes its place when the block succeeds."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        new, old = temporary / "new", temporary / "old"
        new.mkdir(mode=0o755)
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except failures as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unwritable(folder: Path, error: Exception) -> DataError:
    return DataError(
        f"{folder}: the corpus cannot be written ({error}); free some space or "
        "choose another folder"
    )
