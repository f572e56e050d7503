"""Where a packed model comes from."""

from pathlib import Path
from typing import Any

from growprune.errors import CheckpointError
from growprune.training import load_local, read_record


def provenance(folder: str | Path, recipe: str) -> dict[str, Any]:
    """Recipe, seed, and the commit if the run in `folder` has a record."""
    folder = Path(folder)
    try:
        commit = read_record(folder).get("commit")
    except CheckpointError:
        commit = None
    return {"recipe": recipe, "seed": load_local(folder).get("seed"), "commit": commit}
