from itertools import pairwise

import numpy as np
import pytest
import soundfile
import torch

from growprune.data import Corpus, Utterance
from growprune.decoding import Decoder, language_model
from growprune.errors import DataError
from growprune.tasks import open_recipe
from growprune.tasks.speech import Recognizer, SpeechTask, evaluate_run
from growprune.tasks.speech.settings import LossSettings
from growprune.training import load_weights, train

SMALL = [
    "model.recurrent.hidden_size=8",
    "training.batch_size=4",
    "training.epochs=60",
]


def make_corpus(folder, count=10):
    rng = np.random.default_rng(0)
    rows = []
    for index in range(count):
        path = folder / f"{index}.wav"
        seconds = 0.6 + 0.1 * ((7 * index) % count)
        soundfile.write(path, 0.1 * rng.standard_normal(int(16000 * seconds)), 16000)
        rows.append(Utterance(str(index), path, "AB CA"[: 2 + index % 4].strip(), seconds, "x"))
    return Corpus("small", {"train": tuple(rows), "dev": tuple(rows[:3]), "test": tuple(rows[3:5])})


@pytest.fixture
def task(tmp_path):
    return SpeechTask(open_recipe("demo-hlstm-gp", SMALL), make_corpus(tmp_path), seed=1)


def test_first_epoch_is_sorted_and_later_ones_shuffled_batches_of_like_length(task):
    for epoch in (0, 1, 2):
        batches = task.batches(epoch)
        assert sorted(index for batch in batches for index in batch) == list(range(10))
        assert sorted(map(len, batches)) == [2, 4, 4]
    lengths = [[task.training_set.seconds(i, 0) for i in batch] for batch in task.batches(0)]
    flat = [length for batch in lengths for length in batch]
    assert flat == sorted(flat)
    orders = {tuple(map(tuple, task.batches(epoch))) for epoch in range(1, 6)}
    assert len(orders) > 1
    assert task.batches(3) == task.batches(3)


def test_a_batch_depends_on_seed_epoch_and_examples_alone(task, tmp_path):
    first = task.load([2, 5], 4)
    task.load([1, 3], 2)
    again = SpeechTask(task.recipe, task.corpus, seed=1).load([2, 5], 4)
    assert torch.equal(first.features, again.features)
    other = SpeechTask(task.recipe, task.corpus, seed=2).load([2, 5], 4)
    assert first.features.shape != other.features.shape or not torch.equal(
        first.features, other.features
    )
    assert first.letters.tolist() == [
        *task.alphabet.encode(task.examples[2].text),
        *task.alphabet.encode(task.examples[5].text),
    ]
    assert first.letter_counts.sum() == len(first.letters)


def test_speeds_are_drawn_but_never_leave_ctc_without_room(tmp_path):
    corpus = make_corpus(tmp_path)
    long = "ABCABCABCABCAB"
    tight = Utterance("tight", corpus.splits["train"][0].audio, long, 0.6, "x")
    crowded = Corpus("c", {"train": (*corpus.splits["train"], tight), "dev": (tight,)})
    recipe = open_recipe("demo-hlstm-gp", [*SMALL, "data.speeds=[0.5, 1.0, 1.9]"])
    task = SpeechTask(recipe, crowded)
    speeds = [
        {task.training_set.pieces(index, epoch)[0].speed for epoch in range(40)}
        for index in range(11)
    ]
    assert speeds[9] == {0.5, 1.0, 1.9}
    assert speeds[10] == {0.5, 1.0}
    model = task.build_model()
    for epoch in range(40):
        batch = task.load([10], epoch)
        assert torch.isfinite(task.loss(model, batch, torch.device("cpu")))


def test_joined_utterances_are_ordered_by_their_length_together(tmp_path):
    recipe = open_recipe("demo-hlstm-gp", [*SMALL, "data.concatenate=0.5"])
    task = SpeechTask(recipe, make_corpus(tmp_path), seed=1)
    batches = task.batches(0)
    frames = [length for batch in batches for length in task.load(batch, 0).lengths.tolist()]
    assert sorted(frames) != [58 + 10 * i for i in range(10)]
    assert all(first <= second + 4 for first, second in pairwise(frames))  # rounding, two ends
    index = next(i for i in batches[-1] if len(task.training_set.pieces(i, 0)) == 2)
    one, two = (task.examples[piece.index].text for piece in task.training_set.pieces(index, 0))
    assert task.load([index], 0).letters.tolist() == task.alphabet.encode(f"{one} {two}")


def test_ctc_loss_agrees_with_a_sum_over_all_paths():
    from itertools import product

    from growprune.tasks.speech.task import SpeechBatch, _ctc

    torch.manual_seed(0)
    log_probs = torch.randn(1, 4, 3, dtype=torch.float64).log_softmax(-1)
    batch = SpeechBatch(torch.empty(0), torch.empty(0), torch.tensor([1, 2]), torch.tensor([2]))

    def text(path):
        kept = [s for i, s in enumerate(path) if s and (i == 0 or path[i - 1] != s)]
        return kept == [1, 2]

    total = sum(
        log_probs[0, range(4), list(path)].sum().exp()
        for path in product(range(3), repeat=4)
        if text(path)
    )
    torch.testing.assert_close(_ctc(log_probs, torch.tensor([4]), batch)[0], -total.log() / 2)


