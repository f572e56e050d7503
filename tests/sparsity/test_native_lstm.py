"""`nn.LSTM` under `GrowPrune` on the native passes, against the same training on torch's."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from growprune.native import paths, training
from growprune.nn import _recurrence, lstm
from growprune.sparsity import GrowPrune, Plan

pytestmark = pytest.mark.skipif(
    paths.kernel() == "numpy", reason="no compiled kernels: torch's own pass runs everywhere"
)

PLAN = {
    "seed_density": 0.1,
    "grow": {"epochs": 2, "interval": 2, "fraction": 0.08},
    "prune": {"rounds": 2, "final_density": 0.05, "retrain_epochs": 1},
}
EPOCHS, STEPS = 5, 4  # one epoch more than the plan has


@pytest.fixture
def passes(monkeypatch):
    """The native passes made so far: one for each layer and direction of a call."""
    made = []
    make = _recurrence._native_pass

    def noting(plan, parameters):
        made.append(plan)
        return make(plan, parameters)

    monkeypatch.setattr(_recurrence, "_native_pass", noting)
    return made


@pytest.fixture
def engine(monkeypatch):
    monkeypatch.setattr(training, "_engine", "native")
    return lambda name: monkeypatch.setattr(training, "_engine", name)


class Tagger(nn.Module):
    """Says something of each step of ragged sequences."""

    def __init__(self):
        super().__init__()
        self.lower = nn.LSTM(12, 24, 2, bidirectional=True, dropout=0.2)
        self.upper = nn.LSTM(48, 24)
        self.output = nn.Linear(24, 3)

    def forward(self, x, lengths):
        rows = self.lower(pack_padded_sequence(x, lengths, enforce_sorted=False))[0]
        padded = self.upper(nn.utils.rnn.pad_packed_sequence(rows)[0])[0]
        return self.output(padded)


def build(plan=PLAN):
    torch.manual_seed(0)
    model = Tagger()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    return GrowPrune(model, optimizer, Plan.from_dict(plan), seed=3, max_grad_norm=1.0)


def backward(model, number):
    """The loss and gradients of a batch of 32, the same for the same number."""
    torch.manual_seed(number)
    x = torch.randn(6, 32, 12)
    lengths = torch.randint(1, 7, (32,)).index_fill_(0, torch.tensor(0), 6)
    model.zero_grad()
    loss = model(x, lengths).square().mean()
    loss.backward()
    return loss.detach()


def run(grow_prune, start=0, stop=EPOCHS * STEPS):
    for number in range(start, stop):
        if number and number % STEPS == 0:
            grow_prune.end_epoch()
        backward(grow_prune.model, number)
        grow_prune.step()


def test_every_step_of_a_plan_agrees_with_torchs(engine, passes):
    grow_prune = build()
    model, taken, active = grow_prune.model, [], set()
    for number in range(EPOCHS * STEPS):
        if number and number % STEPS == 0:
            grow_prune.end_epoch()
        engine("torch")
        loss = backward(model, number)
        expected = {name: p.grad.clone() for name, p in model.named_parameters()}
        assert not passes
        engine("native")
        torch.testing.assert_close(backward(model, number), loss, rtol=1e-5, atol=1e-7)
        taken.append(len(passes))
        passes.clear()
        learning = grow_prune.phase == "grow"
        for name, parameter in model.named_parameters():
            ours, theirs = parameter.grad, expected[name]
            mask = grow_prune.masks.get(name)
            if mask is not None and not learning:
                assert name == "output.weight" or not ours[~mask].any()
                ours, theirs = ours * mask, theirs * mask
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
        active.add(grow_prune.active())
        grow_prune.step()
    assert grow_prune.phase == "retrain"
    assert len(active) >= 5  # it did grow and prune meanwhile
    # Four passes for the lower layers, one for the upper; that stays torch's while it is above
    # PAYS_BELOW, after the third growth.
    assert set(taken) == {4, 5}
    assert taken[0] == taken[-1] == 5


def test_the_plan_chooses_the_same_connections_on_both(engine):
    engine("torch")
    theirs = build()
    run(theirs)
    engine("native")
    ours = build()
    run(ours)
    assert [e["event"] for e in ours.history] == [e["event"] for e in theirs.history]
    for name, mask in theirs.masks.items():
        assert torch.equal(ours.masks[name], mask)
    for one, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_growth_sees_the_gradients_of_dormant_connections(engine, passes):
    grow_prune = build()
    model = grow_prune.model
    backward(model, 0)
    assert len(passes) == 5
    dormant = ~grow_prune.masks["upper.weight_hh_l0"]
    assert model.upper.weight_hh_l0.grad[dormant].any()
    resting = build({"seed_density": 0.1})
    backward(resting.model, 0)
    dormant = ~resting.masks["upper.weight_hh_l0"]
    assert not resting.model.upper.weight_hh_l0.grad[dormant].any()


@pytest.mark.parametrize("stop", [3, 8, 13])
def test_resumed_run_is_the_uninterrupted_one(engine, passes, stop):
    whole = build()
    run(whole)
    first = build()
    run(first, 0, stop)
    resumed = build()
    resumed.model.load_state_dict(copy.deepcopy(first.model.state_dict()))
    resumed.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    resumed.load_state_dict(first.state_dict())
    passes.clear()
    run(resumed, stop)
    assert passes
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)


def test_evaluation_gives_the_same_values(engine, passes):
    model = build({"seed_density": 0.05}).model.eval()
    x, lengths = torch.randn(6, 32, 12), [6, 4] * 16
    engine("torch")
    with torch.no_grad():
        expected = model(x, lengths)
        assert not passes
        engine("native")
        torch.testing.assert_close(model(x, lengths), expected)
    assert len(passes) == 5


def test_layers_without_masks_are_left_alone():
    model = Tagger()
    GrowPrune(model, torch.optim.SGD(model.parameters(), 0.1), Plan(), exclude=["lower.*"])
    assert "forward" not in vars(model.lower)
    assert model.upper.forward.__func__ is lstm.forward


def test_a_second_grow_prune_and_foreign_masks(engine, passes):
    """What counts is what is noted of the weights now, whoever noted it."""
    model = build({"seed_density": 0.05}).model
    again = GrowPrune(model, torch.optim.SGD(model.parameters(), 0.1), Plan(seed_density=1.0))
    backward(model, 0)
    assert not passes
    state = {**again.state_dict(), "masks": build({"seed_density": 0.05}).masks}
    again.load_state_dict(state)
    backward(model, 0)
    assert len(passes) == 5
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    passes.clear()
    backward(model, 0)
    assert not passes


def test_a_copy_and_a_saved_model_go_on_without_grow_prune(engine, passes, tmp_path):
    grow_prune = build({"seed_density": 0.05})
    run(grow_prune, 0, 2)
    model = grow_prune.model.eval()
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    fresh = Tagger().eval()
    fresh.load_state_dict(model.state_dict())
    x, lengths = torch.randn(6, 32, 12), [6, 4] * 16
    expected = model(x, lengths)
    assert passes
    passes.clear()
    for other in (copy.deepcopy(model), loaded, fresh):
        torch.testing.assert_close(other(x, lengths), expected)
        assert not passes
        other.train()
        GrowPrune(other, torch.optim.SGD(other.parameters(), 0.1), Plan(seed_density=0.05))
        backward(other, 0)
        assert len(passes) == 5
        passes.clear()
