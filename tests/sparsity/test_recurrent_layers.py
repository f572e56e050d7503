"""`nn.LSTM` and `nn.GRU` keep their fused path, and go on training, saving and loading."""

import copy

import pytest
import torch
from torch import nn

from growprune.sparsity import GrowPrune, Plan

PLAN = {
    "seed_density": 0.5,
    "grow": {"epochs": 1, "interval": 2, "fraction": 0.1},
    "prune": {"rounds": 1, "final_density": 0.2},
}


def train(model, grow_prune, steps):
    for _ in range(steps):
        grow_prune.optimizer.zero_grad()
        model(torch.randn(4, 3, 6))[0].square().sum().backward()
        grow_prune.step()


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
def test_pruned_layer_trains_saves_and_loads(layer, tmp_path):
    torch.manual_seed(0)
    model = layer(6, 8, num_layers=2, bidirectional=True)
    storages = {name: p.data_ptr() for name, p in model.named_parameters()}
    parameters = dict(model.named_parameters())
    grow_prune = GrowPrune(model, torch.optim.Adam(model.parameters(), 0.01), Plan.from_dict(PLAN))
    train(model, grow_prune, 5)
    grow_prune.end_epoch()
    train(model, grow_prune, 3)
    assert grow_prune.density() == pytest.approx(0.2, abs=0.002)

    # The fused path looks for its flat weights by identity and address.
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == storages
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    assert all(
        weight is parameters[name]
        for weight, name in zip(model._flat_weights, model._flat_weights_names, strict=True)
    )

    torch.save(model.state_dict(), tmp_path / "layer.pt")
    fresh = layer(6, 8, num_layers=2, bidirectional=True)
    fresh.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    x = torch.randn(4, 3, 6)
    assert torch.equal(fresh(x)[0], model(x)[0])
    assert torch.equal(copy.deepcopy(model)(x)[0], model(x)[0])
    train(model, grow_prune, 1)
    for name, mask in grow_prune.masks.items():
        assert (parameters[name][~mask] == 0).all()
        assert (parameters[name].grad[~mask] == 0).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
def test_on_a_gpu_weights_stay_one_chunk(layer):
    model = layer(6, 8, num_layers=2).cuda()
    start = model.weight_ih_l0.data_ptr()
    grow_prune = GrowPrune(
        model, torch.optim.Adam(model.parameters(), 0.01, fused=True), Plan.from_dict(PLAN)
    )
    for _ in range(5):
        # cuDNN warns when the weights are no longer one chunk of memory, and warnings are errors.
        model(torch.randn(4, 3, 6, device="cuda"))[0].square().sum().backward()
        grow_prune.step()
    grow_prune.end_epoch()
    assert model.weight_ih_l0.data_ptr() == start
    for name, parameter in model.named_parameters():
        if name in grow_prune.masks:
            assert (parameter[~grow_prune.masks[name]] == 0).all()