def test_the_lower_layer_joins_the_loss_with_its_factor(tmp_path):
    recipe = open_recipe("demo-hlstm-gp", [*SMALL, "model.recurrent.layers=2"])
    with_lower = recipe.model_copy(update={"loss": LossSettings(intermediate=0.25)})
    corpus, device = make_corpus(tmp_path), torch.device("cpu")
    task, joined = SpeechTask(recipe, corpus), SpeechTask(with_lower, corpus)
    torch.manual_seed(0)
    model, batch = task.build_model().eval(), task.load([1, 2], 1)
    total, upper = joined.loss(model, batch, device), task.loss(model, batch, device)
    del model.recurrent.layers[1], model.recurrent.norms[1]
    torch.testing.assert_close(total, upper + 0.25 * task.loss(model, batch, device))


def test_a_gru_is_grown_and_pruned(tmp_path):
    settings = [
        "model.recurrent.cell=gru", "model.recurrent.gate_hidden_sizes=[]",
        "model.recurrent.gate_dropout=0.0", "training.epochs=4", "training.average_epochs=0",
        "plan={ seed_density = 0.5, grow = { epochs = 1, interval = 1, fraction = 0.1 }, "
        "prune = { rounds = 2, final_density = 0.25 } }",
    ]  # fmt: skip
    recipe = open_recipe("demo-hlstm-gp", [*SMALL, *settings])
    task = SpeechTask(recipe, make_corpus(tmp_path), seed=1)
    record = train(task, tmp_path / "run", seed=1)
    weights = load_weights(tmp_path / "run")
    cells = {name: mask for name, mask in weights.masks.items() if ".layers." in name}
    assert {name.rpartition(".")[2] for name in cells} == {
        "weight_ih_l0", "weight_hh_l0", "weight_ih_l0_reverse", "weight_hh_l0_reverse",
    }  # fmt: skip
    for name, mask in cells.items():
        assert mask.sum() == round(0.25 * mask.numel())
        assert torch.equal(weights.tensors[name] != 0, mask)
    assert [epoch["phase"] for epoch in record["epochs"]] == ["grow", "prune", "prune", "retrain"]
    assert record["epochs"][0]["density"] > 0.5
    losses = [epoch["train_loss"] for epoch in record["epochs"]]
    assert losses[-1] < losses[0]


def test_evaluation_is_the_same_batched_alone_and_through_the_recognizer(task):
    torch.manual_seed(0)
    model = task.build_model().eval()
    with torch.inference_mode():
        scores = task.evaluate(model, "dev", torch.device("cpu"))
    recognizer = Recognizer(model, task.recipe)
    result = evaluate_run(recognizer, task.corpus, "dev")
    assert result.scores == {"wer": scores["wer"], "cer": scores["cer"]}
    alone = {row.id: recognizer.transcribe(row.audio).text for row in task.corpus.split("dev")}
    assert {row.name: row.text for row in result.transcripts} == alone


def test_wrong_data_is_named_before_training(task, tmp_path):
    rows = task.corpus.splits["train"]
    bad = Utterance("bad", rows[0].audio, "HÉ", 0.6, "x")
    with pytest.raises(DataError, match=r"0\.wav.*É"):
        SpeechTask(task.recipe, Corpus("c", {"train": (bad,), "dev": rows})).batches(0)
    crowded = Utterance("crowded", rows[0].audio, "A" * 60, 0.6, "x")
    with pytest.raises(DataError, match=r"0\.wav"):
        SpeechTask(task.recipe, Corpus("c", {"train": rows, "dev": (crowded,)})).batches(0)
    with pytest.raises(DataError, match="has no train split"):
        SpeechTask(task.recipe, Corpus("c", {"dev": rows})).batches(0)


def test_a_language_model_changes_the_text_and_needs_transcripts(task):
    letters = task.recipe.data.letters
    log_probs = np.full((3, len(letters) + 1), -20.0, np.float32)
    a, b, space = (letters.index(letter) + 1 for letter in "AB ")
    log_probs[0, [a, b]] = np.log([0.45, 0.55])
    log_probs[1, space] = 0.0
    log_probs[2, [a, b]] = np.log([0.5, 0.5])
    model = language_model(["A A", "A A", "A B"], 2)
    plain = Decoder(beam=8)(log_probs, letters, 1.0)
    helped = Decoder(beam=8, language_model=model, lm_weight=2.0)(log_probs, letters, 1.0)
    assert plain.text.startswith("B")
    assert helped.text == "A A"
    with pytest.raises(DataError, match="no transcripts"):
        language_model([" "], 2)


def test_a_final_run_learns_from_dev_too(task):
    recipe = open_recipe("demo-hlstm-gp", [*SMALL, 'data.train_splits=["train", "dev"]'])
    final = SpeechTask(recipe, task.corpus)
    assert final.examples == task.corpus.split("train") + task.corpus.split("dev")
    assert sorted(i for batch in final.batches(0) for i in batch) == list(range(13))
