import hashlib
import json
import math
from pathlib import Path

import pytest
import torch

from growprune.data.spoken import make_corpus
from growprune.errors import CheckpointError, RecipeError
from growprune.tasks import open_recipe
from growprune.tasks.speech import Recognizer, SpeechTask, evaluate_run
from growprune.tasks.speech.distillation import agreement, divergence, open_teachers
from growprune.training import load_weights, train

CPU = torch.device("cpu")
TINY = [
    "model.recurrent.layers=2",
    "model.recurrent.hidden_size=6",
    "training.batch_size=4",
    "training.epochs=2",
]
UNHIDDEN = "data.spec_augment={time_masks=0, frequency_masks=0, time_width=0, frequency_width=0}"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "spoken"
    return make_corpus(folder, train=12, dev=3, test=3)


@pytest.fixture(scope="module")
def teachers(corpus, tmp_path_factory):
    """Two finished runs."""
    folders = [tmp_path_factory.mktemp("teachers") / str(seed) for seed in (1, 2)]
    for seed, folder in enumerate(folders):
        train(SpeechTask(open_recipe("demo-lstm", TINY), corpus, seed), folder, seed=seed)
    return [str(folder) for folder in folders]


def student(folders, *changes):
    teaching = [
        f"loss.teachers={json.dumps([str(folder) for folder in folders])}",
        "loss.distill=0.5",
    ]
    return open_recipe("demo-lstm", [*TINY, *teaching, *changes])


def slow_divergence(student_row, teacher_rows, temperature):
    """Of one frame, from the definition."""

    def softened(row):
        powers = [math.exp(x / temperature) for x in row]
        return [power / sum(powers) for power in powers]

    q, ps = softened(student_row), [softened(row) for row in teacher_rows]
    p = [sum(column) / len(ps) for column in zip(*ps, strict=True)]
    return temperature**2 * sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_loss_is_ctc_and_the_divergence_of_every_frame_per_letter(
    corpus, teachers, temperature, layers
):
    changes = [f"loss.temperature={temperature}", f"loss.intermediate={0.3 * (layers - 1)}"]
    task = SpeechTask(student(teachers, *changes), corpus)
    without = SpeechTask(open_recipe("demo-lstm", [*TINY, changes[1]]), corpus)
    torch.manual_seed(5)
    model, batch = task.build_model().eval(), task.load([2, 5, 7], 1)
    rows, lengths = (x.tolist() for x in model(batch.features, batch.lengths))
    told = [Recognizer.from_run(folder).model(batch.plain, batch.lengths)[0] for folder in teachers]
    assert len(set(lengths)) > 1
    expected = 0.0
    for number, length in enumerate(lengths):
        frames = [
            slow_divergence(rows[number][t], [x[number, t].tolist() for x in told], temperature)
            for t in range(length)
        ]
        expected += 0.5 * sum(frames) / int(batch.letter_counts[number]) / 3
    found = task.loss(model, batch, CPU) - without.loss(model, batch, CPU)
    assert expected > 0.01
    assert float(found.detach()) == pytest.approx(expected, rel=1e-3)


def test_teachers_hear_what_is_hidden_from_the_student(corpus, teachers):
    task = SpeechTask(student(teachers, "data.concatenate=1.0"), corpus)
    plain = SpeechTask(open_recipe("demo-lstm", [*TINY, "data.concatenate=1.0", UNHIDDEN]), corpus)
    batch = task.load([1, 3, 8], 2)
    assert torch.equal(batch.plain, plain.load([1, 3, 8], 2).features)
    assert not torch.equal(batch.plain, batch.features)


def test_a_divergence_is_zero_only_from_oneself_and_sees_no_padding():
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 2, 5, 4, generator=generator, dtype=torch.float64).log_softmax(-1)
    lengths = torch.tensor([5, 3])
    torch.testing.assert_close(
        divergence(one, one, lengths, 1.0), torch.zeros(2, dtype=torch.float64)
    )
    before = divergence(one, other, lengths, 1.0)
    assert (before > 0.1).all()
    other[1, 3:] = other[1, 3:].flip(-1)
    assert torch.equal(divergence(one, other, lengths, 1.0), before)
    one.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: divergence(x, other, lengths, 2.0), one)


