"""The corpus's folder: pictures, and a JSON file in the Karpathy layout."""

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from growprune.data.generated import generate
from growprune.data.scenes.captions import captions
from growprune.data.scenes.pictures import draw
from growprune.data.scenes.scene import Scene, scenes
from growprune.files import write_text

Progress = Callable[[int, int], None]

FILE = "dataset_scenes.json"
PICTURES = "images"
_FORMAT = 2  # raised by whoever changes what is drawn or said
_KARPATHY_NAMES = {"train": "train", "dev": "val", "test": "test"}


def make_scenes(
    folder: str | Path,
    seed: int = 0,
    *,
    train: int = 1600,
    dev: int = 200,
    test: int = 300,
    progress: Progress | None = None,
) -> Path:
    """Draw the corpus into `folder`, or reuse what an earlier call with these settings left.

    The folder appears whole or not at all: JPEG files under `images/`, and `dataset_scenes.json`,
    which `open_captions` reads. No two pictures show the same things in the same layout, so none
    of the test split's scenes can be learnt by heart. The same settings, NumPy and Pillow give
    the same pictures.

    Args:
        folder: where the corpus goes; an older corpus of this function there is replaced.
        seed: decides scenes, sentences and everything that varies in a picture.
        train: number of training pictures; likewise `dev` and `test`.
        dev: see `train`.
        test: see `train`.
        progress: called after each picture with the number done and the number wanted.

    Returns:
        The path of the JSON file.

    Raises:
        DataError: the folder holds other files or cannot be written.
    """
    sizes = {"train": train, "dev": dev, "test": test}
    if min(sizes.values()) < 1:
        raise ValueError(f"every split needs at least 1 picture, got {sizes}")
    folder = Path(folder)
    settings = {"format": _FORMAT, "seed": seed, **sizes}
    generate(
        folder, settings, lambda empty: _draw_all(empty, seed, sizes, progress),
        marker="scenes.json",
    )  # fmt: skip
    return folder / FILE


def _draw_all(folder: Path, seed: int, sizes: Mapping[str, int], progress: Progress | None) -> None:
    splits = [split for split, size in sizes.items() for _ in range(size)]
    wanted = islice(scenes(seed), len(splits))
    (folder / PICTURES).mkdir()
    draw_one = partial(_entry, folder / PICTURES, seed)
    entries = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # NumPy and Pillow let each other run
        for entry in threads.map(draw_one, range(len(splits)), splits, wanted):
            entries.append(entry)
            if progress is not None:
                progress(len(entries), len(splits))
    content = {"dataset": "scenes", "images": entries}
    write_text(folder / FILE, json.dumps(content, indent=1) + "\n")


def _entry(folder: Path, seed: int, number: int, split: str, scene: Scene) -> dict[str, Any]:
    """Draw one picture into its file, and say what the JSON says of it."""
    from PIL import Image

    path = folder / f"{split}-{number:05d}.jpg"
    generator = np.random.default_rng([seed, 1, number])
    Image.fromarray(draw(scene, generator)).save(path, quality=90)
    sentences = captions(scene, generator)
    return {
        "filename": path.name,
        "imgid": number,
        "split": _KARPATHY_NAMES[split],
        "sentences": [{"raw": text, "tokens": text.split()} for text in sentences],
    }
