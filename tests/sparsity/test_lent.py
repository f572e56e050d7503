"""Optimizers that step over the active connections alone do what they do with whole matrices."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from growprune.native.training import training_engine
from growprune.nn import HLSTM
from growprune.sparsity import GrowPrune, Plan
from growprune.sparsity.lent import ELEMENTWISE, Lender

pytestmark = pytest.mark.skipif(training_engine() != "native", reason="no compiled kernels here")

OPTIMIZERS = {kind.__name__: kind for kind in ELEMENTWISE}
OPTIMIZERS["fused Adam"] = partial(torch.optim.Adam, fused=True)
OPTIMIZERS["momentum"] = partial(torch.optim.SGD, momentum=0.9)


def build(kind, density=0.2, **options):
    torch.manual_seed(0)
    model = HLSTM(24, 20, gate_hidden_sizes=(16,))
    optimizer = kind(model.parameters(), lr=1e-3, **options)
    return model, optimizer, GrowPrune(model, optimizer, Plan(seed_density=density))


def backward(model, optimizer, seed):
    x = torch.randn(5, 16, 24, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    model(x)[0].square().sum().backward()


def lent(monkeypatch):
    """How many matrices were lent in each step from now on."""
    counts = []
    enter = Lender.lend

    def counting(self):
        counts.append(sum(loan.is_due() for loan in self._loans.values()))
        return enter(self)

    monkeypatch.setattr(Lender, "lend", counting)
    return counts


def held(optimizer):
    return [id(parameter) for parameter in optimizer.param_groups[0]["params"]]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_trains_as_with_whole_matrices(kind, monkeypatch):
    model, optimizer, grow_prune = build(OPTIMIZERS[kind])
    plain = copy.deepcopy(model)
    plain_optimizer = OPTIMIZERS[kind](plain.parameters(), lr=1e-3)
    masks = grow_prune.masks
    counts = lent(monkeypatch)
    for step in range(6):
        backward(model, optimizer, step)
        for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            theirs.grad = ours.grad.clone()
        grow_prune.step()
        plain_optimizer.step()
        with torch.no_grad():
            for name, parameter in plain.named_parameters():
                parameter.mul_(masks.get(name, torch.ones(())))
    assert counts == [0, 6, 6, 6, 6, 6]
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
        for key, value in optimizer.state.get(ours, {}).items():
            if torch.is_tensor(value):
                other = plain_optimizer.state[theirs][key]
                if name in masks and value.shape == masks[name].shape:
                    other = other * masks[name]
                torch.testing.assert_close(value, other, rtol=1e-6, atol=1e-9)
    assert held(optimizer) == [*map(id, model.parameters())]
    assert len(optimizer.state) == len(plain_optimizer.state)


@pytest.mark.parametrize("write", ["weight", "data", "state"])
def test_what_others_write_counts(write, monkeypatch):
    model, optimizer, grow_prune = build(torch.optim.Adam)
    whole, whole_optimizer, whole_grow_prune = build(torch.optim.Adam)
    monkeypatch.setattr(whole_grow_prune._lender, "keep", lambda: None)  # never lends
    for step in range(5):
        for m, o, g in (
            (model, optimizer, grow_prune),
            (whole, whole_optimizer, whole_grow_prune),
        ):
            backward(m, o, step)
            if step == 3:
                weight = m.weight_hh_l0
                with torch.no_grad():
                    if write == "weight":
                        weight.mul_(0.5)
                    elif write == "data":
                        weight.data.mul_(0.5)
                    else:
                        o.state[weight]["exp_avg"].mul_(0.5)
            g.step()
    for ours, theirs in zip(model.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
    assert (model.weight_hh_l0[~grow_prune.masks["weight_hh_l0"]] == 0).all()


def test_dormant_weights_that_others_write_are_cleared():
    model, optimizer, grow_prune = build(torch.optim.Adam)
    for step in range(3):
        backward(model, optimizer, step)
        grow_prune.step()
    dormant = ~grow_prune.masks["weight_ih_l0"]
    with torch.no_grad():
        model.weight_ih_l0.add_(1.0)
    grow_prune.end_epoch()
    backward(model, optimizer, 3)
    grow_prune.step()
    assert (model.weight_ih_l0[dormant] == 0).all()


def test_state_loaded_before_the_first_step(monkeypatch):
    model, optimizer, grow_prune = build(torch.optim.Adam)
    for step in range(3):
        backward(model, optimizer, step)
        grow_prune.step()
    states = copy.deepcopy((model.state_dict(), optimizer.state_dict(), grow_prune.state_dict()))
    fresh, fresh_optimizer, fresh_grow_prune = build(torch.optim.Adam)
    for part, state in zip((fresh, fresh_optimizer, fresh_grow_prune), states, strict=True):
        part.load_state_dict(state)
    counts = lent(monkeypatch)
    for step in range(3, 6):
        for m, o, g in ((model, optimizer, grow_prune), (fresh, fresh_optimizer, fresh_grow_prune)):
            backward(m, o, step)
            g.step()
    assert counts == [6, 0, 6, 6, 6, 6]
    for ours, theirs in zip(model.parameters(), fresh.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_an_error_of_the_optimizer_leaves_everything_in_place(monkeypatch):
    model, optimizer, grow_prune = build(torch.optim.SGD)
    for step in range(2):
        backward(model, optimizer, step)
        grow_prune.step()

    def fail(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(optimizer, "step", fail)
    backward(model, optimizer, 2)
    with pytest.raises(RuntimeError, match="no"):
        grow_prune.step()
    assert held(optimizer) == [*map(id, model.parameters())]


def test_lends_to_no_optimizer_that_looks_at_whole_matrices(monkeypatch):
    class Sum(torch.optim.SGD):
        pass

    counts = lent(monkeypatch)
    for kind in (Sum, torch.optim.SGD):
        model, optimizer, grow_prune = build(kind)
        if kind is torch.optim.SGD:
            optimizer.register_step_post_hook(lambda *_: None)
        for step in range(3):
            backward(model, optimizer, step)
            grow_prune.step()
    assert counts == [0] * 6


def test_lends_nothing_of_dense_matrices(monkeypatch):
    counts = lent(monkeypatch)
    model, optimizer, grow_prune = build(torch.optim.SGD, density=0.8)
    for step in range(3):
        backward(model, optimizer, step)
        grow_prune.step()
    assert counts == [0] * 3


def test_gradients_of_several_passes_add_up():
    model, optimizer, grow_prune = build(torch.optim.SGD)
    whole, whole_optimizer, whole_grow_prune = build(torch.optim.SGD)
    for step in range(4):
        for m, o, passes in ((model, optimizer, 1), (whole, whole_optimizer, 2)):
            o.zero_grad()
            x = torch.randn(5, 16, 24, generator=torch.Generator().manual_seed(step))
            for part in x.chunk(passes, 1):
                m(part)[0].square().sum().backward()
        grow_prune.step()
        whole_grow_prune.step()
    for ours, theirs in zip(model.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_kept_matrices_are_nn_modules_too(monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 10), nn.Tanh(), nn.Conv1d(5, 3, 2))
    optimizer = torch.optim.Adam(model.parameters())
    grow_prune = GrowPrune(model, optimizer, Plan(seed_density=0.3))
    counts = lent(monkeypatch)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 12)).sum().backward()
        grow_prune.step()
    assert counts == [0, 1, 1]  # the convolution's weights are no matrix in memory
    for name, mask in grow_prune.masks.items():
        assert (dict(model.named_parameters())[name][~mask] == 0).all()
