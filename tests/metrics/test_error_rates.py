import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from growprune.metrics.error_rates import (
    ErrorCounts,
    character_error_rate,
    character_errors,
    word_error_rate,
    word_errors,
)


def test_word_edits_by_hand():
    references = ["THE CAT SAT", "GO", "A B C D"]
    # One substitution; two insertions; one deletion.
    hypotheses = ["THE HAT SAT", "OH GO ON", "A B D"]
    counts = word_errors(references, hypotheses)
    assert counts == ErrorCounts(substitutions=1, deletions=1, insertions=2, reference_units=8)
    assert counts.errors == 4
    assert word_error_rate(references, hypotheses) == 0.5


def test_character_edits_by_hand_count_spaces():
    # CAT -> HAT one substitution; "A B" -> "AB" one deletion, the space; 6 characters.
    counts = character_errors(["CAT", "A B"], ["HAT", "AB"])
    assert counts == ErrorCounts(1, 1, 0, 6)
    assert character_error_rate(["CAT", "A B"], ["HAT", "AB"]) == pytest.approx(2 / 6)


def test_rate_is_of_the_whole_set_not_the_mean_over_utterances():
    assert word_error_rate(["A", "B C D E F G H I J"], ["X", "B C D E F G H I J"]) == 0.1


def test_empty_references_count_their_insertions():
    assert word_errors(["", "A B"], ["X Y", "A B"]) == ErrorCounts(0, 0, 2, 2)
    assert word_error_rate(["", "A B"], ["X Y", "A B"]) == 1.0
    assert character_errors([""], ["AB"]) == ErrorCounts(0, 0, 2, 0)


def test_empty_hypotheses_are_all_deletions():
    assert word_errors(["A B", "C"], ["", ""]) == ErrorCounts(0, 3, 0, 3)


def test_nothing_to_say():
    assert word_error_rate([], []) == 0.0
    assert word_error_rate([""], [""]) == 0.0
    assert word_error_rate([""], ["A"]) == math.inf


def slow_distance(first, second):
    """Edit distance from its definition."""
    if not first or not second:
        return len(first) + len(second)
    return min(
        slow_distance(first[1:], second) + 1,
        slow_distance(first, second[1:]) + 1,
        slow_distance(first[1:], second[1:]) + (first[0] != second[0]),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("AB ", max_size=5), st.text("AB ", max_size=5)), min_size=1, max_size=3
    )
)
def test_edits_add_up_to_the_distances(pairs):
    references = [" ".join(reference.split()) for reference, _ in pairs]
    hypotheses = [" ".join(hypothesis.split()) for _, hypothesis in pairs]
    aligned = list(zip(references, hypotheses, strict=True))
    assert word_errors(references, hypotheses).errors == sum(
        slow_distance(r.split(), h.split()) for r, h in aligned
    )
    assert character_errors(references, hypotheses).errors == sum(
        slow_distance(r, h) for r, h in aligned
    )


def test_unequal_lists_are_refused():
    with pytest.raises(ValueError, match="2 references but 1 hypotheses"):
        word_error_rate(["A", "B"], ["A"])
