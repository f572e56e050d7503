"""Packed captioners against those of a run."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from small_captioners import KINDS, WIDTH, WORDS, features, pack, packed, wordy

from growprune import runtime
from growprune.data import CaptionCorpus, CaptionedImage, FeatureTable
from growprune.errors import DataError, ModelFileError
from growprune.metrics import score_captions
from growprune.pipelines import (
    Captioner,
    evaluate_captions,
    measure_caption_latency,
    split_features,
)
from growprune.runtime.graph import Node

FEATURES = features(7)


def assert_alike(trained, captioner, **settings):
    wanted, found = (c.caption(FEATURES, **settings) for c in (trained, captioner))
    assert [caption.text for caption in found] == [caption.text for caption in wanted]
    np.testing.assert_allclose(
        [caption.log_prob for caption in found],
        [caption.log_prob for caption in wanted],
        rtol=0,
        atol=1e-4,
    )
    return [caption.text for caption in found]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("density", "slope", "layout"),
    [(1.0, 0.01, "auto"), (0.3, 0.0, "csr"), (0.3, 0.0, "blocks"), (0.3, 0.01, "dense")],
)
def test_a_packed_captioner_writes_what_torch_writes(kind, density, slope, layout):
    trained = wordy(kind, density, slope)
    captioner = packed(trained, layout=layout)
    texts = assert_alike(trained, captioner, beam=3)
    assert len(set(texts)) > 3
    assert_alike(trained, captioner, beam=1)
    assert_alike(trained, captioner, beam=4, length_penalty=0.7)
    assert_alike(trained, captioner, temperature=1.3, seed=5)


def test_draws_depend_on_the_seed():
    captioner = packed(wordy())
    first, again, other, pair = (
        captioner.caption(FEATURES, temperature=1.0, seed=seed) for seed in (1, 1, 2, (1, 2))
    )
    assert first == again
    assert first != other != pair


def test_steps_give_what_whole_sentences_do():
    """The model's own log-probabilities of a caption, word for word."""
    trained = wordy("h-lstm, layer norm", 0.4)
    captioner = packed(trained)
    (sentence,) = captioner.caption(FEATURES[:1], beam=1)
    words = trained.vocabulary.encode(sentence.text)
    scores, state = captioner.begin(FEATURES[:1])
    total = 0.0
    for word in words:
        total += scores[0, word]
        scores, state = captioner.step(np.array([word]), state)
    ended = len(words) < trained.recipe.data.longest
    assert total + ended * scores[0, 0] == pytest.approx(sentence.log_prob, abs=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "two h-lstms, tied"])
def test_int8_weights_come_close(kind):
    trained = wordy(kind, 0.5)
    exact, small = packed(trained), packed(trained, weights="int8")
    wanted, found = (c.begin(FEATURES)[0] for c in (exact, small))
    assert 0 < np.abs(found - wanted).mean() < 0.05 * wanted.std()
    words = np.array([2, 5, 3, 9, 30, 4, 8])
    wanted, found = (c.step(words, c.begin(FEATURES)[1])[0] for c in (exact, small))
    assert 0 < np.abs(found - wanted).mean() < 0.05 * wanted.std()


