import captioner_cells as cells
import numpy as np
import pytest
import torch
from small_captioners import features, pack, wordy


@pytest.mark.parametrize(
    "kind",
    [
        "three lstms, tied",
        "two h-lstms, tied",
        "h-lstm, merged, standardised",
        "h-lstm, begun and merged",
    ],
)
@pytest.mark.parametrize("rows", [1, 3])
def test_every_engine_takes_the_steps_of_captions(kind, rows):
    captioner = wordy(kind, 0.3)
    x = features(2)
    with torch.inference_mode():
        at = cells.moments(captioner, x, rows)
        assert len(at) == 2 * cells.STEPS
        _, (h, *_) = captioner.model.begin(torch.from_numpy(x[1:]))
        begun = at[cells.STEPS]
        np.testing.assert_array_equal(begun.h, h.expand(-1, rows, -1))
        for before, after in zip(begun.y, at[cells.STEPS + 1].h[-1], strict=True):
            np.testing.assert_array_equal(before, after)
        packed = cells.cell(pack(captioner).contents)
        assert {node.op for node in packed.nodes} == {"lstm"}
        engines = cells.engines(captioner, packed, at)
        assert set(engines) >= {"packed", "onnxruntime"}
        assert ("torch" in engines) == ("h-lstm" not in kind)
        for engine in engines.values():
            for found, moment in zip(engine.outputs(engine.call()), at, strict=True):
                np.testing.assert_allclose(found, moment.y, rtol=0, atol=1e-5)


def test_an_engine_that_computes_something_else_is_not_timed():
    captioner = wordy()
    at = cells.moments(captioner, features(1), 1)
    wrong = cells.Engine(lambda: [moment.y + 0.01 for moment in at])
    with pytest.raises(AssertionError, match=r"mine is off by 0\.01"):
        cells._difference(wrong, at, "mine")


def test_an_untrained_recipe_has_the_connections_its_plan_leaves():
    captioner = cells.untrained("neuraltalk-hlstm-small", np.zeros((1, 5), np.float32))
    active = sum(int(m.sum()) for n, m in captioner.masks.items() if n.startswith("recurrent"))
    assert active == 16 * (2 * 2867 + 4 * 717)
    assert captioner.model.recurrent.negative_slope == 0.0


def test_factors_are_to_the_first_model_in_onnxruntime():
    times = {
        ("big", "packed", 1): 40e-6, ("big", "packed", 3): 80e-6,
        ("big", "onnxruntime", 1): 60e-6, ("big", "onnxruntime", 3): 90e-6,
        ("small", "onnxruntime", 1): 30e-6, ("small", "onnxruntime", 3): 30e-6,
        ("small", "packed", 1): 2e-6, ("small", "packed", 3): 4e-6,
    }  # fmt: skip
    rows = [
        {"model": model, "engine": engine, "rows": count, "active": 1234,
         "seconds": {"median": seconds}}
        for (model, engine, count), seconds in times.items()
    ]  # fmt: skip
    text = cells.report(rows)
    assert "| big | packed | 1,234 | 40.0 | 1.5 | 80.0 | 1.1 |" in text
    assert "| small | onnxruntime | 1,234 | 30.0 | 2.0 | 30.0 | 3.0 |" in text
    assert "| small | packed | 1,234 | 2.0 | 30.0 | 4.0 | 22.5 |" in text
    assert "Factor: big in onnxruntime" in text
