"""Which values dropout keeps."""

import numpy as np
import pytest

from growprune.native.training import dropout_kept


def hashed(number, seed):
    """The hash in whole numbers, one at a time."""
    bits = (number + seed) % 2**32
    bits = ((bits ^ (bits >> 16)) * 0x7FEB352D) % 2**32 ^ (seed >> 32)
    bits = ((bits ^ (bits >> 15)) * 0x846CA68B) % 2**32
    return bits ^ (bits >> 16)


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**63 + 12345])
def test_keeps_what_the_hash_says(seed):
    kept = dropout_kept(5, 7, 0.3, seed)
    limit = int(float(np.float32(0.3)) * 2**24)
    expected = [hashed(number, seed) >> 8 < limit for number in range(35)]
    assert kept.tolist() == np.reshape(expected, (5, 7)).tolist()


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.95])
def test_keeps_at_its_rate_and_independently(keep):
    kept = np.stack([dropout_kept(400, 250, keep, seed) for seed in (1, 2, 2**32 + 1)])
    deviation = (keep * (1 - keep)) ** 0.5
    assert abs(kept.mean() - keep) < 5 * deviation / kept.size**0.5
    normal = (kept - keep) / deviation
    for axis in range(3):  # seeds, rows, units
        first, second = np.moveaxis(normal, axis, 0)[:-1], np.moveaxis(normal, axis, 0)[1:]
        assert abs((first * second).mean()) < 5 / first.size**0.5
