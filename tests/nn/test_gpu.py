"""The GPU's kernels against the portable loop; without a GPU in Triton's interpreter."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from growprune.nn import HLSTM, _recurrence

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
_triton = pytest.importorskip("growprune.nn._triton", reason="no Triton here")

RAGGED = [3, 2] + [1] * 17  # two tiles of sequences


@pytest.fixture
def use(monkeypatch):
    """Choose kernels or the portable loop."""

    def choose(engine):
        chosen = _triton if engine == "kernels" else None
        monkeypatch.setattr(_recurrence, "_gpu_kernels", lambda device: chosen)
        monkeypatch.setattr(_recurrence._native, "usable", lambda *_: False)

    return choose


def results(layer, x, lengths, hx):
    """Outputs, states, and the gradients of everything."""
    torch.manual_seed(7)
    outputs, states = layer(x, hx, lengths)
    found = [outputs, *states]
    total = sum((t * torch.linspace(-1, 2, t.numel()).to(t).view_as(t)).sum() for t in found)
    return [*found, *torch.autograd.grad(total, [x, *hx, *layer.parameters()])]


def case(hidden_size, width, lengths, **settings):
    layer = HLSTM(
        3, hidden_size, gate_hidden_sizes=(width,), negative_slope=0.2, device=DEVICE, **settings
    )
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(max(lengths), len(lengths), 3, device=DEVICE, requires_grad=True)
    rows = layer.num_layers * (1 + layer.bidirectional)
    shape = (rows, len(lengths), hidden_size)
    return layer, x, lengths, [torch.randn(shape, device=DEVICE).requires_grad_() for _ in "hc"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gate_dropout", [0.0, 0.3])
@pytest.mark.parametrize(
    ("hidden_size", "width", "lengths"),
    [(4, 3, [2, 5, 1, 5]), (20, 36, RAGGED), (36, 20, [3, 3]), (150, 17, [2])],
    ids=str,
)
def test_outputs_and_gradients_match_the_loop(use, bias, gate_dropout, hidden_size, width, lengths):
    settings = {"bias": bias, "gate_dropout": gate_dropout, "bidirectional": True}
    made = case(hidden_size, width, lengths, **settings)
    use("loop")
    expected = results(*made)
    use("kernels")
    for ours, slow in zip(results(*made), expected, strict=True):
        torch.testing.assert_close(ours, slow, rtol=1e-4, atol=1e-5)


def test_layers_match_the_loop_without_gradients(use):
    layer, x, lengths, hx = case(20, 12, [3, 1, 3], num_layers=2)
    use("loop")
    expected = layer(x, hx, lengths)[0]
    use("kernels")
    with torch.no_grad():
        torch.testing.assert_close(layer(x, hx, lengths)[0], expected, rtol=1e-4, atol=1e-5)


def test_autocast_rounds_products_and_keeps_states(use):
    layer, x, lengths, hx = case(20, 12, [3, 1, 3])
    use("loop")
    expected = results(layer, x, lengths, hx)
    use("kernels")
    # The interpreter cannot multiply in bfloat16.
    with torch.autocast(DEVICE, torch.bfloat16 if DEVICE == "cuda" else torch.float16):
        rounded = results(layer, x, lengths, hx)
    assert all(t.dtype == torch.float32 for t in rounded)
    errors = [(a - b).norm() / b.norm() for a, b in zip(rounded, expected, strict=True)]
    assert 1e-4 < max(errors) < 0.05


def test_only_gradients_that_are_wanted(use):
    layer, x, lengths, hx = case(8, 8, [3, 1, 3])
    use("kernels")
    outputs, _ = layer(x.detach(), hx, lengths)
    outputs.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [((), "float32"), ((4, 4), "float32"), ({"cell": (4,)}, "float32"), ((4,), "float64")],
    ids=str,
)
def test_other_layers_take_the_loop(use, sizes, dtype):
    use("kernels")
    layer = HLSTM(3, 4, gate_hidden_sizes=sizes, dtype=getattr(torch, dtype), device=DEVICE)
    x = torch.randn(2, 2, 3, dtype=layer.weight_ih_l0.dtype, device=DEVICE)
    assert not _triton.fits(layer.gate_widths, x.dtype, list(layer.parameters()))
    assert layer(x)[0].shape == (2, 2, 4)


@pytest.mark.parametrize("capability", ["90"])
def test_the_kernels_compile_for_gpus_that_need_not_be_here(capability, tmp_path):
    command = [sys.executable, "-W", "error", str(Path(__file__).with_name("compile_kernels.py"))]
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([*command, capability], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@needs_gpu
@pytest.mark.parametrize("width", [256, 512, 800])
@pytest.mark.parametrize("batch", [16, 100])
def test_wide_layers_agree_with_double_precision(width, batch):
    torch.manual_seed(0)
    # With a slope of 1: where a sum is nearly 0, rounding decides which side of the kink it is on.
    settings = {"negative_slope": 1.0, "bidirectional": True, "device": "cuda"}
    layer = HLSTM(width, width, gate_hidden_sizes=(width,), **settings)
    lengths = torch.randint(1, 30, (batch,))
    lengths[0] = 30
    x = torch.randn(30, batch, width, device="cuda", requires_grad=True)
    hx = [torch.randn(2, batch, width, device="cuda").requires_grad_() for _ in "hc"]
    ours = results(layer, x, lengths, hx)
    for _ in range(3):  # programs that do not wait for each other would differ from run to run
        for once, again in zip(ours, results(layer, x, lengths, hx), strict=True):
            assert torch.equal(once, again)
    double = [t.detach().double().requires_grad_() for t in (x, *hx)]
    expected = results(layer.double(), double[0], lengths, double[1:])
    for found, wanted in zip(ours, expected, strict=True):
        assert (found - wanted).norm() <= 1e-5 * wanted.norm()


@needs_gpu
@pytest.mark.parametrize("lengths", [[5, 5, 5], [2, 5, 1]], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_ordinary_layers_run_on_cudnn(lengths, bias, training):
    torch.manual_seed(0)
    layer = HLSTM(6, 8, 2, bias, bidirectional=True).train(training)
    inputs = [torch.randn(5, 3, 6), *(torch.randn(4, 3, 8) for _ in "hc")]
    double = [t.double().requires_grad_() for t in inputs]
    expected = results(copy.deepcopy(layer).double(), double[0], lengths, double[1:])
    layer.cuda()
    inputs = [t.cuda().requires_grad_() for t in inputs]
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        found = results(layer, inputs[0], lengths, inputs[1:])
    assert layer.weight_ih_l0.untyped_storage().data_ptr() == (
        layer.weight_hh_l1_reverse.untyped_storage().data_ptr()
    )
    for ours, wanted in zip(found, expected, strict=True):
        assert (ours.cpu() - wanted).norm() <= 1e-5 * wanted.norm()
