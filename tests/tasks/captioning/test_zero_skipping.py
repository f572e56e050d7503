import numpy as np
import pytest
import torch
from small_captioners import features, wordy

from growprune.metrics import totals
from growprune.tasks.captioning.task import WORDS_PER_CAPTION
from growprune.tasks.captioning.zero_skipping import measured_flops, used_shares


def static(captioner):
    operations = captioner.model.operations(captioner.masks, WORDS_PER_CAPTION)
    return totals(operations, "caption")["flops_per_caption"]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(captioner, x):
    """Shares of connections used, one image, step, layer and gate after the other."""
    model = captioner.model
    weights = {name: w.detach().double().numpy() for name, w in model.named_parameters()}
    masks = {name: captioner.masks[name].numpy() for name in captioner.masks}
    used, there = {}, {}
    for row in x:
        (sentence,) = captioner.caption(row[None], beam=1)
        words = captioner.vocabulary.encode(sentence.text)
        if len(words) == captioner.recipe.data.longest:
            words = words[:-1]  # the last word is written, and not read any more
        with torch.no_grad():
            image = model.image(model.normalise(torch.from_numpy(row)))
            seen = list(model.embedding(torch.tensor(words, dtype=torch.long)))
        layers = model.recurrent.num_layers
        h, c = np.zeros((layers, 20)), np.zeros((layers, 20))
        if model.settings.inject == "init":
            h[:] = c[:] = np.tanh(image.double().numpy())
            image = torch.zeros(20)
        seen.insert(0, image)
        for vector in seen:
            below = vector.double().numpy()
            for layer in range(layers):
                end = f"_l{layer}"
                part = {
                    name.removeprefix("recurrent.").removesuffix(end): value
                    for name, value in weights.items()
                    if name.startswith("recurrent.") and name.endswith(end)
                }
                z = part["weight_ih"] @ below + part["weight_hh"] @ h[layer]
                z = np.split(z + part["bias_ih"] + part["bias_hh"], 4)
                for number, gate in enumerate("ifgo"):
                    stage = 1
                    while f"weight_{gate}_{stage}" in part:
                        a = np.maximum(z[number], 0)
                        name = f"recurrent.weight_{gate}_{stage}{end}"
                        for column, value in enumerate(a):
                            kept = int(masks[name][:, column].sum())
                            there[name] = there.get(name, 0) + kept
                            used[name] = used.get(name, 0) + (kept if value != 0 else 0)
                        z[number] = (
                            part[f"weight_{gate}_{stage}"] @ a + part[f"bias_{gate}_{stage}"]
                        )
                        stage += 1
                i, f, g, o = z
                c[layer] = sigmoid(f) * c[layer] + sigmoid(i) * np.tanh(g)
                h[layer] = sigmoid(o) * np.tanh(c[layer])
                below = h[layer]
    return {name: used[name] / there[name] for name in there}


@pytest.mark.parametrize(
    "kind", ["h-lstm, layer norm", "two h-lstms, tied", "h-lstm, begun and merged"]
)
def test_shares_are_those_counted_by_hand(kind):
    captioner = wordy(kind, 0.4, slope=0.0)
    x = features(3)
    found, wanted = used_shares(captioner, x), by_hand(captioner, x)
    assert found.keys() == wanted.keys()
    for name, share in wanted.items():
        assert 0.1 < share < 0.9
        assert found[name] == pytest.approx(share, rel=1e-12)
    assert not captioner.model.recurrent._forward_hooks


def test_flops_fall_by_what_is_skipped():
    captioner = wordy("h-lstm, layer norm", 0.4, slope=0.0)
    x = features(3)
    shares = used_shares(captioner, x)
    steps = WORDS_PER_CAPTION + 1
    saved = sum(
        2 * steps * int(captioner.masks[name].sum()) * (1 - share) for name, share in shares.items()
    )
    found, before = measured_flops(captioner, x), static(captioner)
    assert found["recurrent_measured"] == pytest.approx(before["recurrent"] - saved)
    assert found["whole_measured"] == pytest.approx(before["whole"] - saved)
    assert saved > 0.1 * before["recurrent"]


@pytest.mark.parametrize("kind", ["lstm", "h-lstm, layer norm"])
def test_nothing_is_skipped_without_zeros(kind):
    captioner = wordy(kind, 1.0, slope=0.01)
    found, before = measured_flops(captioner, features(3)), static(captioner)
    assert found == {
        "recurrent_measured": before["recurrent"],
        "whole_measured": before["whole"],
    }


def test_a_gate_that_never_opens_costs_nothing():
    captioner = wordy("h-lstm, layer norm", 1.0, slope=0.0)
    with torch.no_grad():
        captioner.model.recurrent.bias_ih_l0[:18] = -1e6  # the input gate's hidden layer
    shares = used_shares(captioner, features(3))
    assert shares["recurrent.weight_i_1_l0"] == 0
    assert shares["recurrent.weight_f_1_l0"] > 0
