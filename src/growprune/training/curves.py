"""The curves of a run while it goes on, for TensorBoard."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from growprune.files import unwritable


class Curves:
    """A folder with TensorBoard's file of one start of a run.

    Raises:
        DataError: the folder cannot be written, here and in every method.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer = self._written(lambda: SummaryWriter(str(folder)))

    def add(self, entry: Mapping[str, Any], densities: Mapping[str, float]) -> None:
        """Add an epoch's numbers, as in the record, and the density of every matrix."""
        numbers = {k: v for k, v in entry.items() if isinstance(v, int | float) and k != "epoch"}
        numbers |= {f"density/{name}": density for name, density in densities.items()}
        self._written(lambda: self._write(numbers, entry["epoch"]))

    def close(self) -> None:
        """Write what is left."""
        self._written(self._writer.close)

    def _write(self, numbers: Mapping[str, float], epoch: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def _written(self, write: Callable[[], Any]) -> Any:
        try:
            return write()
        except OSError as error:
            raise unwritable(self._folder, error) from error
