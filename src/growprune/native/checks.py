"""Checks of the arrays given to the kernels."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def array(name: str, value: Any, dtypes: Sequence[type[np.generic]], dimensions: int) -> np.ndarray:
    """The array, contiguous, after a check of its type and number of dimensions.

    Raises:
        TypeError: it is no array or of another dtype.
        ValueError: it has another number of dimensions.
    """
    value = contiguous(name, value, dtypes)
    if value.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions, got shape {value.shape}")
    return value


def array_of_shape(
    name: str, value: Any, dtype: type[np.generic], shape: tuple[int, ...]
) -> np.ndarray:
    """The array, contiguous, after a check of its type and shape.

    Raises:
        TypeError: it is no array or of another dtype.
        ValueError: it has another shape.
    """
    value = contiguous(name, value, (dtype,))
    if value.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {value.shape}")
    return value


def contiguous(name: str, value: Any, dtypes: Sequence[type[np.generic]]) -> np.ndarray:
    """The array, copied only if it is not contiguous, after a check of its type.

    Raises:
        TypeError: it is no array or of another dtype.
    """
    if not isinstance(value, np.ndarray) or value.dtype not in dtypes:
        wanted = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        found = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"{name} must be a NumPy array of {wanted}, got {found}")
    # np.ascontiguousarray would make a number an array of one element.
    return value if value.flags.c_contiguous else value.copy()
