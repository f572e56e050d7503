"""Which layout a path holds."""

from pathlib import Path

from growprune.data.captions.coco import is_coco, read_coco
from growprune.data.captions.corpus import CaptionCorpus
from growprune.data.captions.karpathy import is_karpathy, read_karpathy
from growprune.data.captions.reading import parse_object, read_text
from growprune.data.captions.rows import read_rows
from growprune.errors import DataError

# A folder's captions, the best source first: Karpathy's file has the usual splits of MSCOCO.
_PATTERNS = (
    "dataset*.json",
    "annotations/dataset*.json",
    "annotations/captions_*.json",
    "captions_*.json",
    "*.csv",
    "*.jsonl",
)


def open_captions(path: str | Path) -> CaptionCorpus:
    """Open a corpus of captioned images.

    Layouts: Karpathy's JSON file (`val` is dev, `restval` is train, `unassigned` is left out);
    MSCOCO's `annotations/captions_*.json`; a `.csv` or `.jsonl` file with a row for each caption
    and the columns `file`, `caption` and optionally `split`; or a folder that holds one of them.
    In MSCOCO's folder a Karpathy file (`dataset_coco.json`) is preferred, for its splits.
    Where a file has no splits, an image's is chosen by the SHA-256 of its name: eight tenths train,
    one tenth dev, one tenth test, the same ones on every machine.

    Pictures are looked for beside the file, in `images`, and in the folders that it names.

    Raises:
        DataError: nothing is found, or something in the file cannot be used.
    """
    path = Path(path)
    files = _found(path) if path.is_dir() else [path]
    first = files[0]
    folder = first.parent.parent if first.parent.name == "annotations" else first.parent
    if first.suffix.lower() in (".csv", ".jsonl"):
        return read_rows(first, folder)
    content = parse_object(read_text(first), str(first))
    if is_karpathy(content):
        return read_karpathy(content, first, folder)
    if is_coco(content):
        name = first.stem.removeprefix("captions_") if len(files) == 1 else folder.resolve().name
        return read_coco(files, name, folder)
    raise DataError(
        f"{first}: neither Karpathy's layout (images with sentences) nor MSCOCO's (images and "
        "annotations); name another file"
    )


def holds_captions(folder: Path) -> bool:
    """Whether a folder has anything that `open_captions` would try to read."""
    return any(True for pattern in _PATTERNS for _ in folder.glob(pattern))


def _found(folder: Path) -> list[Path]:
    for pattern in _PATTERNS:
        files = sorted(folder.glob(pattern))
        if len(files) > 1 and "captions_" not in pattern:
            names = ", ".join(file.name for file in files)
            raise DataError(f"{folder}: holds several lists of captions ({names}); name one")
        if files:
            return files
    raise DataError(
        f"{folder}: no captions in it; looked for {', '.join(_PATTERNS)}; name another folder or "
        "write a captions.csv with the columns file and caption"
    )
