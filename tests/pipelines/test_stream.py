import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_recognizers import packed, speechlike, talkative

from growprune import runtime
from growprune.data import FeatureSettings
from growprune.decoding import Decoder, language_model
from growprune.errors import ModelFileError
from growprune.pipelines import Recognizer
from growprune.runtime import PackedModel, StoredMatrix
from growprune.runtime.graph import Node
from growprune.tasks import open_recipe

LM = language_model(["ONE TWO", "GO ON"], order=2)


def listen(recognizer, wave, pieces, decoder=None):
    """The final hypothesis; every text on the way must begin with the one before it."""
    stream, text = recognizer.stream(decoder), ""
    for piece in np.split(wave, pieces):
        grown = stream.push(piece)
        assert grown.startswith(text)
        text = grown
    found = stream.finish()
    assert stream.seconds == pytest.approx(len(wave) / recognizer.sample_rate)
    if decoder is None:
        assert found.text.startswith(text)
    return found


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_pieces_give_the_offline_text(causal, data):
    _, recognizer = causal
    wave = speechlike(data.draw(st.floats(0.01, 2.0)), data.draw(st.integers(0, 5)))
    pieces = sorted(data.draw(st.lists(st.integers(0, len(wave)), max_size=8)))
    found = listen(recognizer, wave, pieces)
    wanted = recognizer.decode(recognizer.log_probs(wave))
    assert found.text == wanted.text
    assert found.words == wanted.words
    assert found.score == pytest.approx(wanted.score, rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("decoder", [Decoder(beam=4), Decoder(4, LM)])
def test_a_beam_decides_on_the_final_text(causal, decoder):
    _, recognizer = causal
    wave = speechlike(1.5, 3)
    found = listen(recognizer, wave, range(1600, len(wave), 1600), decoder)
    assert found.text == recognizer.decode(recognizer.log_probs(wave), decoder).text


def test_text_appears_before_the_audio_ends(causal):
    stream = causal[1].stream()
    wave = speechlike(2.0)
    assert len(stream.push(wave[:16_000])) > 2


def test_real_recordings_stream_to_the_same_text(causal, an4_dev):
    _, recognizer = causal
    for wave in an4_dev:
        found = listen(recognizer, wave, range(1600, len(wave), 1600))
        assert found.text == recognizer.decode(recognizer.log_probs(wave)).text


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 401])
def test_audio_around_the_length_of_a_window(causal, samples):
    _, recognizer = causal
    wave = speechlike(1.0)[:samples]
    found = listen(recognizer, wave, range(0, samples, 100))
    wanted = recognizer.decode(recognizer.log_probs(wave)).text if samples else ""
    assert found.text == wanted


def test_what_cannot_stream_says_why(offline):
    with pytest.raises(ModelFileError, match=r"cannot stream .*over the utterance"):
        offline[1].stream()
    sizes = ["model.recurrent.hidden_size=8", "model.recurrent.gate_hidden_sizes=[8]"]
    both_ways = open_recipe("demo-hlstm-gp", [*sizes, "data.features.normalise='running'"])
    with pytest.raises(ModelFileError, match=r"cannot stream .*from its end.*-streaming"):
        packed(talkative(both_ways)).stream()


def test_what_looks_ahead_comes_at_the_end():
    settings = FeatureSettings(bands=4, normalise="none")
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 20)).astype(np.float32)
    convolution = Node(
        "ahead",
        "convolution",
        ("input",),
        {"kernel": [5], "stride": [1], "dilation": [1], "padding": [[0, 4]]},
        {"weight": "weight", "bias": "bias"},
    )
    contents = PackedModel(
        features=(4,),
        takes_ids=False,
        nodes=(convolution, Node("scores", "log_softmax", ("ahead",))),
        output="scores",
        matrices={"weight": StoredMatrix("dense", weight.shape, weight.size, {"values": weight})},
        vectors={"bias": np.zeros(4, np.float32)},
        info={
            "task": "speech", "letters": " AB", "stride": 1,
            "features": settings.model_dump(mode="json"),
        },
    )  # fmt: skip
    recognizer = Recognizer(runtime.build(contents, "test"))
    wave = speechlike(0.5)
    found = listen(recognizer, wave, range(800, len(wave), 800))
    wanted = recognizer.decode(recognizer.log_probs(wave))
    assert found.score == pytest.approx(wanted.score)
    assert found.words == wanted.words
