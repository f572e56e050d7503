"""The search over words against plain searches, in small random Markov models."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from growprune.decoding.sentences import Sentence, sample, search

END = 0


class Markov:
    """Random models, one an image: the next word depends on the last one and the image."""

    def __init__(self, seed, images=1, words=3, spread=2.0):
        rng = np.random.default_rng(seed)
        logits = spread * rng.standard_normal((images, words + 1, words))
        self.tables = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))

    @property
    def begin(self):
        """Log-probabilities of the first words, and the state: each row's image."""
        return self.tables[:, -1], np.arange(len(self.tables))

    def step(self, words, images):
        assert len(words) == len(images)
        assert (words != END).all()
        return self.tables[images, words], images

    def select(self, images, rows):
        return images[rows]

    def log_prob(self, image, words):
        """Of all these words, the end among them if it is there."""
        return sum(
            self.tables[image, before, word] for before, word in itertools.pairwise((-1, *words))
        )

    def search(self, **options):
        return search(*self.begin, self.step, self.select, end=END, **options)

    def sample(self, seed=0, **options):
        options = {"temperature": 1.0, "rng": np.random.default_rng(seed)} | options
        return sample(*self.begin, self.step, self.select, end=END, **options)


def sentence(words, log_prob):
    return Sentence(tuple(words[:-1] if words[-1] == END else words), pytest.approx(log_prob))


def all_sentences(words, longest):
    """Every sentence: its words and end, or `longest` words that have none."""
    for length in range(1, longest + 1):
        for inner in itertools.product(range(1, words), repeat=length - 1):
            yield (*inner, END)
    yield from itertools.product(range(1, words), repeat=longest)


def best(model, image, words, longest, penalty, forbidden=()):
    """The best of all sentences, by looking at each."""
    allowed = [s for s in all_sentences(words, longest) if not set(s) & set(forbidden)]
    chosen = max(allowed, key=lambda s: model.log_prob(image, s) / len(s) ** penalty)
    return sentence(chosen, model.log_prob(image, chosen))


def plain_beam(model, image, words, beam, longest, penalty):
    """Beam search without arrays and without giving up hypotheses that cannot win."""
    open_, ended = [()], []
    for _ in range(longest):
        longer = [(*s, word) for s in open_ for word in range(words)]
        kept = sorted(longer, key=lambda s: -model.log_prob(image, s))[:beam]
        ended += [s for s in kept if s[-1] == END or len(s) == longest]
        open_ = [s for s in kept if s[-1] != END]
    chosen = max(ended, key=lambda s: model.log_prob(image, s) / len(s) ** penalty)
    return sentence(chosen, model.log_prob(image, chosen))


SEED, SIZE, LONGEST = st.integers(0, 10**6), st.integers(2, 4), st.integers(1, 4)
PENALTY = st.sampled_from([0.0, 0.5, 1.0, 2.0])


@settings(max_examples=100, deadline=None)
@given(SEED, SIZE, LONGEST, PENALTY)
def test_a_beam_that_drops_nothing_finds_the_best_sentence(seed, words, longest, penalty):
    model = Markov(seed, images=3, words=words)
    found = model.search(beam=words**longest, longest=longest, length_penalty=penalty)
    assert found == [best(model, image, words, longest, penalty) for image in range(3)]


@settings(max_examples=100, deadline=None)
@given(SEED, SIZE, st.integers(1, 6), st.integers(1, 5), PENALTY)
def test_any_beam_finds_what_a_plain_beam_search_finds(seed, words, longest, beam, penalty):
    model = Markov(seed, images=3, words=words)
    found = model.search(beam=beam, longest=longest, length_penalty=penalty)
    assert found == [plain_beam(model, i, words, beam, longest, penalty) for i in range(3)]


@settings(max_examples=60, deadline=None)
@given(SEED, SIZE, st.integers(1, 8))
def test_a_beam_of_one_takes_the_likeliest_word_each_time(seed, words, longest):
    model = Markov(seed, images=4, words=words)
    for image, found in enumerate(model.search(longest=longest)):
        greedy = []
        while len(greedy) < longest and END not in greedy:
            greedy.append(int(model.tables[image, greedy[-1] if greedy else -1].argmax()))
        assert found == sentence(greedy, model.log_prob(image, greedy))


