"""The captioning task: losses against plain sums, batches that repeat, errors before training."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_tasks import CPU, SMALL, WIDTH, make_corpus, make_task, model_of, step_log_probs

from growprune.data import FeatureTable, words_of
from growprune.data.captions import CaptionCorpus, CaptionedImage
from growprune.decoding import Writer
from growprune.errors import DataError, RecipeError
from growprune.metrics.captions import CiderD, score_captions
from growprune.tasks import open_recipe
from growprune.tasks.captioning import Captioner, CaptioningTask
from growprune.training import train


def plain_losses(task, model, batch, smoothing=0.0):
    """Of every word and every end."""
    losses = []
    for feature, words, length in zip(batch.features, batch.words, batch.lengths, strict=True):
        caption = words[:length].tolist()
        for row, target in zip(step_log_probs(model, feature, caption), [*caption, 0], strict=True):
            losses.append(-(1 - smoothing) * row[target] - smoothing * row.mean())
    return losses


def test_a_batch_holds_images_and_their_captions():
    task = make_task("data.longest=5")
    examples = [7, 0, 12, 5]
    batch = task.load(examples, 0)
    assert len(task.examples) == sum(len(image.captions) for image in task.images)
    for row, index in enumerate(examples):
        image, number = task.examples[index]
        assert batch.images[row] == image
        named = task.images[image]
        np.testing.assert_array_equal(batch.features[row], task.features.row(named.name))
        words = words_of(named.captions[number])[:5]
        known = [word if word in task.vocabulary.words else "<unknown>" for word in words]
        assert batch.lengths[row] == len(words)
        numbers = batch.words[row, : len(words)].tolist()
        assert [task.vocabulary.words[number] for number in numbers] == known
    targets = [
        word
        for row, length in zip(batch.words.tolist(), batch.lengths.tolist(), strict=True)
        for word in [*row[:length], 0]
    ]
    assert batch.targets.tolist() == targets
    assert any("<unknown>" in task.vocabulary.decode(row) for row in task._captions[2])
    assert batch.drawn_by is None


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_the_mean_of_every_word_and_end(smoothing):
    task = make_task(f"loss.label_smoothing={smoothing}")
    model, batch = model_of(task), task.load([3, 1, 8, 0, 14], 0)
    loss = task.loss(model, batch, CPU)
    plain = torch.stack(plain_losses(task, model, batch, smoothing)).mean()
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=0)
    parameters = list(model.parameters())
    for found, wanted in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(plain, parameters), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_evaluation_is_of_greedy_captions_and_of_all_words():
    task = make_task("loss.label_smoothing=0.1", dev=9)
    model = model_of(task).eval()
    with torch.inference_mode():
        found = task.evaluate(model, "dev", CPU)
    images = task.corpus.split("dev")
    names, losses, written = [image.name for image in images], [], []
    with torch.inference_mode():
        for image in images:
            feature = torch.from_numpy(task.features.row(image.name))
            for caption in image.captions:
                words = task.vocabulary.encode(caption)
                rows = step_log_probs(model, feature, words)
                losses += [-float(row[w]) for row, w in zip(rows, [*words, 0], strict=True)]
    captioner = Captioner(model, task.recipe, task.vocabulary, task.encoder)
    written = [caption.text for caption in captioner.caption(task.features.rows(names), beam=1)]
    scores = score_captions([image.captions for image in images], written).as_dict()
    assert found == {"loss": pytest.approx(np.mean(losses), rel=1e-5), **scores}
    assert found["cider_d"] == found[task.metric]
    assert not any("unknown" in text for text in written)


def test_every_example_comes_once_an_epoch_in_an_order_of_its_own():
    task = make_task()
    for epoch in range(3):
        batches = task.batches(epoch)
        assert [len(batch) for batch in batches] == [5, 5, 5, 5, 4]
        assert sorted(index for batch in batches for index in batch) == list(range(24))
    assert task.batches(1) == make_task().batches(1) != task.batches(2)
    assert task.batches(1) != make_task(seed=2).batches(1)


def test_one_caption_an_image_is_chosen_by_chance():
    task = make_task("data.captions='one'")
    chosen = {number: set() for number in range(12)}
    for epoch in range(40):
        examples = [index for batch in task.batches(epoch) for index in batch]
        assert sorted(task.examples[index][0] for index in examples) == list(range(12))
        for index in examples:
            image, number = task.examples[index]
            chosen[image].add(number)
    for image, numbers in chosen.items():
        assert numbers == set(range(len(task.images[image].captions)))
    assert task.batches(3) == make_task("data.captions='one'").batches(3)


def test_a_batch_depends_on_its_arguments_alone():
    task = make_task("loss.self_critical_epochs=1")
    first = task.load([2, 5], 2)
    task.load([1, 3], 0)
    again = make_task("loss.self_critical_epochs=1").load([2, 5], 2)
    for part in ("features", "words", "lengths"):
        assert torch.equal(getattr(first, part), getattr(again, part))
    assert first.drawn_by == again.drawn_by != task.load([3, 5], 2).drawn_by
    assert task.load([2, 5], 1).drawn_by is None
    model = model_of(task)
    losses = [float(task.loss(model, batch, CPU).detach()) for batch in (first, again)]
    assert losses[0] == losses[1] != 0


def drawn_captions(task, model, batch, draws):
    """The captions that are drawn for a batch, image after image."""
    captioner = Captioner(model, task.recipe, task.vocabulary, task.encoder)
    features = np.repeat(batch.features.numpy(), draws, axis=0)
    seed = int(np.random.default_rng(batch.drawn_by).integers(2**63))
    return Writer(longest=task.recipe.data.longest, temperature=1.0, seed=seed)(captioner, features)


def rewards(task, images, sentences):
    """CIDEr-D of each image's sentence; what is written of the other images does not matter."""
    texts = {i: task.vocabulary.decode(s.words) for i, s in zip(images, sentences, strict=True)}
    scorer = CiderD([image.captions for image in task.images])
    scores = scorer.scores([texts.get(image, "") for image in range(len(task.images))])
    return scores[list(images)]


