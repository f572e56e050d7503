"""Caption scores against the reference implementation, plain computations and figures by hand.

`pycocoevalcap` is a hundred megabytes of Java archives, so it is no requirement of the tests: where
it is not installed, figures that version 1.2 of it once computed stand in for it.
"""

import math
from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from growprune.metrics.captions import (
    CaptionScores,
    CiderD,
    bleu,
    cider_d,
    rouge_l,
    score_captions,
    tokenize,
)

REFERENCES = [
    [
        "A brown dog runs along the beach.",
        "The dog is running on wet sand, near the sea.",
        "A dog's paws splash in the water!",
    ],
    [
        "Two children play football in a park.",
        "Two kids are kicking a ball on the grass",
    ],
    [
        "A woman in a red coat reads a newspaper at the bus stop.",
        "Someone isn't looking up from the newspaper.",
        "A lady in red is waiting for the bus.",
        "A woman reads while she waits.",
    ],
    ["An old man sells oranges from a wooden cart."],
    ["A cat sleeps on a cat bed.", "The grey cat is asleep on its bed."],
]
CANDIDATES = [
    "a dog runs on the beach",
    "two children are playing with a ball in the park on the grass near a tree",
    "a woman in a red coat is waiting for the bus",
    "a man",
    "a cat a cat a cat sleeps on a bed bed",
]
# What pycocoevalcap 1.2, its Java tokeniser included, gives for these.
BLEU = (0.7826086956351608, 0.6331258613349792, 0.49661911367063116, 0.4045801660304808)
ROUGE = (
    0.7587064676616916,
    0.5897790055248618,
    0.8146911519198664,
    0.16310160427807485,
    0.6944971537001898,
)
CIDER = (
    1.4331508342256736,
    0.7852434879450696,
    2.3461207483606223,
    0.46773566731301763,
    2.2012989275608934,
)


def by_peer(references, candidates):
    """BLEU of the corpus, ROUGE-L and CIDEr-D of each image; texts are split at spaces."""
    if find_spec("pycocoevalcap") is None:
        pytest.skip("pycocoevalcap is not installed; the stored values are compared all the same")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    expected, written = dict(enumerate(references)), {i: [c] for i, c in enumerate(candidates)}
    bleus = Bleu(4).compute_score(expected, written, verbose=0)[0]
    rouges = Rouge().compute_score(expected, written)[1]
    return bleus, rouges, Cider().compute_score(expected, written)[1]


def rouges(references, candidates):
    return [rouge_l([texts], [text]) for texts, text in zip(references, candidates, strict=True)]


def test_scores_are_those_that_the_reference_implementation_once_gave():
    found = score_captions(REFERENCES, CANDIDATES)
    assert found.bleu == pytest.approx(BLEU, rel=1e-14)
    assert rouges(REFERENCES, CANDIDATES) == pytest.approx(ROUGE, rel=1e-14)
    assert CiderD(REFERENCES).scores(CANDIDATES) == pytest.approx(CIDER, rel=1e-13)
    assert found.rouge_l == pytest.approx(np.mean(ROUGE), rel=1e-14)
    assert found.cider_d == pytest.approx(np.mean(CIDER), rel=1e-13)


WORD = st.sampled_from(["a", "dog", "cat", "runs", "on", "grass"])
SENTENCE = st.lists(WORD, max_size=9).map(" ".join)
CORPUS = st.lists(
    st.tuples(st.lists(SENTENCE, min_size=1, max_size=4), SENTENCE), min_size=1, max_size=6
)


@settings(max_examples=80, deadline=None)
@given(CORPUS)
def test_scores_agree_with_the_reference_implementation_where_it_is_installed(corpus):
    references, candidates = zip(*corpus, strict=True)
    assume(any(text for texts in references for text in texts))  # the peer has no CIDEr-D of none
    bleus, rouge, cider = by_peer(references, candidates)
    assert bleu(references, candidates, str.split) == pytest.approx(bleus, rel=1e-12, abs=1e-300)
    assert rouges(references, candidates) == pytest.approx(rouge, rel=1e-12)
    found = CiderD(references, str.split).scores(candidates)
    assert found == pytest.approx(cider, rel=1e-12, abs=1e-13)