@settings(max_examples=60, deadline=None)
@given(SEED, LONGEST, st.sets(st.integers(1, 3), min_size=1, max_size=2))
def test_forbidden_words_are_never_written_and_lend_nothing_to_others(seed, longest, forbidden):
    model = Markov(seed, images=2, words=4)
    found = model.search(beam=4**longest, longest=longest, forbidden=list(forbidden))
    assert found == [best(model, image, 4, longest, 0.0, forbidden) for image in range(2)]
    drawn = model.sample(seed, longest=longest, forbidden=list(forbidden))
    assert not any(set(s.words) & forbidden for s in (*found, *drawn))


@settings(max_examples=40, deadline=None)
@given(SEED, st.integers(1, 4), PENALTY)
def test_an_image_is_searched_as_if_it_were_alone(seed, beam, penalty):
    model = Markov(seed, images=5, words=4)
    options = {"beam": beam, "longest": 7, "length_penalty": penalty}
    together = model.search(**options)
    for image, found in enumerate(together):
        alone = Markov(0, words=4)
        alone.tables = model.tables[image : image + 1]
        assert alone.search(**options) == [found]


def chain(*rows, first):
    """A model by its probabilities: what follows word 0, 1, ..., and what comes first."""
    model = Markov(0)
    with np.errstate(divide="ignore"):
        model.tables = np.log(np.array([[*rows, first]], dtype=float))
    return model


NEVER = [0.0, 0.0, 0.0, 0.0]  # follows the end


def test_a_longer_sentence_wins_where_lengths_are_made_up_for():
    model = chain([0.0, 0.0], [0.6, 0.4], first=[0.4, 0.6])
    short, long = math.log(0.4), math.log(0.6 * 0.6)
    assert model.search(beam=4, longest=3) == [Sentence((), pytest.approx(short))]
    assert model.search(beam=4, longest=3, length_penalty=0.5) == [
        Sentence((1,), pytest.approx(long))
    ]


def test_the_likeliest_sentence_need_not_begin_with_the_likeliest_word():
    model = chain(NEVER[:3], [0.3, 0.4, 0.3], [0.98, 0.01, 0.01], first=[0.01, 0.5, 0.49])
    greedy, searched = model.search(longest=2), model.search(beam=2, longest=2)
    assert greedy == [Sentence((1, 1), pytest.approx(math.log(0.5 * 0.4)))]
    assert searched == [Sentence((2,), pytest.approx(math.log(0.49 * 0.98)))]


def test_ties_go_to_the_first_end_then_the_better_parent_then_the_lower_word():
    alike = [0.25, 0.25, 0.25, 0.25]
    assert chain(NEVER, alike, alike, alike, first=alike).search(beam=3)[0].words == ()
    # Both sentences have log 0.2: one ends at once, the other at its second word.
    model = chain([0, 0], [0.25, 0.75], first=[0.2, 0.8])
    assert model.search(beam=2, longest=2)[0].words == (1, 1)
    model = chain([0, 0], [0.25, 0.0], first=[0.2, 0.8])
    assert model.search(beam=2, longest=2)[0].words == ()
    # 2 1 and 3 1 are alike, and so are 2 and 3, of which the lower is the better parent.
    model = chain(NEVER, alike, [0, 0.5, 0, 0], [0, 0.5, 0, 0], first=[0, 0, 0.5, 0.5])
    assert model.search(beam=2, longest=2)[0].words == (2, 1)
    # 3 1 and 2 1 are alike, but 3 is the better parent.
    model = chain(NEVER, alike, [0, 0.5, 0, 0], [0, 0.25, 0, 0], first=[0, 0, 0.25, 0.5])
    assert model.search(beam=2, longest=2)[0].words == (3, 1)
    # 2 1 and 2 3 are alike.
    model = chain(NEVER, alike, [0, 0.5, 0, 0.5], alike, first=[0, 0, 1, 0])
    assert model.search(beam=2, longest=2)[0].words == (2, 1)


def test_a_sentence_without_end_is_cut_at_its_longest():
    model = chain([0.5, 0.5], [0.1, 0.9], first=[0.2, 0.8])
    log_prob = pytest.approx(math.log(0.8 * 0.9 * 0.9))
    assert model.search(beam=1, longest=3) == [Sentence((1, 1, 1), log_prob)]
    assert model.search(beam=1, longest=1) == [Sentence((1,), pytest.approx(math.log(0.8)))]