def test_a_file_is_all_it_takes(tmp_path):
    trained = wordy("two lstms, standardised", 0.5)
    pack(trained).save(tmp_path / "model.safetensors")
    captioner = Captioner.load(tmp_path / "model.safetensors")
    assert captioner.encoder == {"name": "tiny", "pool": 1, "width": WIDTH}
    assert captioner.width == WIDTH
    assert captioner.vocabulary.words == WORDS
    assert captioner.engine.startswith("growprune.runtime")
    texts = assert_alike(trained, captioner)
    np.save(tmp_path / "features.npy", FEATURES)
    code = (
        "import sys, numpy\n"
        "from growprune.pipelines import Captioner\n"
        f"captioner = Captioner.load({str(tmp_path / 'model.safetensors')!r})\n"
        f"for caption in captioner.caption(numpy.load({str(tmp_path / 'features.npy')!r})):\n"
        "    print(caption.text)\n"
        "assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said == "".join(f"{text}\n" for text in texts)


@pytest.mark.parametrize(
    ("info", "complaint"),
    [
        ({"task": "speech"}, "not a captioner, its task is 'speech'; export a captioning run"),
        ({"words": ["<end>", "a"]}, "a vocabulary begins with <end> and <unknown>"),
        ({"words": []}, "a vocabulary begins with <end> and <unknown>"),
        ({"words": [*WORDS, "more"]}, "38 words, but its part .* the tables .*37, 20"),
        ({"words": WORDS[:-1]}, "36 words, but its part that reads them has the tables"),
        ({"words": [*WORDS[:-1], "a"]}, r"words \['a'\] stand in the vocabulary more than once"),
        ({"words": [*WORDS[:-1], "a b"]}, "'words.36' is 'a b'; String should match"),
        ({"words": [*WORDS[:-1], "a\x1b[2J"]}, r"'words.36' is 'a\\x1b\[2J'; String should"),
        ({"words": [*WORDS[:-1], ""]}, "'words.36' is ''; String should match"),
        ({"words": [*WORDS[:-1], 7]}, "'words.36' is 7"),
        ({"words": "abc"}, "'words' is 'abc'"),
        ({"encoder": None}, "'encoder' is None"),
        ({"encoder": {"name": "", "pool": 1, "width": WIDTH}}, "'encoder.name' is ''"),
        ({"encoder": {"name": "x", "pool": 0, "width": WIDTH}}, "'encoder.pool' is 0"),
        ({"encoder": {"name": "x", "pool": 1}}, "'encoder.width' is missing"),
        (
            {"encoder": {"name": "x", "pool": 1, "width": 13}},
            "its encoder gives 13 numbers, but the network reads 12",
        ),
        ({"longest": 0}, "'longest' is 0"),
        ({"longest": 10**9}, "'longest' is 1000000000"),
    ],
)
def test_what_a_file_says_of_itself_is_checked(info, complaint):
    with pytest.raises(ModelFileError, match=complaint) as caught:
        packed(wordy(), info=info)
    assert str(caught.value).startswith("test model: ")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def without_words(contents):
    return replace(contents, parts={"image": contents.parts["image"]})


def parts_exchanged(contents):
    image, words = contents.parts["image"], contents.parts["words"]
    return replace(contents, parts={"image": words, "words": image})


def another_decoder(contents):
    """The image's part as the decoder: of other shapes."""
    return replace(contents.parts["image"], info=contents.info, parts=contents.parts)


def twice_as_wide(part):
    """The part gives its numbers twice."""

    def change(contents):
        network = contents.parts[part]
        nodes = (*network.nodes, Node("twice", "concatenate", (network.output,) * 2))
        parts = {**contents.parts, part: replace(network, nodes=nodes, output="twice")}
        return replace(contents, parts=parts)

    return change


def more_outputs(contents):
    nodes = (*contents.nodes, Node("twice", "concatenate", ("log_softmax", "log_softmax")))
    return replace(contents, nodes=nodes, output="twice")


def only_the_last_step(contents):
    nodes = (*contents.nodes, Node("last", "last", (contents.output,)))
    return replace(contents, nodes=nodes, output="last")


def from_the_end(contents):
    nodes = tuple(
        replace(node, attributes={**node.attributes, "reverse": True})
        if node.op == "lstm"
        else node
        for node in contents.nodes
    )
    return replace(contents, nodes=nodes)


def without_output(contents):
    return replace(contents, parts={k: v for k, v in contents.parts.items() if k != "output"})


def merged_with_words(contents):
    return replace(contents, parts={**contents.parts, "merge": contents.parts["words"]})


def image_and_state(contents):
    return replace(contents, parts={**contents.parts, "image": contents.parts["state"]})


def other_words(contents):
    return replace(contents, parts={**contents.parts, "words": contents.parts["state"]})


MERGED = "h-lstm, merged, standardised"
BEGUN = "two lstms, begun, standardised"


@pytest.mark.parametrize(
    ("kind", "change", "complaint"),
    [
        ("lstm", without_words, r"its parts are \['image'\], not image and words"),
        ("lstm", parts_exchanged, "its encoder gives 12 numbers, but the network reads ids"),
        ("lstm", another_decoder, "the decoder reads 12"),
        (
            "lstm",
            twice_as_wide("image"),
            r"give 40 \(image\) and 20 \(words\) numbers, but the decoder reads 20",
        ),
        ("lstm", more_outputs, "it has 37 words, but the network 74 outputs"),
        ("lstm", only_the_last_step, "'last' gives one result for the whole sequence"),
        ("lstm", from_the_end, "reads the sequence from its end"),
        (
            MERGED,
            without_output,
            r"its parts are \['image', 'merge', 'words'\], not image and words, or",
        ),
        (MERGED, merged_with_words, "its encoder gives 12 numbers, but the network reads ids"),
        (MERGED, twice_as_wide("merge"), "what is merged has 20 and 40 numbers"),
        (BEGUN, image_and_state, r"its parts are \['image', .* or state instead of image"),
        (BEGUN, twice_as_wide("state"), "it begins with 40 numbers, but carries 20"),
        (BEGUN, other_words, r"parts give 20 \(words\) numbers, but the decoder reads 16"),
    ],
)
def test_networks_that_do_not_fit_are_refused(kind, change, complaint):
    contents = change(pack(wordy(kind)).contents)
    with pytest.raises(ModelFileError, match=f"{complaint}.*; export the run again"):
        Captioner(runtime.build(contents, "x"), "x")


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
def test_weights_that_overflow_are_named():
    contents = pack(wordy()).contents
    weight = contents.matrices["output.weight"]
    huge = replace(weight, arrays={"values": np.full(weight.shape, 3e38, np.float32)})
    contents = replace(contents, matrices={**contents.matrices, "output.weight": huge})
    captioner = Captioner(runtime.build(contents, "x"), "x")
    with pytest.raises(ModelFileError, match="x: its weights are too large to compute with"):
        captioner.caption(FEATURES)


def corpus_and_features(images=5):
    rows = tuple(
        CaptionedImage(f"{number}.jpg", None, (f"a word{number}", "word6 word6"))
        for number in range(images)
    )
    table = FeatureTable(tuple(row.name for row in rows[::-1]), FEATURES[:images], "the table")
    return CaptionCorpus("small", None, {"dev": rows}), table


def test_a_split_is_scored():
    captioner = packed(wordy())
    corpus, table = corpus_and_features()
    found = evaluate_captions(captioner, corpus, table, "dev", beam=2)
    texts = [caption.text for caption in captioner.caption(FEATURES[:5][::-1], beam=2)]
    assert [row.text for row in found.captions] == texts
    assert [row.image for row in found.captions] == list(corpus.split("dev"))
    references = [row.captions for row in corpus.split("dev")]
    assert found.scores == score_captions(references, texts).as_dict()
    assert set(found.scores) == {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d"}
    assert evaluate_captions(wordy(), corpus, table, "dev", beam=2).scores == found.scores


def test_features_that_do_not_fit_are_named():
    captioner = packed(wordy())
    corpus, table = corpus_and_features()
    wide = replace(table, features=np.zeros((5, 13), np.float32))
    with pytest.raises(DataError, match="the table: features are 13 wide, but the model takes 12"):
        evaluate_captions(captioner, corpus, wide, "dev")
    few = FeatureTable(table.names[1:], table.features[1:], "the table")
    with pytest.raises(DataError, match=r"the table: no features of 4\.jpg"):
        evaluate_captions(captioner, corpus, few, "dev")
    assert split_features(captioner, corpus, few, "dev", 3).shape == (3, WIDTH)


def test_latency_is_of_every_captioner_on_the_same_images():
    trained = wordy("h-lstm, layer norm", 0.3)
    torchs, ours = measure_caption_latency([trained, packed(trained)], [FEATURES[:2], FEATURES[:2]])
    assert torchs["engine"].startswith("torch")
    assert ours["engine"].startswith("growprune.runtime")
    for found in (torchs, ours):
        assert found["runs"] == 2
        assert found["threads"] == 1
        assert found["milliseconds"] > 0
        assert found["milliseconds_beam_3"] > 0
