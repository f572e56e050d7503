import numpy as np
import pytest
import soundfile
from small_recognizers import packed, speechlike

from growprune.data import Corpus, Utterance
from growprune.decoding import Decoder, language_model
from growprune.errors import DataError, ModelFileError
from growprune.pipelines import Recognizer, evaluate, measure_latency
from growprune.tasks.speech import evaluate_run

LM = language_model(["ONE TWO", "GO ON"], order=2)
DECODERS = [Decoder(), Decoder(beam=4), Decoder(4, LM)]


def assert_alike(trained, recognizer, wave):
    wanted, found = trained.log_probs(wave), recognizer.log_probs(wave)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
    for decoder in DECODERS:
        first, second = trained.decode(wanted, decoder), recognizer.decode(found, decoder)
        assert second.text == first.text
        assert second.words == first.words


@pytest.mark.parametrize("kind", ["offline", "causal"])
def test_a_packed_recogniser_hears_what_torch_hears(kind, request):
    trained, recognizer = request.getfixturevalue(kind)
    for seed, seconds in enumerate((0.005, 0.03, 0.5, 2.0)):
        assert_alike(trained, recognizer, speechlike(seconds, seed))
    assert len(recognizer.decode(recognizer.log_probs(speechlike(2.0))).text) > 5


@pytest.mark.parametrize("kind", ["offline", "causal"])
def test_and_on_real_recordings(kind, request, an4_dev):
    trained, recognizer = request.getfixturevalue(kind)
    for wave in an4_dev:
        assert_alike(trained, recognizer, wave)


def test_it_reads_files_and_gives_times_in_seconds(offline, tmp_path):
    trained, recognizer = offline
    path = tmp_path / "a.wav"
    soundfile.write(path, speechlike(1.5), 16_000)
    found = recognizer.transcribe(path)
    wanted = trained.transcribe(path)
    assert (found.text, found.words) == (wanted.text, wanted.words)
    assert found.words[-1].end <= 1.5 + recognizer.seconds_per_frame
    assert recognizer.seconds_per_frame == trained.seconds_per_frame
    with pytest.raises(DataError, match="no such file"):
        recognizer.transcribe(tmp_path / "none.wav")


def test_int8_weights_come_close(offline):
    trained, recognizer = offline
    small = packed(trained, weights="int8")
    found, wanted = (r.log_probs(speechlike(1.0)) for r in (small, recognizer))
    assert 0 < np.abs(found - wanted).mean() < 0.02 * wanted.std()


def test_the_language_model_may_lie_in_the_file(offline):
    trained, recognizer = offline
    with_model = packed(trained, info={"language_model": LM.to_json()})
    assert with_model.language_model(2).sentence_log_prob("GO ON") == LM.sentence_log_prob("GO ON")
    assert with_model.language_model(1).order == 1
    with pytest.raises(ModelFileError, match="from 1 to 2, got 3"):
        with_model.language_model(3)
    with pytest.raises(ModelFileError, match=r"no language model; export .* --lm-order 2"):
        recognizer.language_model(2)
    broken = packed(trained, info={"language_model": {"format": 1}})
    with pytest.raises(ModelFileError, match="order is None"):
        broken.language_model(2)


@pytest.mark.parametrize(
    ("info", "complaint"),
    [
        ({"task": "captions"}, "not a recogniser, its task is 'captions'"),
        ({"letters": ""}, "'letters' is ''"),
        ({"letters": 7}, "'letters' is 7"),
        ({"letters": "ABC"}, "28 outputs, but 3 letters"),
        ({"stride": 0}, "'stride' is 0"),
        ({"features": {"bands": "many"}}, "'features.bands' is 'many'"),
        ({"features": {"bands": 41}}, "41 numbers a frame, but .* reads 40"),
    ],
)
def test_what_a_file_says_of_itself_is_checked(offline, info, complaint):
    with pytest.raises(ModelFileError, match=complaint) as caught:
        packed(offline[0], info=info)
    assert str(caught.value).startswith("test model: ")


def test_a_file_that_is_none_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"none\.safetensors: no such file"):
        Recognizer.load(tmp_path / "none.safetensors")


def corpus_of(folder, texts):
    rows = []
    for number, text in enumerate(texts):
        path = folder / f"{number}.wav"
        soundfile.write(path, speechlike(0.4 + 0.3 * number, number), 16_000)
        rows.append(Utterance(str(number), path, text))
    return Corpus("small", {"dev": tuple(rows)})


def test_scores_are_those_of_the_run(offline, tmp_path):
    trained, recognizer = offline
    corpus = corpus_of(tmp_path, ["ONE", "TWO THREE", "GO"])
    found, wanted = evaluate(recognizer, corpus, "dev"), evaluate_run(trained, corpus, "dev")
    assert {t.name: t.text for t in found.transcripts} == {
        t.name: t.text for t in wanted.transcripts
    }
    assert found.scores == wanted.scores
    assert found.words.reference_units == 4


def test_latency_is_of_every_recogniser_on_the_same_audio(offline, tmp_path):
    corpus = corpus_of(tmp_path, ["ONE", "TWO"])
    torchs, ours = measure_latency(offline, corpus, "dev")
    assert torchs["engine"].startswith("torch")
    assert ours["engine"].startswith("growprune.runtime")
    for found in (torchs, ours):
        assert found["audio_seconds"] == pytest.approx(0.55)
        assert found["runs"] == 2
        assert found["milliseconds"] > 0
