import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from growprune.sparsity.selection import apportion, geometric_step, select, share

ALL = torch.ones(6, dtype=torch.bool)


def chosen(scores, count, eligible=None):
    scores = torch.tensor(scores)
    eligible = torch.ones_like(scores, dtype=torch.bool) if eligible is None else eligible
    return select(scores, eligible, count).nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("scores", "count", "expected"),
    [
        ([3.0, 1.0, 2.0, 5.0, 4.0], 2, [3, 4]),
        ([3.0, 1.0, 2.0, 5.0, 4.0], 0, []),
        ([3.0, 1.0, 2.0, 5.0, 4.0], 5, [0, 1, 2, 3, 4]),
        ([1.0, 2.0, 2.0, 2.0, 0.0], 2, [1, 2]),
        ([2.0, 3.0, 2.0, 2.0, 1.0], 3, [0, 1, 2]),
        ([0.0, 0.0, 0.0, 0.0, 0.0], 3, [0, 1, 2]),
        ([-1.0, -3.0, -2.0, -1.0, -5.0], 2, [0, 3]),
        ([0.0, -0.0, 0.0, -0.0, 0.0], 2, [0, 1]),
    ],
)
def test_hand_computed(scores, count, expected):
    assert chosen(scores, count) == expected


def test_only_eligible_entries_are_chosen():
    eligible = torch.tensor([False, True, True, False, True])
    assert chosen([9.0, 1.0, 1.0, 9.0, 0.0], 2, eligible) == [1, 2]


@pytest.mark.parametrize("count", [-1, 4])
def test_impossible_count_is_refused(count):
    eligible = torch.tensor([True, True, True, False])
    with pytest.raises(ValueError, match=f"count={count} of 3 eligible"):
        select(torch.zeros(4), eligible, count)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40),
    st.data(),
)
def test_is_the_head_of_a_stable_sort(entries, data):
    scores = torch.tensor([float(score) for score, _ in entries])
    eligible = torch.tensor([flag for _, flag in entries])
    count = data.draw(st.integers(0, int(eligible.sum())))
    candidates = [i for i in range(len(entries)) if entries[i][1]]
    expected = sorted(sorted(candidates, key=lambda i: -entries[i][0])[:count])
    assert select(scores, eligible, count).nonzero().flatten().tolist() == expected


@pytest.mark.parametrize(
    ("fraction", "total", "expected"),
    [(0.5, 5, 3), (0.3, 10, 3), (0.1, 4, 0), (0.0, 7, 0), (1.0, 7, 7), (0.1, 25, 3)],
)
def test_share_rounds_halves_up(fraction, total, expected):
    assert share(fraction, total) == expected


def test_geometric_steps_by_hand():
    # 1000 -> 10 in 2 rounds is a ratio of 1/10 a round.
    assert geometric_step(1000, 10, 2) == 100
    assert geometric_step(100, 10, 1) == 10
    assert geometric_step(5, 10, 3) == 5
    assert geometric_step(8, 0, 3) == 0


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(1, 12))
def test_geometric_schedule_falls_and_ends_exactly(active, final, rounds):
    start = active
    for left in range(rounds, 0, -1):
        following = geometric_step(active, final, left)
        assert following <= active
        active = following
    assert active == min(start, final)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 50)), min_size=1, max_size=8),
    st.floats(0, 1),
)
def test_apportion_is_exact_and_within_capacity(entries, fraction):
    weights, capacities = [w for w, _ in entries], [c for _, c in entries]
    total = math.floor(fraction * sum(capacities))
    counts = apportion(total, weights, capacities)
    assert sum(counts) == total
    assert all(0 <= count <= room for count, room in zip(counts, capacities, strict=True))


def test_apportion_by_hand():
    # Shares 3.5, 3.5, 7: the first of the tied halves gets the odd one.
    assert apportion(14, [1, 1, 2], [100, 100, 100]) == [4, 3, 7]
    # The first is full at 2; its 5 too many go to the others 1:2, as 4 and 8.
    assert apportion(14, [7, 1, 2], [2, 100, 100]) == [2, 4, 8]
