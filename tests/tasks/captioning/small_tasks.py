"""A small corpus, and captioning tasks on it."""

import numpy as np
import torch

from growprune.data import FeatureTable
from growprune.data.captions import CaptionCorpus, CaptionedImage
from growprune.tasks import open_recipe
from growprune.tasks.captioning import CaptioningTask

CPU = torch.device("cpu")
WIDTH = 6
SMALL = [
    "model.embedding_size=12", "model.recurrent.hidden_size=12", "model.dropout=0.0",
    "data.least=2", "training.batch_size=5", "training.epochs=3", "training.threads=1",
    "loss.label_smoothing=0.0", "loss.self_critical_epochs=0", "training.optimizer.warmup=0.3",
]  # fmt: skip
NOUNS, PLACES = ["dog", "cat", "bird", "boy"], ["grass", "road", "beach"]


def make_corpus(**splits):
    """A sentence or three about every image, which its features tell; and one word in one only."""
    images, features = {}, {}
    for split, count in ({"train": 12, "dev": 4, "test": 3} | splits).items():
        images[split] = []
        for number in range(count):
            name = f"{split}{number}.jpg"
            noun, place = number % 4, (number * 5 + len(split)) % 3
            texts = [f"A {NOUNS[noun]} on the {PLACES[place]}.", f"the {NOUNS[noun]} runs"]
            texts.append(f"{NOUNS[noun]} near a {PLACES[place]} number{number}")
            images[split].append(CaptionedImage(name, None, tuple(texts[: 1 + number % 3])))
            features[name] = np.eye(4)[noun].tolist()[:3] + np.eye(3)[place].tolist()
    corpus = CaptionCorpus("small", "nowhere", {k: tuple(v) for k, v in images.items()})
    table = FeatureTable(tuple(features), np.array([*features.values()], np.float16), "features")
    return corpus, table


def make_task(*settings, seed=1, **splits):
    return CaptioningTask(
        open_recipe("neuraltalk-lstm", [*SMALL, *settings]), *make_corpus(**splits), seed
    )


def model_of(task, seed=0):
    torch.manual_seed(seed)
    model = task.build_model()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4)
    return model


def step_log_probs(model, feature, words):
    """Log-probabilities of the first word, the second, ... and the end, one at a time."""
    log_probs, state = model.begin(feature[None])
    rows = [log_probs[0]]
    for word in words:
        log_probs, state = model.step(torch.tensor([word]), state)
        rows.append(log_probs[0])
    return torch.stack(rows)