def slow_cider(references, candidates):
    """CIDEr-D from its definition, with dictionaries, from texts with spaces between tokens."""

    def counted(text, order):
        tokens = text.split()
        return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))

    def vector(text, order):
        return {
            ngram: count * (math.log(len(references)) - math.log(max(1, images_with[ngram])))
            for ngram, count in counted(text, order).items()
        }

    images_with = Counter(
        ngram
        for texts in references
        for ngram in {n for text in texts for order in range(1, 5) for n in counted(text, order)}
    )
    scores = []
    for texts, candidate in zip(references, candidates, strict=True):
        total = 0.0
        for text in texts:
            difference = sum(counted(text, 2).values()) - sum(counted(candidate, 2).values())
            for order in range(1, 5):
                ours, theirs = vector(candidate, order), vector(text, order)
                dot = sum(min(ours[n], theirs[n]) * theirs[n] for n in ours.keys() & theirs.keys())
                norm = math.hypot(*ours.values()) * math.hypot(*theirs.values())
                if norm:
                    total += dot / norm * math.exp(-(difference**2) / 72)
        scores.append(10 * total / 4 / len(texts))
    return scores


@settings(max_examples=100, deadline=None)
@given(CORPUS)
def test_cider_is_its_definition(corpus):
    references, candidates = zip(*corpus, strict=True)
    found = CiderD(references, str.split).scores(candidates)
    assert found == pytest.approx(slow_cider(references, candidates), rel=1e-12, abs=1e-13)
    assert cider_d(references, candidates, str.split) == pytest.approx(found.mean(), rel=1e-14)
    assert 0 <= found.min() <= found.max() <= 10 + 1e-12


@settings(max_examples=50, deadline=None)
@given(CORPUS, st.randoms(use_true_random=False))
def test_order_of_images_and_of_references_does_not_matter(corpus, random):
    references, candidates = zip(*corpus, strict=True)
    shuffled = [(random.sample(texts, len(texts)), text) for texts, text in corpus]
    random.shuffle(shuffled)
    other_references, other_candidates = zip(*shuffled, strict=True)
    for score in (cider_d, rouge_l):
        first = score(references, candidates, str.split)
        assert score(other_references, other_candidates, str.split) == pytest.approx(first)
    first = bleu(references, candidates, str.split)
    assert bleu(other_references, other_candidates, str.split) == pytest.approx(first, rel=1e-12)


def test_a_copy_of_the_only_reference_scores_best():
    references = [["a dog runs on grass"], ["two cats sleep here now"]]
    copies = [texts[0] for texts in references]
    assert bleu(references, copies) == pytest.approx((1, 1, 1, 1), abs=1e-8)
    assert rouge_l(references, copies) == pytest.approx(1)
    assert cider_d(references, copies) == pytest.approx(10)


def test_bleu_by_hand():
    # "the" counts twice at most; of 5 words 4 are found, of 4 pairs "the cat" and "cat the".
    references = [["the cat sat on the mat", "the cat the mat"]]
    assert bleu(references, ["the the cat the dog"]) == pytest.approx(
        (3 / 5, (3 / 5 * 2 / 4) ** 0.5, (3 / 5 * 2 / 4 * 1 / 3) ** (1 / 3), 0), rel=1e-6, abs=1e-3
    )


def test_bleu_is_shorter_by_the_closest_reference_and_by_the_shorter_of_two():
    # 2 words against 3: exp(1 - 3/2); 4 is as close to 3 as 5 is, which leaves no penalty.
    assert bleu([["a b c", "a b c d e f g"]], ["a b"])[0] == pytest.approx(math.exp(-0.5))
    assert bleu([["a b c", "a b c d e"]], ["a b c d"])[0] == pytest.approx(1)
    # Of the whole corpus: 2 and 6 words against 4 and 4 are no shorter.
    assert bleu([["a b c d"], ["a b c d"]], ["a b", "a b c d e f"])[0] == pytest.approx(6 / 8)


def test_rouge_by_hand():
    def value(precision, recall):
        return 2.44 * precision * recall / (recall + 1.44 * precision)

    assert rouge_l([["dog on grass"]], ["big dog on a grass"]) == pytest.approx(value(3 / 5, 1))
    assert rouge_l([["a b c d e f"]], ["f a c x e"]) == pytest.approx(value(3 / 5, 3 / 6))
    # "a dog the grass" is 4 of 5 and of 6, "dog grass" 2 of 3: each share from its best reference.
    references = [["a dog sits on the grass", "dog on grass"]]
    assert rouge_l(references, ["a dog under the grass"]) == pytest.approx(value(4 / 5, 4 / 6))
    references = [["a dog sits on the grass", "dog grass"]]
    assert rouge_l(references, ["a dog under the grass"]) == pytest.approx(value(4 / 5, 1))
    assert rouge_l([["cat"]], ["dog"]) == 0