def test_where_no_sentence_is_possible_it_is_empty_and_others_are_not():
    model = Markov(0, images=2, words=3)
    model.tables[0] = -np.inf
    for found in (model.search(beam=2, longest=4), model.sample(longest=4)):
        assert found[0] == Sentence((), -math.inf)
        assert found[1].log_prob > -math.inf
    model.tables[:] = -np.inf
    assert model.search() == model.sample() == [Sentence((), -math.inf)] * 2


def test_a_dead_end_is_not_written():
    model = chain(NEVER[:3], [0, 0, 0], [0.5, 0.5, 0], first=[0, 0.9, 0.1])
    assert model.search(beam=3, longest=3)[0].words == (2,)


def test_no_image_gives_no_sentence():
    model = Markov(0, images=1)
    model.tables = model.tables[:0]
    assert model.search(beam=3) == model.sample() == []


def test_sentences_are_drawn_as_often_as_they_are_probable():
    images, model = 40_000, Markov(3, words=3, spread=1.0)
    model.tables = np.repeat(model.tables, images, axis=0)
    for temperature in (1.0, 0.5, 2.0):
        drawn = model.sample(1, longest=2, temperature=temperature)
        tempered = np.exp(model.tables[0] / temperature)
        tempered /= tempered.sum(axis=1, keepdims=True)
        for words in all_sentences(3, 2):
            wanted = math.prod(tempered[a, b] for a, b in itertools.pairwise((-1, *words)))
            written = Sentence(words[:-1] if words[-1] == END else words, 0.0).words
            found = [s for s in drawn if s.words == written]
            deviation = math.sqrt(images * wanted * (1 - wanted))
            assert abs(len(found) - images * wanted) < 4 * deviation, (temperature, words)
            # The model's own probability, whatever the temperature.
            log_prob = pytest.approx(model.log_prob(0, words))
            assert all(s.log_prob == log_prob for s in found[:1])


def test_forbidden_words_leave_their_probability_to_the_others():
    images, model = 20_000, Markov(3, words=3, spread=1.0)
    model.tables = np.repeat(model.tables, images, axis=0)
    drawn = model.sample(2, longest=1, forbidden=[2])
    ended, one, _ = np.exp(model.tables[0, -1])
    wanted = ended / (ended + one)
    found = sum(s.words == () for s in drawn)
    assert abs(found - images * wanted) < 4 * math.sqrt(images * wanted * (1 - wanted))
    assert found + sum(s.words == (1,) for s in drawn) == images


@settings(max_examples=30, deadline=None)
@given(SEED, st.integers(0, 4))
def test_a_draw_does_not_depend_on_what_others_write(seed, image):
    model, other = Markov(seed, images=5, words=4), Markov(seed + 1, images=5, words=4)
    other.tables[image] = model.tables[image]
    assert model.sample(7, longest=6)[image] == other.sample(7, longest=6)[image]


@settings(max_examples=30, deadline=None)
@given(SEED)
def test_at_a_low_temperature_the_likeliest_words_are_drawn(seed):
    model = Markov(seed, images=3, words=4)
    assert model.sample(seed, temperature=1e-9, longest=6) == model.search(beam=1, longest=6)


def test_equal_seeds_draw_equal_sentences():
    model = Markov(0, images=50, words=4)
    assert model.sample(5) == model.sample(5) != model.sample(6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 0}, "beam must be at least 1, got 0"),
        ({"longest": 0}, "longest must be at least 1, got 0"),
        ({"length_penalty": -0.5}, "length_penalty must not be negative, got -0.5"),
        ({"forbidden": [3]}, "word 3 is not among the 3 words"),
        ({"forbidden": [-1]}, "word -1 is not among the 3 words"),
        ({"forbidden": [END]}, "word 0 ends sentences"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Markov(0).search(**options)


def test_draws_refuse_what_makes_no_sense():
    model = Markov(0)
    for temperature in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"temperature must be above 0, got {temperature}"):
            model.sample(temperature=temperature)
    with pytest.raises(ValueError, match="longest must be at least 1"):
        model.sample(longest=0)
    with pytest.raises(ValueError, match=r"must be \(images, words\), got \(3,\)"):
        search(np.zeros(3), None, model.step, model.select, end=0)


def test_a_diverged_model_is_named():
    model = Markov(0)
    model.tables[0, -1, 1] = np.nan
    for write in (model.search, model.sample):
        with pytest.raises(ValueError, match="NaN"):
            write()