def test_only_the_student_learns(corpus, teachers):
    task = SpeechTask(student(teachers), corpus)
    model, batch = task.build_model().train(), task.load([0, 4], 0)
    before = [dict(x.state_dict()) for x in task.teachers.models]
    task.loss(model, batch, CPU).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    for taught, teacher in zip(before, task.teachers.models, strict=True):
        assert not teacher.training
        assert all(parameter.grad is None for parameter in teacher.parameters())
        assert all(torch.equal(taught[name], x) for name, x in teacher.state_dict().items())


def test_loading_teachers_draws_no_random_numbers(teachers):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    open_teachers(student(teachers))
    assert torch.equal(torch.rand(4), expected)


def test_a_student_killed_in_mid_epoch_ends_with_the_same_weights_and_names_its_teachers(
    corpus, teachers, tmp_path, monkeypatch
):
    recipe = student(teachers, "training.checkpoint_minutes=0", "model.recurrent.dropout=0.3")
    record = train(SpeechTask(recipe, corpus, 7), tmp_path / "whole", seed=7)
    load, calls = SpeechTask.load, iter(range(1000))

    def interrupted(self, examples, epoch):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return load(self, examples, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(SpeechTask, "load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(SpeechTask(recipe, corpus, 7), tmp_path / "killed", seed=7)
    assert not (tmp_path / "killed" / "record.json").exists()
    resumed = train(SpeechTask(recipe, corpus, 7), tmp_path / "killed", seed=7, resume=True)
    whole, killed = (load_weights(tmp_path / name).tensors for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert resumed["epochs"][-1]["train_loss"] == record["epochs"][-1]["train_loss"]
    assert record["data"]["teachers"] == resumed["data"]["teachers"]
    content = [Path(folder, "weights.safetensors").read_bytes() for folder in teachers]
    assert record["data"]["teachers"] == [
        {"run": folder, "weights_sha256": hashlib.sha256(bytes_).hexdigest()}
        for folder, bytes_ in zip(teachers, content, strict=True)
    ]


def test_a_student_comes_closer_to_its_teacher_and_then_does_without(corpus, teachers, tmp_path):
    copied = tmp_path / "teacher"
    copied.symlink_to(teachers[0])
    changes = ["training.epochs=12", "loss.distill=3.0", UNHIDDEN]
    task = SpeechTask(student([copied], *changes), corpus)
    train(task, tmp_path / "run")

    def apart(model):
        batch = task.load(range(12), 0)
        log_probs, lengths = model.eval()(batch.features, batch.lengths)
        told = agreement(task.teachers, batch.plain, batch.lengths, 1.0)
        return float(divergence(log_probs, told, lengths, 1.0).mean().detach())

    torch.manual_seed(0)
    assert apart(Recognizer.from_run(tmp_path / "run").model) < 0.2 * apart(task.build_model())
    copied.unlink()
    evaluate_run(Recognizer.from_run(tmp_path / "run"), corpus, "test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.features.bands=30", "its data.features.bands is 40, the recipe's 30; name another"),
        ("data.features.normalise='running'", "normalise is 'utterance', the recipe's 'running'"),
        ("data.letters=' ABC'", "its data.letters is ' ABCDE.*the recipe's ' ABC'"),
        (
            "model.front_end.convolutions=[{channels=8, kernel=[5], stride=[2]}]",
            "its number of feature frames per output frame is 4, the recipe's 2",
        ),
    ],
)
def test_a_teacher_must_hear_and_write_as_its_student(teachers, change, message):
    with pytest.raises(RecipeError, match=f"teacher {teachers[0]}: .*{message}"):
        open_teachers(student(teachers, change))


def test_a_teacher_must_be_there_and_count(teachers, tmp_path):
    with pytest.raises(CheckpointError, match="none is not a run with finished weights"):
        open_teachers(student([tmp_path / "none"]))
    for wrong in (["loss.teachers=[]"], ["loss.distill=0.0"]):
        with pytest.raises(RecipeError, match="give a factor above 0 and at least one teacher"):
            student(teachers, *wrong)
