"""The decoder against torch's own layers, a word at a time, without batches or padding."""

import pytest
import torch
from torch import nn

from growprune.metrics import totals
from growprune.tasks.captioning.model import CaptionModel, StandardNorm, feature_norm
from growprune.tasks.captioning.settings import ModelSettings

WIDTH, WORDS, SIZE = 7, 9, 5
KINDS = {
    "lstm": {},
    "three lstms, tied": {"recurrent": {"layers": 3}, "tied": True},
    "h-lstm": {"recurrent": {"gate_hidden_sizes": [4]}},
    "two h-lstms, standardised": {
        "recurrent": {"layers": 2, "gate_hidden_sizes": [4, 3]}, "normalise": "standard",
    },
    "lstm, layer norm": {"normalise": "layer"},
    "two lstms, merged": {"recurrent": {"layers": 2}, "merge": True},
    "h-lstm, merged, standardised": {
        "recurrent": {"gate_hidden_sizes": [4]}, "normalise": "standard", "merge": True,
    },
    "two lstms, begun": {"recurrent": {"layers": 2}, "inject": "init", "embedding_size": SIZE - 1},
    "h-lstm, begun and merged": {
        "recurrent": {"gate_hidden_sizes": [4]}, "inject": "init", "merge": True,
    },
}  # fmt: skip


def build(kind="lstm", seed=0, **changes):
    table = KINDS[kind] | changes
    table["recurrent"] = {"hidden_size": SIZE} | table.get("recurrent", {})
    torch.manual_seed(seed)
    model = CaptionModel(
        ModelSettings.model_validate({"embedding_size": SIZE} | table), WIDTH, WORDS
    )
    if isinstance(model.normalise, StandardNorm):
        model.normalise.fit(torch.rand(20, WIDTH))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4)  # far from a uniform distribution
    return model.double().eval()


CAPTIONS = [[3, 1, 4], [], [5], [2, 6, 5, 3, 8]]


def padded(captions, filler=0, more=0):
    lengths = torch.tensor([len(caption) for caption in captions])
    words = torch.full((len(captions), int(lengths.max()) + more), filler)
    for row, caption in zip(words, captions, strict=True):
        row[: len(caption)] = torch.tensor(caption, dtype=torch.long)
    return words, lengths