def drawn_log_probs(model, features, sentences, longest):
    """Of every word and end that was drawn, sentence after sentence; a cut one drew no end."""
    for feature, sentence in zip(features, sentences, strict=True):
        rows = step_log_probs(model, feature, sentence.words)
        targets = [*sentence.words, 0]
        yield torch.stack([rows[place, word] for place, word in enumerate(targets[:longest])])


@pytest.mark.parametrize(("longest", "dropout"), [(3, 0.0), (12, 0.0), (12, 0.4)])
@pytest.mark.parametrize("draws", [2, 3])
def test_drawn_captions_are_made_likelier_by_what_they_gain(longest, dropout, draws):
    settings = "loss.self_critical_epochs=1", f"loss.draws={draws}", f"data.longest={longest}"
    task = make_task(*settings, f"loss.self_critical_feature_dropout={dropout}")
    model, batch = model_of(task, seed=3), task.load([0, 3, 6, 9, 12], 2)  # of five images
    torch.manual_seed(9)
    loss = task.loss(model, batch, CPU)
    torch.manual_seed(9)
    if dropout:
        whole, batch = batch, replace(batch, features=model.thinned(batch.features, dropout))
        assert not torch.equal(batch.features, whole.features)
    drawn = drawn_captions(task, model, batch, draws)
    one_of_each = [rewards(task, batch.images, drawn[number::draws]) for number in range(draws)]
    gains = []
    for own in np.transpose(one_of_each):
        gains += [r - np.delete(own, place).mean() for place, r in enumerate(own)]
    assert sum(gain != 0 for gain in gains) >= 6
    assert any(len(sentence.words) == longest for sentence in drawn)

    features = batch.features.repeat_interleave(draws, dim=0)
    log_probs = list(drawn_log_probs(model, features, drawn, longest))
    plain = -sum(float(gain) * steps.sum() for gain, steps in zip(gains, log_probs, strict=True))
    plain = plain / sum(len(sentence.words) + 1 for sentence in drawn)
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-7)
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    for found, wanted in zip(gradients, torch.autograd.grad(plain, parameters), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)

    with torch.no_grad():  # a small step downhill
        for weight, gradient in zip(parameters, gradients, strict=True):
            weight -= 1e-3 * gradient
        after = list(drawn_log_probs(model, features, drawn, longest))
    changes = [float((b - a.detach()).sum()) for a, b in zip(log_probs, after, strict=True)]
    assert np.dot(gains, changes) > 0


