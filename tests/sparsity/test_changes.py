import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from growprune.sparsity.changes import grown, pruned, regrown


def mask(text):
    return torch.tensor([letter == "1" for letter in text])


def text(active):
    return "".join("1" if value else "0" for value in active.tolist())


def test_growth_takes_the_best_dormant():
    scores = torch.tensor([9.0, 1.0, 3.0, 3.0, 9.0, 2.0])
    assert text(grown(mask("100010"), scores, 1)) == "101010"
    assert text(grown(mask("100010"), scores, 3)) == "101111"
    assert text(grown(mask("100010"), scores, 0)) == "100010"


def test_pruning_takes_the_worst_active_ties_lowest_index_first():
    scores = torch.tensor([5.0, 0.0, 2.0, 2.0, 0.0, 7.0])
    assert text(pruned(mask("101101"), scores, 1)) == "100101"
    assert text(pruned(mask("101101"), scores, 3)) == "000001"
    assert text(pruned(mask("101101"), scores, 4)) == "000000"


def test_rewiring_prefers_connections_that_were_not_just_pruned():
    # Index 0 was pruned and scores best; 3, dormant before, comes instead.
    scores = torch.tensor([9.0, 0.0, 0.0, 1.0])
    assert text(regrown(mask("0110"), mask("1110"), scores)) == "0111"


def test_rewiring_takes_pruned_ones_back_when_nothing_else_is_left():
    # Two pruned, one dormant before: that one comes, and the better of the two pruned.
    scores = torch.tensor([1.0, 2.0, 0.0, 0.0])
    assert text(regrown(mask("0010"), mask("1110"), scores)) == "0111"


tiles = st.lists(st.tuples(st.booleans(), st.integers(-2, 2)), min_size=1, max_size=30)


@settings(deadline=None)
@given(tiles, st.data())
def test_growth_never_drops_pruning_never_adds(entries, data):
    active = torch.tensor([flag for flag, _ in entries])
    scores = torch.tensor([float(score) for _, score in entries])
    more = data.draw(st.integers(0, int((~active).sum())))
    less = data.draw(st.integers(0, int(active.sum())))
    bigger, smaller = grown(active, scores, more), pruned(active, scores, less)
    assert not (active & ~bigger).any()
    assert not (smaller & ~active).any()
    assert bigger.sum() == active.sum() + more
    assert smaller.sum() == active.sum() - less
    assert regrown(smaller, active, scores).sum() == active.sum()
