"""The writer: searches in chunks, and never writes the unknown word."""

import numpy as np
import pytest

from growprune.decoding import Caption, Writer
from growprune.decoding.sentences import sample, search

WORDS = 5


class Toy:
    """A language model whose next word depends on the image's features and the last word.

    Its state is the features of each row; it keeps how many images it began with at a time.
    """

    def __init__(self, seed=0, width=3):
        self.weights = np.random.default_rng(seed).standard_normal((WORDS, width, WORDS))
        self.begun = []

    def begin(self, features):
        self.begun.append(len(features))
        return self.step(np.zeros(len(features), int), features)

    def step(self, words, features):
        logits = np.einsum("rw,rwv->rv", features, self.weights[words])
        logits[:, 1] += 2  # the unknown word is likely, and yet not written
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), features

    def select(self, features, rows):
        return features[rows]


def features(images, seed=1):
    return np.random.default_rng(seed).standard_normal((images, 3))


OPTIONS = {"end": 0, "forbidden": [1], "longest": 6}


@pytest.mark.parametrize(("beam", "penalty"), [(1, 0.0), (3, 0.0), (3, 1.0), (600, 0.5)])
def test_chunks_are_searched_as_if_together(beam, penalty):
    model, images = Toy(), features(300 if beam < 600 else 5)
    written = Writer(beam=beam, longest=6, length_penalty=penalty)(model, images)
    begun = list(model.begun)
    together = search(
        *model.begin(images), model.step, model.select,
        beam=beam, length_penalty=penalty, **OPTIONS,
    )  # fmt: skip
    assert [s.words for s in written] == [s.words for s in together]
    assert [s.log_prob for s in written] == pytest.approx([s.log_prob for s in together])
    # At most 256 hypotheses at a time, or one image's.
    assert len(begun) > 1
    assert sum(begun) == len(images)
    assert all(size * beam <= 256 or size == 1 for size in begun)


def test_draws_are_those_of_one_generator():
    model, images = Toy(), features(300)
    rng = np.random.default_rng(4)
    wanted = [
        sentence
        for chunk in (images[:256], images[256:])
        for sentence in sample(
            *model.begin(chunk), model.step, model.select, temperature=0.7, rng=rng, **OPTIONS
        )
    ]
    writer = Writer(longest=6, temperature=0.7, seed=4)
    assert writer(model, images) == wanted == writer(model, images)
    assert Writer(longest=6, temperature=0.7, seed=5)(model, images) != wanted


@pytest.mark.parametrize("temperature", [None, 1.0])
def test_the_unknown_word_is_never_written(temperature):
    written = Writer(temperature=temperature)(Toy(), features(100))
    assert len({s.words for s in written}) > 5
    assert not any({0, 1} & set(s.words) for s in written)


def test_captions_are_sentences_in_words():
    model, images = Toy(), features(4)
    sentences = Writer(beam=2)(model, images)
    captions = Writer(beam=2).captions(model, images, lambda words: "-".join(map(str, words)))
    assert captions == [Caption("-".join(map(str, s.words)), s.log_prob) for s in sentences]


def test_no_image_gives_no_sentence():
    assert Writer()(Toy(), features(0)) == []
