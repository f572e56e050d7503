"""Captioners that learn from captioners."""

import hashlib
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from small_tasks import CPU, SMALL, make_corpus, make_task, model_of, step_log_probs

from growprune.data import FeatureTable
from growprune.errors import CheckpointError, RecipeError
from growprune.tasks import open_recipe
from growprune.tasks.captioning import Captioner, CaptioningTask
from growprune.tasks.captioning.distillation import open_teachers
from growprune.training import load_weights, train
from growprune.training.checkpoint import save_weights

LEARNING = ["training.epochs=15", "training.optimizer.learning_rate=0.02", "training.keep='last'"]
KINDS = [
    LEARNING,
    [*LEARNING, "model.normalise='none'", "model.embedding_size=9", "model.recurrent.layers=2",
     "model.recurrent.hidden_size=10", "model.recurrent.gate_hidden_sizes=[7]",
     "model.dropout=0.1", "data.longest=6"],
]  # fmt: skip
"""Teachers: one as the student, and one of another width, cell and depth."""


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    for number, kind in enumerate(KINDS):
        train(make_task(*kind, seed=number), folder / str(number), seed=number)
    return [str(folder / str(number)) for number in range(len(KINDS))]


def teaching(folders, *settings):
    named = json.dumps([str(folder) for folder in folders])
    return [f"loss.teachers={named}", "loss.distill=0.7", *settings]


def student(folders, *settings, seed=1):
    return make_task(*teaching(folders, *settings), seed=seed)


def softened(row, temperature):
    powers = [math.exp(x / temperature) for x in row]
    return [power / sum(powers) for power in powers]


def plain_divergence(model, others, batch, temperature):
    """Mean over every word and end, each worked out from the definition."""
    found = []
    for feature, words, length in zip(batch.features, batch.words, batch.lengths, strict=True):
        caption = words[:length].tolist()
        told = [step_log_probs(other, feature, caption).tolist() for other in others]
        for step, row in enumerate(step_log_probs(model, feature, caption).tolist()):
            q = softened(row, temperature)
            ps = [softened(rows[step], temperature) for rows in told]
            p = [sum(column) / len(ps) for column in zip(*ps, strict=True)]
            found.append(sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True)))
    return temperature**2 * sum(found) / len(found)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_cross_entropy_and_the_divergence_of_every_word(
    teachers, count, temperature, smoothing
):
    smoothed = f"loss.label_smoothing={smoothing}"
    task = student(teachers[:count], f"loss.temperature={temperature}", smoothed)
    without, batch = make_task(smoothed), task.load([3, 1, 8, 0, 14], 0)
    model = model_of(task).eval()
    others = [Captioner.from_run(folder).model for folder in teachers[:count]]
    assert len(set(batch.lengths.tolist())) > 1
    with torch.no_grad():
        expected = 0.7 * plain_divergence(model, others, batch, temperature)
        found = task.loss(model, batch, CPU) - without.loss(model, batch, CPU)
    assert expected > 0.1
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_gradients_are_those_of_a_loss_worked_out_step_by_step(teachers):
    task = student(teachers, "loss.temperature=2.0")
    model, batch = model_of(task), task.load([3, 1, 8, 0, 14], 0)
    others = [Captioner.from_run(folder).model for folder in teachers]
    losses = []
    for feature, words, length in zip(batch.features, batch.words, batch.lengths, strict=True):
        caption = words[:length].tolist()
        rows = step_log_probs(model, feature, caption)
        with torch.no_grad():
            told = [step_log_probs(other, feature, caption) / 2 for other in others]
            p = sum(scores.exp() / scores.exp().sum(-1, keepdim=True) for scores in told) / 2
        q = (rows / 2).exp() / (rows / 2).exp().sum(-1, keepdim=True)
        apart = 4 * (p * (p.log() - q.log())).sum(-1)
        losses += [
            0.7 * apart[step] - rows[step, target] for step, target in enumerate([*caption, 0])
        ]
    plain = sum(losses) / len(losses)
    loss, parameters = task.loss(model, batch, CPU), list(model.parameters())
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=0)
    for found, wanted in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(plain, parameters), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_from_oneself_nothing_is_learnt(teachers, temperature):
    """Nor from two of oneself."""
    for folders in (teachers[:1], [teachers[0], teachers[0]]):
        task = student(folders, f"loss.temperature={temperature}")
        model, batch = Captioner.from_run(teachers[0]).model, task.load([3, 1, 8, 0, 14], 0)
        both, alone = (x.loss(model, batch, CPU) for x in (task, make_task()))
        assert float((both - alone).detach()) == pytest.approx(0, abs=1e-6)
        parameters = list(model.parameters())
        for found, wanted in zip(
            torch.autograd.grad(both, parameters),
            torch.autograd.grad(alone, parameters),
            strict=True,
        ):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_only_the_student_learns(teachers):
    task = student(teachers, "model.dropout=0.5")
    model, batch = task.build_model().train(), task.load([0, 4], 0)
    before = [{k: v.clone() for k, v in x.state_dict().items()} for x in task.teachers.models]
    task.loss(model, batch, CPU).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    for taught, teacher in zip(before, task.teachers.models, strict=True):
        assert not any(part.training for part in teacher.modules())
        assert all(parameter.grad is None for parameter in teacher.parameters())
        assert all(torch.equal(taught[name], x) for name, x in teacher.state_dict().items())


def test_teachers_are_not_asked_where_captions_are_drawn(teachers, monkeypatch):
    rewarded = "loss.self_critical_epochs=1"
    task, without = student(teachers, rewarded), make_task(rewarded)
    model = model_of(task)
    monkeypatch.delattr(type(task.teachers), "answers")
    losses = [x.loss(model, x.load([0, 3, 6], 2), CPU) for x in (task, without)]
    assert torch.equal(*losses)
    with pytest.raises(AttributeError):
        task.loss(model, task.load([0, 3, 6], 1), CPU)