def test_cider_by_hand():
    # Every n-gram is of one image of two, so all weigh log 2, which cancels out: cosines are
    # counts'. Of 1-grams {a, b} and {a, c} share one: 1/2; no 2-gram is shared; lengths are equal.
    assert CiderD([["a c"], ["d e"]]).scores(["a b", "d e"]) == pytest.approx([10 / 8, 5.0])
    # The copy's length counts in 2-grams: a sentence three longer is worth exp(-9/72).
    # Of its 1-grams a, b, 3 x two are the reference's, of its 2-grams ab, bx, 2 xx one.
    short, long = CiderD([["a b"], ["c"]]).scores(["a b x x x", "c"])
    cosines = 2 / math.sqrt(2 * 11) + 1 / math.sqrt(6)
    assert short == pytest.approx(10 / 4 * math.exp(-9 / 72) * cosines)
    assert long == pytest.approx(2.5)


def test_empty_captions_score_nothing_and_break_nothing():
    references = [["a dog runs"], ["the cat sleeps"]]
    found = score_captions(references, ["", "."])
    assert found.bleu == (0, 0, 0, 0)
    assert (found.rouge_l, found.cider_d) == (0, 0)
    assert score_captions([["."], ["a dog"]], ["", "a dog"]).rouge_l == 1


def test_a_single_image_has_no_rare_words():
    assert cider_d([["a dog runs", "the dog"]], ["a dog runs"]) == 0


def test_scores_have_names():
    scores = CaptionScores((0.1, 0.2, 0.3, 0.4), 0.5, 0.6)
    assert scores.as_dict() == {
        "bleu_1": 0.1, "bleu_2": 0.2, "bleu_3": 0.3, "bleu_4": 0.4, "rouge_l": 0.5, "cider_d": 0.6,
    }  # fmt: skip


@pytest.mark.parametrize("score", [bleu, rouge_l, cider_d, score_captions])
def test_what_does_not_fit_together_is_refused(score):
    with pytest.raises(ValueError, match="2 images but 1 candidates"):
        score([["a"], ["b"]], ["a"])
    with pytest.raises(ValueError, match="no image"):
        score([], [])
    with pytest.raises(ValueError, match="image 1 needs a list of references"):
        score([["a"], []], ["a", "b"])
    with pytest.raises(ValueError, match="image 0 needs a list of references, got 'dog'"):
        score(["dog"], ["a"])


# On the right, what the Java tokeniser of COCO's evaluation gives.
SPLITS = {
    "A man's dog isn't here.": "a man 's dog is n't here",
    "A dog 's ball": "a dog 's ball",
    "I'd've said they'll come; we're off": "i 'd 've said they 'll come we 're off",
    'He said "hello" to the dog': "he said hello to the dog",
    "the \u201cold\u201d man\u2019s hat \u2013 a beret\u2026": "the old man 's hat a beret",
    "a bird's-eye-view of a two-year-old": "a bird 's eye-view of a two-year-old",
    "the dogs' toys, at 3 o'clock": "the dogs toys at 3 o'clock",
    "I cannot see; she's gonna gimme one": "i can not see she 's gon na gim me one",
    "U.S. flag at 6:55 p.m. for Mr. Smith": "u.s. flag at 6:55 p.m. for mr. smith",
    "red/blue and 1/2, or 100,000 people": "red/blue and 1/2 or 100,000 people",
    "$5.00 & 10% ... off -- now!": "$ 5.00 & 10 % off now",
    "running .Then it stops": "running then it stops",
    "t-shirt,x-ray -like thing": "t-shirt x-ray like thing",
    "a\tcaf\u00e9   #1": "a caf\u00e9 # 1",
    "": "",
    " ... ": "",
}


@pytest.mark.parametrize("text", SPLITS)
def test_texts_are_split_as_by_the_java_program(text):
    assert " ".join(tokenize(text)) == SPLITS[text]


@given(st.text(st.sampled_from("aNt'sdmM. -,/:19\"\u2019")))
def test_what_is_split_already_stays_as_it_is(text):
    once = tokenize(text)
    assert tokenize(" ".join(once)) == once
    assert all(token and not any(c.isspace() or c.isupper() for c in token) for token in once)