def test_what_is_drawn_is_raised_without_dropout():
    task = make_task("loss.self_critical_epochs=1", "model.dropout=0.5")
    model = task.build_model().train()
    losses = set()
    for seed in range(3):
        torch.manual_seed(seed)
        losses.add(float(task.loss(model, task.load([0, 1], 2), CPU).detach()))
    assert len(losses) == 1
    assert 0 not in losses


def test_drawing_leaves_the_model_in_training():
    task = make_task("loss.self_critical_epochs=1", "model.dropout=0.5")
    model = task.build_model().train()
    task.loss(model, task.load([0, 1], 2), CPU).backward()
    assert model.training
    assert all(part.training for part in model.modules())


def test_standardised_features_are_those_learnt_from():
    task = make_task("model.normalise='standard'")
    learnt = torch.from_numpy(task.features.rows([image.name for image in task.images]))
    norm = task.build_model().normalise
    torch.testing.assert_close(norm.mean, learnt.mean(0))
    torch.testing.assert_close(norm.scale, 1 / learnt.std(0, correction=0))


def test_words_are_those_of_the_captions_learnt_from():
    task = make_task()
    counts = {}
    for image in task.corpus.split("train"):
        for caption in image.captions:
            for word in words_of(caption):
                counts[word] = counts.get(word, 0) + 1
    assert set(task.vocabulary.words[2:]) == {word for word, n in counts.items() if n >= 2}
    assert task.extras == {
        "words": list(task.vocabulary.words),
        "encoder": {"name": "efficientnet-lite0", "pool": 1, "width": WIDTH},
    }
    json.dumps(task.extras)
    assert task.data_summary() == {
        "name": "small",
        "splits": {
            "train": {"images": 12, "captions": 24},
            "dev": {"images": 4, "captions": 7},
            "test": {"images": 3, "captions": 6},
        },
        "words": len(task.vocabulary),
    }


def test_a_final_run_learns_from_dev_too():
    task = make_task('data.train_splits=["train", "dev"]')
    assert task.images == task.corpus.split("train") + task.corpus.split("dev")
    assert len(task.examples) == 31


def test_a_batch_is_described_by_its_images():
    task = make_task()
    assert task.describe([0]) == "train0.jpg"
    found = task.describe(list(range(9)))
    assert found.startswith("train0.jpg, train1.jpg, train1.jpg")
    assert found.endswith("and 5 more")


def fails(corpus, table, *parts, settings=(), error=DataError):
    with pytest.raises(error) as caught:
        CaptioningTask(open_recipe("neuraltalk-lstm", [*SMALL, *settings]), corpus, table)
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


def changed(corpus, split, *captions):
    image = CaptionedImage("odd.jpg", None, captions)
    return CaptionCorpus(
        corpus.name, corpus.folder, corpus.splits | {split: (*corpus.splits[split], image)}
    )


