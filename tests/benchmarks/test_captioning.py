import captioning
import numpy as np
import pytest
from small_captioners import KINDS, features, pack, wordy

from growprune.pipelines import Captioner
from growprune.tasks.captioning.model import CaptionModel


def test_memory_is_at_least_the_weights(tmp_path):
    captioner = wordy()
    captioner.encoder["width"] = width = 400_000
    captioner.model = CaptionModel(captioner.recipe.model, width, len(captioner.vocabulary))
    file = tmp_path / "model.safetensors"
    pack(captioner).save(file)
    assert file.stat().st_size > 4 * 20 * width
    held = captioning.memory(file, np.zeros((2, width), np.float32))
    assert 4 * 20 * width < held < 4 * 4 * 20 * width


@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_writes_what_the_packed_captioner_writes(kind):
    packed = pack(wordy(kind, 0.5))
    ours = Captioner(packed.model())
    theirs = captioning.OnnxCaptioner(packed, ours)
    for beam in (1, 3):
        wanted, found = (of.caption(features(5), beam=beam) for of in (ours, theirs))
        assert [caption.text for caption in found] == [caption.text for caption in wanted]
        log_probs = [caption.log_prob for caption in wanted]
        assert [caption.log_prob for caption in found] == pytest.approx(log_probs, abs=1e-4)


def test_ratios_are_to_the_first_run_in_onnxruntime():
    figures = {
        ("big", "packed"): (2.0, 4.0, {"memory": 70e6}), ("big", "onnxruntime"): (3.0, 5.0, {}),
        ("small", "onnxruntime"): (1.0, 1.0, {}), ("small", "packed"): (0.5, 0.4, {"memory": 4e6}),
    }  # fmt: skip
    rows = [
        {"run": run, "engine": engine, "bytes": 2e6, "same": 1.0, "milliseconds": greedy,
         "milliseconds_beam_3": beam, **held}
        for (run, engine), (greedy, beam, held) in figures.items()
    ]  # fmt: skip
    text = captioning.table(rows, 50)
    assert "| big | packed | 2.0 | 70.0 | 2.00 | 1.5 | 4.00 | 1.2 | 100% |" in text
    assert "| small | onnxruntime | 2.0 |  | 1.00 | 3.0 | 1.00 | 5.0 | 100% |" in text
    assert "| small | packed | 2.0 | 4.0 | 0.50 | 6.0 | 0.40 | 12.5 | 100% |" in text
    assert "Factor: big in onnxruntime" in text