def images(count=4):
    return torch.rand(count, WIDTH, dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_known_captions_are_scored_as_they_are_written(kind):
    """`forward` gives, softmaxed, what `begin` and `step` give word after word."""
    model, features = build(kind), images()
    logits = model(features, *padded(CAPTIONS))
    assert logits.dtype == torch.float32
    steps = logits.split([len(caption) + 1 for caption in CAPTIONS])
    for feature, caption, found in zip(features, CAPTIONS, steps, strict=True):
        log_probs, state = model.begin(feature[None])
        rows = [log_probs[0]]
        for word in caption:
            log_probs, state = model.step(torch.tensor([word]), state)
            rows.append(log_probs[0])
        torch.testing.assert_close(found.log_softmax(-1), torch.stack(rows), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(torch.stack(rows).exp().sum(-1), torch.ones(len(rows)))


@pytest.mark.parametrize("layers", [1, 3])
def test_a_caption_is_scored_by_torchs_own_layers(layers):
    model, features = build(recurrent={"layers": layers}), images(1)
    lstm = nn.LSTM(SIZE, SIZE, layers, batch_first=True).double()
    lstm.load_state_dict(model.recurrent.state_dict())
    caption = torch.tensor([[3, 1, 4]])
    seen = features @ model.image.weight.T + model.image.bias
    x = torch.cat([seen[None], model.embedding.weight[caption]], dim=1)
    wanted = lstm(x)[0][0] @ model.output.weight.T + model.output.bias
    found = model(features, caption, torch.tensor([3]))
    torch.testing.assert_close(found, wanted.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_padding_never_changes_a_result(kind, training):
    model = build(kind, dropout=0.0).train(training)
    features = images()
    found = model(features, *padded(CAPTIONS))
    for filler, more in ((0, 4), (8, 0), (7, 3)):
        torch.testing.assert_close(model(features, *padded(CAPTIONS, filler, more)), found)


@pytest.mark.parametrize("kind", KINDS)
def test_company_does_not_matter(kind):
    model, features = build(kind), images()
    together = model(features, *padded(CAPTIONS)).split([len(c) + 1 for c in CAPTIONS])
    for row, (caption, found) in enumerate(zip(CAPTIONS, together, strict=True)):
        alone = model(features[row : row + 1], *padded([caption]))
        torch.testing.assert_close(alone, found)


def test_words_that_come_later_are_not_seen():
    model, features = build("two h-lstms, standardised"), images(1)
    first = model(features, *padded([[3, 1, 4, 1]]))
    second = model(features, *padded([[3, 1, 5, 1]]))
    torch.testing.assert_close(first[:3], second[:3], rtol=0, atol=0)
    assert (first[3:] - second[3:]).abs().min() > 0


def test_dropout_is_on_inputs_layers_and_outputs_in_training_alone():
    model, features = build(dropout=0.5), images()
    batch = features, *padded(CAPTIONS)
    torch.testing.assert_close(model(*batch), model(*batch), rtol=0, atol=0)
    model.train()
    assert (model(*batch) - model(*batch)).abs().max() > 0.1
    stacked = build("three lstms, tied", dropout=0.5)
    assert stacked.recurrent.dropout == 0.5
    assert build(dropout=0.5).recurrent.dropout == 0.0
    only_features = build(dropout=0.0, feature_dropout=0.5).train()
    assert (only_features(*batch) - only_features(*batch)).abs().max() > 0.1


def test_a_tied_model_writes_with_the_words_it_reads():
    model = build("three lstms, tied")
    names = dict(model.named_parameters())
    assert "output.weight" not in names
    assert model.output.weight is model.embedding.weight
    features = images()
    with torch.no_grad():
        before = model(features, *padded(CAPTIONS))
        model.embedding.weight[0] += 0.5  # the end, which is never read
        change = model(features, *padded(CAPTIONS)) - before
    assert (change[:, 0] != 0).all()
    assert (change[:, 1:] == 0).all()
    with pytest.raises(ValueError, match="tied needs embedding_size and"):
        ModelSettings.model_validate({"tied": True, "embedding_size": 4})


def test_torchs_own_layers_begin_with_the_image():
    model, features = build("two lstms, begun"), images()
    lstm = nn.LSTM(SIZE - 1, SIZE, 2, batch_first=True).double()
    lstm.load_state_dict(model.recurrent.state_dict())
    words, lengths = padded(CAPTIONS)
    with torch.no_grad():
        seen = torch.tanh(features @ model.image.weight.T + model.image.bias)
        seen = seen.expand(2, -1, -1).contiguous()
        read = nn.functional.pad(model.embedding.weight[words], (0, 0, 1, 0))
        y, _ = lstm(read, (seen, seen))
        wanted = y @ model.output.weight.T + model.output.bias
        found = model(features, words, lengths)
    steps = torch.arange(y.shape[1]) <= lengths.unsqueeze(1)
    torch.testing.assert_close(found, wanted[steps].float(), rtol=1e-5, atol=1e-6)


def test_a_merged_image_is_added_to_what_the_recurrent_layers_give():
    model, features = build("two lstms, merged"), images()
    words, lengths = padded(CAPTIONS)
    with torch.no_grad():
        y, _ = model.recurrent(
            torch.cat([model.image(features).unsqueeze(1), model.embedding(words)], dim=1)
        )
        seen = features @ model.merge.weight.T + model.merge.bias
        wanted = (y + seen.unsqueeze(1)) @ model.output.weight.T + model.output.bias
        found = model(features, words, lengths)
    steps = torch.arange(y.shape[1]) <= lengths.unsqueeze(1)
    torch.testing.assert_close(found, wanted[steps].float())


def test_words_start_small_and_alike():
    torch.manual_seed(0)
    model = CaptionModel(ModelSettings(), 10, 400)
    weight = model.embedding.weight.detach()
    assert 0.09 < weight.abs().max() <= 0.1
    assert weight.std() == pytest.approx(0.1 / 3**0.5, rel=0.02)


def test_standardised_features_have_mean_0_and_deviation_1():
    norm, features = StandardNorm(WIDTH), torch.rand(50, WIDTH) * torch.arange(1, 8) + 3
    norm.fit(features)
    found = norm(features)
    torch.testing.assert_close(found.mean(0), torch.zeros(WIDTH), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.square().mean(0), torch.ones(WIDTH), rtol=1e-4, atol=0)
    # It travels with the model's weights.
    other = StandardNorm(WIDTH)
    other.load_state_dict(norm.state_dict())
    assert torch.equal(other(features), found)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.7, 3.3333])
def test_a_feature_that_never_varies_says_nothing_whatever_it_is_later(value):
    norm, features = StandardNorm(2), torch.rand(6000, 2)
    features[:, 1] = value
    norm.fit(features)
    features[:, 1] += 1
    assert torch.equal(norm(features)[:, 1], torch.zeros(6000))
    assert norm(features)[:, 0].std() == pytest.approx(1, rel=1e-3)


def test_unit_features_are_standardised_ones_and_together_1_long():
    norm, features = feature_norm("unit", WIDTH), torch.rand(50, WIDTH) * torch.arange(1, 8) + 3
    standard = feature_norm("standard", WIDTH)
    norm.fit(features)
    standard.fit(features)
    torch.testing.assert_close(norm(features), standard(features) / WIDTH**0.5)
    assert norm(features).square().sum(1).mean().item() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("kind", ["standard", "unit"])
def test_the_deviation_of_features_is_a_fraction_of_their_norms(kind):
    features = torch.rand(50, WIDTH) * torch.arange(1, 8) + 3
    plain = build(normalise=kind).float().normalise
    smaller = build(normalise=kind, feature_deviation=0.25).float().normalise
    plain.fit(features)
    smaller.fit(features)
    torch.testing.assert_close(smaller(features), plain(features) / 4)
    torch.testing.assert_close(smaller.restored(smaller(features)), features)


@pytest.mark.parametrize("kind", ["none", "layer"])
def test_a_deviation_that_no_norm_would_use_is_refused(kind):
    with pytest.raises(ValueError, match=f"feature_deviation is 0.5, but normalise is '{kind}'"):
        build(normalise=kind, feature_deviation=0.5)


def test_layer_norm_is_over_an_images_features():
    norm, features = feature_norm("layer", WIDTH), torch.rand(4, WIDTH)
    mean, deviation = features.mean(1, keepdim=True), features.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(norm(features), (features - mean) / deviation, rtol=1e-3, atol=1e-4)
    assert not list(norm.parameters())
    assert torch.equal(feature_norm("none", WIDTH)(features), features)


@pytest.mark.parametrize("kind", ["none", "standard", "unit"])
def test_thinned_features_are_normalised_to_those_that_dropout_leaves(kind):
    model = build(normalise=kind, feature_dropout=0.25).float().eval()
    features = torch.rand(900, WIDTH) * 3 + 2
    if kind != "none":
        features[:, 2] = 2.0
        model.normalise.fit(features)
    whole, left = model.normalise(features), model.normalise(model.thinned(features, 0.25))
    kept = left != 0
    torch.testing.assert_close(left[kept], whole[kept] / 0.75, rtol=1e-3, atol=1e-5)
    assert kept[:, 3:].float().mean().item() == pytest.approx(0.75, abs=0.03)
    assert kept[:, 2].any() == (kind == "none")


def test_costs_by_hand():
    model = build()
    masks = {"output.weight": torch.arange(WORDS * SIZE).view(WORDS, SIZE) < 11}
    cost = totals(model.operations(masks, words=10), "caption")
    cell, biases = 2 * 4 * SIZE * SIZE, 8 * SIZE
    whole = cell + biases + (WIDTH + 1) * SIZE + WORDS * SIZE + WORDS + 11
    # 11 steps: the image and ten words are read, ten words and the end are written.
    assert cost["weights"]["recurrent"] == cell + biases
    assert cost["weights"]["whole"] == whole
    assert cost["weights"]["whole_dense"] == whole + WORDS * SIZE - 11
    assert cost["flops_per_caption"]["recurrent"] == 2 * 11 * cell
    assert cost["flops_per_caption"]["whole"] == 2 * (11 * (cell + 11) + WIDTH * SIZE)
    merged = totals(build(merge=True).operations(masks, words=10), "caption")
    assert merged["weights"]["recurrent"] == cell + biases
    assert merged["weights"]["whole"] == whole + (WIDTH + 1) * SIZE
    flops = cost["flops_per_caption"]["whole"] + 2 * WIDTH * SIZE
    assert merged["flops_per_caption"]["whole"] == flops
    tied = totals(build("three lstms, tied").operations({}, words=10), "caption")
    cells = 3 * (cell + biases)
    assert tied["weights"]["whole"] == cells + (WIDTH + 1) * SIZE + WORDS * SIZE + WORDS
    flops = 2 * (11 * (3 * cell + WORDS * SIZE) + WIDTH * SIZE)
    assert tied["flops_per_caption"]["whole"] == flops