@pytest.mark.parametrize("split", ["train", "dev"])
def test_wrong_data_is_named_before_training(split):
    corpus, table = make_corpus()
    extended = FeatureTable(
        (*table.names, "odd.jpg"), np.concatenate([table.features, table.features[:1]]), "f"
    )
    fails(changed(corpus, split, "a dog"), table, "features: no features of odd.jpg")
    wordless = changed(corpus, split, "a dog", "...")
    fails(wordless, extended, "corpus small in nowhere: a caption of odd.jpg has no word")
    CaptioningTask(open_recipe("neuraltalk-lstm", SMALL), changed(corpus, split, "a dog"), extended)
    without = {name: images for name, images in corpus.splits.items() if name != split}
    fails(
        CaptionCorpus("small", "nowhere", without), table, f"corpus small in nowhere has no {split}"
    )


def test_features_of_another_encoder_are_refused(tmp_path):
    corpus, table = make_corpus()
    for encoder, line in {
        (
            "resnet50",
            1,
        ): "features have encoder name 'resnet50', but the recipe has 'efficientnet-l",
        (
            "efficientnet-lite0",
            2,
        ): "features have encoder pool 2, but the recipe has 1; set encoder.pool",
    }.items():
        known = FeatureTable(
            table.names, table.features, "table", dict(zip(("name", "pool"), encoder, strict=True))
        )
        fails(corpus, known, "table: ", line)
        settings = [f"encoder.name='{encoder[0]}'", f"encoder.pool={encoder[1]}"]
        task = CaptioningTask(open_recipe("neuraltalk-lstm", [*SMALL, *settings]), corpus, known)
        assert task.encoder == {"name": encoder[0], "pool": encoder[1], "width": WIDTH}


def test_a_recipe_whose_metric_falls_is_refused():
    with pytest.raises(RecipeError, match=r"plan\.prune\.mode must be 'max'"):
        open_recipe("neuraltalk-hlstm-gp", ["plan.prune.target=0.5", "plan.prune.mode='min'"])
    with pytest.raises(RecipeError, match="tied needs embedding_size"):
        open_recipe("neuraltalk-lstm", ["model.tied=true", "model.embedding_size=100"])


LEARNING = [
    "training.epochs=20", "training.optimizer.learning_rate=0.02", "model.dropout=0.1",
    "loss.self_critical_epochs=2", "training.batch_size=8",
]  # fmt: skip


def test_a_small_corpus_is_learnt(tmp_path):
    task = make_task(*LEARNING, train=24, dev=12)
    record = train(task, tmp_path, seed=1)
    assert len(record["epochs"]) == 20
    assert record["scores"]["dev"]["cider_d"] > 3 > 1 > record["epochs"][0]["dev_cider_d"]
    captioner = Captioner.from_run(tmp_path)
    names = [image.name for image in task.corpus.split("dev")]
    written = [caption.text for caption in captioner.caption(task.features.rows(names), beam=1)]
    references = [image.captions for image in task.corpus.split("dev")]
    found = score_captions(references, written).cider_d
    assert found == pytest.approx(record["scores"]["dev"]["cider_d"])
    assert written[0].split()[0] in ("a", "the", "dog")
    assert "dog" in written[0]


@pytest.mark.parametrize("stop", [2, 9, 12])
def test_a_run_that_is_stopped_goes_on_to_the_same_weights(tmp_path, stop):
    """In the middle of an epoch, and where captions are drawn."""
    settings = (
        "loss.self_critical_epochs=1", "model.dropout=0.3", "training.checkpoint_minutes=0.0",
    )  # fmt: skip
    train(make_task(*settings), tmp_path / "whole", seed=1)
    task = make_task(*settings)
    loss, steps = task.loss, []

    def stopping(*arguments):
        steps.append(1)
        if len(steps) > stop:
            raise KeyboardInterrupt
        return loss(*arguments)

    task.loss = stopping
    with pytest.raises(KeyboardInterrupt):
        train(task, tmp_path / "parts", seed=1)
    train(make_task(*settings), tmp_path / "parts", seed=1, resume=True)
    whole, parts = (
        load_file(next((tmp_path / name).glob("*.safetensors"))) for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    for name, weight in whole.items():
        assert torch.equal(weight, parts[name]), name