def test_evaluation_does_without_teachers(teachers):
    model = model_of(make_task()).eval()
    with torch.inference_mode():
        found = student(teachers).evaluate(model, "dev", CPU)
        assert found == make_task().evaluate(model, "dev", CPU)


def test_loading_teachers_draws_no_random_numbers(teachers):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    student(teachers)
    assert torch.equal(torch.rand(4), expected)


def test_a_student_that_is_stopped_goes_on_to_the_same_weights_and_names_its_teachers(
    teachers, tmp_path
):
    """It is stopped in the middle of the second epoch."""
    settings = ("model.dropout=0.3", "training.checkpoint_minutes=0.0")
    record = train(student(teachers, *settings), tmp_path / "whole", seed=1)
    task = student(teachers, *settings)
    loss, steps = task.loss, iter(range(7))

    def stopping(*arguments):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return loss(*arguments)

    task.loss = stopping
    with pytest.raises(KeyboardInterrupt):
        train(task, tmp_path / "parts", seed=1)
    assert not (tmp_path / "parts" / "record.json").exists()
    resumed = train(student(teachers, *settings), tmp_path / "parts", seed=1, resume=True)
    whole, parts = (load_weights(tmp_path / name).tensors for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert resumed["epochs"][-1]["train_loss"] == record["epochs"][-1]["train_loss"]
    contents = [Path(folder, "weights.safetensors").read_bytes() for folder in teachers]
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    assert record["data"]["teachers"] == [
        {"run": folder, "weights_sha256": digest}
        for folder, digest in zip(teachers, digests, strict=True)
    ]
    assert resumed["data"] == record["data"]
    assert record["recipe"]["loss"]["teachers"] == teachers


def test_a_student_comes_closer_to_its_teacher_and_then_does_without(teachers, tmp_path):
    copied = tmp_path / "teacher"
    shutil.copytree(teachers[0], copied)
    settings = [*LEARNING, "training.epochs=30", "loss.distill=5.0"]
    task = student([copied], *settings)
    train(task, tmp_path / "taught", seed=1)
    teacher, batch = Captioner.from_run(copied).model, task.load(range(12), 0)
    shutil.rmtree(copied)
    train(make_task(*settings[:-1]), tmp_path / "alone", seed=1)

    def apart(name):
        model = Captioner.from_run(tmp_path / name).model
        with torch.no_grad():
            return plain_divergence(model, [teacher], batch, 1.0)

    assert apart("taught") < 0.1 * apart("alone")


def refused(error, *parts, settings, corpus=None):
    corpus, table = corpus or make_corpus()
    with pytest.raises(error) as caught:
        CaptioningTask(open_recipe("neuraltalk-lstm", [*SMALL, *settings]), corpus, table)
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


def test_a_teacher_writes_the_same_words(teachers):
    count = len(make_task().vocabulary)
    fewer = len(make_task("data.least=6").vocabulary)
    refused(
        RecipeError,
        f"teacher {teachers[0]}: its number of words is {count}, the recipe's {fewer}; name ano",
        settings=teaching(teachers, "data.least=6"),
    )
    vocabulary, encoder = make_task().vocabulary, make_task().encoder
    order = [*vocabulary.words[:2], *reversed(vocabulary.words[2:])]
    others = type(vocabulary)(order)
    with pytest.raises(RecipeError) as caught:
        open_teachers(teachers, others, encoder)
    assert f"its word 2 is {vocabulary.words[2]!r}, the recipe's {order[2]!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("encoder.pool=2", "its encoder.pool is 1, the recipe's 2; name another run"),
        ("encoder.name='tiny'", "its encoder.name is 'efficientnet-lite0', the recipe's 'tiny'"),
    ],
)
def test_a_teacher_reads_the_same_features(teachers, setting, message):
    settings = teaching(teachers[:1], setting)
    refused(RecipeError, f"teacher {teachers[0]}: {message}", settings=settings)


def test_a_teacher_reads_as_many_features(teachers):
    corpus, table = make_corpus()
    wider = FeatureTable(table.names, table.features.repeat(2, axis=1), "wide")
    refused(
        RecipeError,
        f"teacher {teachers[1]}: its encoder.width is 6, the recipe's 12; name another run",
        settings=teaching(teachers[1:]),
        corpus=(corpus, wider),
    )


def test_a_teacher_is_a_finished_captioner(teachers, tmp_path):
    none = tmp_path / "none"
    refused(CheckpointError, f"{none} is not a run with fin", settings=teaching([none]))
    speech = tmp_path / "speech"
    speech.mkdir()
    recipe = open_recipe("demo-lstm").model_dump(mode="json")
    save_weights(speech, torch.nn.Linear(2, 2), {}, recipe)
    refused(
        RecipeError,
        f"recipe of {speech}: 'task' is 'speech'; it should be 'captioning'",
        settings=teaching([teachers[0], speech]),
    )
    underway = tmp_path / "underway"
    shutil.copytree(teachers[0], underway)
    (underway / "record.json").unlink()
    refused(CheckpointError, f"{underway} is not a finished run", settings=teaching([underway]))
    (underway / "weights.safetensors").unlink()
    refused(CheckpointError, f"{underway} is not a run with", settings=teaching([underway]))


def test_teachers_have_weight(teachers):
    for wrong in ("loss.teachers=[]", "loss.distill=0.0"):
        with pytest.raises(RecipeError, match="give a factor above 0 and at least one teacher"):
            student(teachers, wrong)
