import numpy as np
import pytest

from growprune.data import FeatureTable
from growprune.errors import DataError


def test_an_error_is_one_line_whatever_it_quotes():
    error = DataError("no a\nb\r\x0b\x0c\x1c\x85\u2028.wav; caf\u00e9 is left\tas it is")
    assert str(error) == r"no a\nb\r\x0b\x0c\x1c\x85\u2028.wav; caf" + "\u00e9 is left\tas it is"


def test_a_picture_whose_name_has_a_line_break_is_named_in_one_line():
    with pytest.raises(DataError) as caught:
        FeatureTable(("a.jpg", "b\nc.jpg"), np.array([[1.0], [np.nan]]), "table")
    assert r"the features of b\nc.jpg are not finite" in str(caught.value)
