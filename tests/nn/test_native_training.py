"""The compiled training passes against the same passes in torch."""

import numpy as np
import pytest
import torch
from torch import nn

from growprune import HLSTM, GrowPrune, Plan
from growprune.errors import GrowPruneError
from growprune.native import paths, training
from growprune.nn import _native

UNEQUAL = {"input": (3,), "cell": (20, 9), "output": (5, 33, 2)}
RAGGED = [6, 9, 1, *[9] * 12, 4, 4, 2]
COMPILED = [name for name in paths.available() if name != "numpy"]


@pytest.fixture(params=COMPILED)
def path(request, monkeypatch):
    monkeypatch.setattr(training, "chosen", lambda: paths.load(request.param))


@pytest.fixture
def engine(monkeypatch):
    return lambda name: monkeypatch.setattr(training, "_engine", name)


def results(layer, x, lengths=None, hx=None):
    """Outputs, last states, and the gradients of everything."""
    x = x.detach().requires_grad_()
    states = [] if hx is None else [state.detach().requires_grad_() for state in hx]
    outputs, (h, c) = layer(x, states or None, lengths)
    loss = sum((t * torch.linspace(-1, 2, t.numel()).view_as(t)).sum() for t in (outputs, h, c))
    inputs = [x, *states, *layer.parameters()]
    return [outputs.detach(), h.detach(), c.detach(), *torch.autograd.grad(loss, inputs)]


def assert_close(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        scale = float(theirs.abs().max()) if theirs.numel() else 0.0
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * max(1.0, scale))


@pytest.mark.parametrize("sizes", [(), (11,), (40, 3), UNEQUAL], ids=str)
@pytest.mark.parametrize(
    "lengths", [RAGGED, [5], [1] * 3, [7] * 32], ids=["ragged", "1", "3", "32"]
)
@pytest.mark.parametrize("bias", [True, False])
def test_agree_on_outputs_and_gradients(path, engine, sizes, lengths, bias):
    layer = HLSTM(19, 25, 2, bias, bidirectional=True, gate_hidden_sizes=sizes)
    x = torch.randn(max(lengths), len(lengths), 19)
    hx = torch.randn(2, 4, len(lengths), 25)
    engine("native")
    found = results(layer, x, lengths, hx)
    engine("torch")
    assert_close(found, results(layer, x, lengths, hx))


def test_agree_on_dropout(path, engine):
    layer = HLSTM(10, 12, gate_hidden_sizes=(14, 6), gate_dropout=0.3)
    x = torch.randn(8, 20, 10)
    found = []
    for name in training.ENGINES:
        engine(name)
        torch.manual_seed(3)
        found.append(results(layer, x, [8] * 11 + [5] * 9))
    assert_close(*found)


def test_agree_without_gradients(engine):
    layer = HLSTM(10, 12, gate_hidden_sizes=(14,), bidirectional=True)
    x = torch.randn(8, 18, 10)
    found = []
    for name in training.ENGINES:
        engine(name)
        with torch.no_grad():
            output, state = layer(x, lengths=[8] * 11 + [3] * 7)
        found.append([output, *state])
    assert_close(*found)


def results_of_threads(threads, layer, x, lengths=None):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return results(layer, x, lengths)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("granularity", ["weight", "block"])
def test_threads_that_share_units_or_directions_change_no_bit(
    engine, threads, bidirectional, granularity
):
    engine("native")
    layer = HLSTM(64, 96, bidirectional=bidirectional, gate_hidden_sizes=(80,))
    plan = Plan(seed_density=0.2, granularity=granularity)
    GrowPrune(layer, torch.optim.SGD(layer.parameters(), 0.1), plan)
    x = torch.randn(30, 20, 64)
    lengths = [30] * 9 + [12] * 11
    found = results_of_threads(threads, layer, x, lengths)
    one = results_of_threads(1, layer, x, lengths)
    for ours, theirs in zip(found, one, strict=True):
        assert torch.equal(ours, theirs)


def test_threads_share_the_units_of_dense_layers_at_any_batch(engine):
    """Sequences shared would add up gradients of weights in another order."""
    engine("native")
    layer = HLSTM(64, 96, gate_hidden_sizes=(80,))
    x = torch.randn(9, 64, 64)
    found = (results_of_threads(threads, layer, x) for threads in (1, 2))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


@pytest.fixture
def at_once(monkeypatch):
    """How many passes were made side by side, each time that some were made."""
    counts = []
    make = _native.Layer._make_at_once

    def noting(layer, preparations):
        counts.append(len(preparations))
        return make(layer, preparations)

    monkeypatch.setattr(_native.Layer, "_make_at_once", noting)
    return counts


@pytest.mark.parametrize(("threads", "beside"), [(1, False), (2, True), (3, False), (4, True)])
@pytest.mark.parametrize("sizes", [(), UNEQUAL], ids=str)
@pytest.mark.parametrize("plan", ["dense", "sparse", "growing"])
def test_directions_side_by_side_agree(path, engine, at_once, threads, beside, sizes, plan):
    layer = HLSTM(96, 80, bidirectional=True, gate_hidden_sizes=sizes, gate_dropout=0.2)
    masks = {}
    if plan != "dense":
        optimizer = torch.optim.SGD(layer.parameters(), 0.1)
        settings = GROWING if plan == "growing" else {}
        masks = GrowPrune(layer, optimizer, Plan(seed_density=0.3, **settings)).masks
    x = torch.randn(80, 19, 96)
    found = []
    for name, count in (("native", threads), ("native", threads), ("torch", 1)):
        engine(name)
        torch.manual_seed(3)
        found.append(results_of_threads(count, layer, x, [80] * 6 + [50] * 9 + [2] * 4))
    assert at_once == [2] * 4 if beside else [1] * 8
    for ours, again in zip(*found[:2], strict=True):
        assert torch.equal(ours, again)
    if plan == "sparse":
        names = [name for name, _ in layer.named_parameters()]
        for gradient, name in zip(found[2][4:], names, strict=True):
            gradient *= masks.get(name, 1)
    assert_close(found[0], found[2])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("frozen", ["weight", "bias", "_reverse", "_l0"])
@pytest.mark.parametrize("need_x", [True, False])
def test_only_gradients_that_are_needed_are_given(engine, threads, frozen, need_x):
    layer = HLSTM(96, 80, 2, bidirectional=True, gate_hidden_sizes=(20, 30))
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(frozen not in name)
    before = torch.get_num_threads()
    found = []
    for name, count in (("native", threads), ("torch", 1)):
        engine(name)
        torch.set_num_threads(count)
        x = torch.linspace(-1, 1, 20 * 16 * 96).view(20, 16, 96).requires_grad_(need_x)
        layer.zero_grad()
        layer(x)[0].square().mean().backward()
        found.append({name: p.grad for name, p in [("x", x), *layer.named_parameters()]})
    torch.set_num_threads(before)
    ours, theirs = found
    assert {n for n, g in ours.items() if g is None} == {n for n, g in theirs.items() if g is None}
    assert_close(*([g for g in one.values() if g is not None] for one in found))


LENGTHS = {"even": [6] * 64, "ragged": [9] * 40 + [7, 8] * 8 + [3] * 4 + [1] * 4}
GROWING = {"grow": {"epochs": 1, "interval": 3, "fraction": 0.1}}


def test_the_lengths_are_shared_by_sequences():
    kernels, _ = training.training_kernels()
    for lengths in LENGTHS.values():
        sizes = [sum(length > t for length in lengths) for t in range(max(lengths))]
        for threads in (2, 4):
            assert kernels.Batch(np.array(sizes), False, threads).parts == threads


@pytest.mark.parametrize(
    ("threads", "lengths", "both"), [(2, "ragged", False), (4, "even", False), (4, "ragged", True)]
)
@pytest.mark.parametrize("sizes", [(), UNEQUAL], ids=str)
@pytest.mark.parametrize("plan", [{}, {"granularity": "block"}, GROWING], ids=str)
def test_threads_that_share_sequences_agree(path, engine, threads, lengths, both, sizes, plan):
    layer = HLSTM(96, 80, bidirectional=both, gate_hidden_sizes=sizes, gate_dropout=0.2)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    grow_prune = GrowPrune(layer, optimizer, Plan(seed_density=0.3, **plan))
    x = torch.randn(9, 64, 96)
    found = []
    for name, count in (("native", threads), ("native", threads), ("torch", 1)):
        engine(name)
        torch.manual_seed(3)
        found.append(results_of_threads(count, layer, x, LENGTHS[lengths]))
    for ours, again in zip(*found[:2], strict=True):
        assert torch.equal(ours, again)
    if "grow" not in plan:
        names = [name for name, _ in layer.named_parameters()]
        for gradient, name in zip(found[2][4:], names, strict=True):
            if name in grow_prune.masks:
                gradient *= grow_prune.masks[name]
    assert_close(found[0], found[2])


def seeded(density, granularity="weight", **plan):
    layer = HLSTM(24, 32, 2, bidirectional=True, gate_hidden_sizes=(48,))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    settings = {"seed_density": density, "granularity": granularity, **plan}
    return layer, GrowPrune(layer, optimizer, Plan(**settings))


@pytest.mark.parametrize("density", [0.002, 0.02, 0.3, 0.55, 0.9, 1.0])
@pytest.mark.parametrize("granularity", ["weight", "block"])
def test_dormant_connections_are_left_out(path, engine, density, granularity):
    layer, grow_prune = seeded(density, granularity)
    names = [name for name, _ in layer.named_parameters()]
    x = torch.randn(7, 19, 24)
    engine("native")
    found = results(layer, x)
    engine("torch")
    expected = results(layer, x)
    for at, name in enumerate(names, start=len(found) - len(names)):
        mask = grow_prune.masks.get(name)
        if mask is not None:
            expected[at] = expected[at] * mask
            if float(mask.float().mean()) <= (0.3 if granularity == "weight" else 0.6):
                assert not found[at][~mask].any()
            found[at] = found[at] * mask
    assert_close(found, expected)


@pytest.mark.parametrize("rows", [16, 19, 32, 7])
def test_blocks_are_told_from_single_connections(rows):
    panel = np.arange(rows) // 16
    mask = (np.random.default_rng(0).random((3, 9)) < 0.5)[panel]
    for row in (None, 0, rows - 1):
        if row is not None:
            mask[row, 4] ^= True
        active = training.ActiveConnections(mask, False)
        assert active.in_blocks == active.indices.in_blocks == (row is None)
        if row is not None:
            mask[row, 4] ^= True


@pytest.mark.parametrize(
    ("granularity", "density", "pays", "pays_rounded"),
    [
        ("weight", 0.1, True, True),
        ("weight", 0.3, True, False),
        ("weight", 0.5, False, False),
        ("block", 0.3, True, True),
        ("block", 0.5, True, False),
        ("block", 0.8, False, False),
    ],
)
def test_dense_products_are_made_where_they_are_faster(granularity, density, pays, pays_rounded):
    layer, _ = seeded(density, granularity)
    found = (_native.worthwhile(layer.weight_hh_l0, rounded) for rounded in (False, True))
    assert [active is not None for active in found] == [pays, pays_rounded]


def test_growth_sees_the_gradients_of_dormant_connections(engine):
    layer, grow_prune = seeded(0.1, grow={"epochs": 1, "interval": 3, "fraction": 0.1})
    x = torch.randn(7, 19, 24)
    engine("native")
    found = results(layer, x)
    engine("torch")
    expected = results(layer, x)
    assert_close(found, expected)
    dormant = ~grow_prune.masks["weight_hh_l0"]
    at = [name for name, _ in layer.named_parameters()].index("weight_hh_l0")
    gradient = found[at - len(list(layer.parameters()))]
    assert gradient[dormant].any()


@pytest.mark.parametrize("granularity", ["weight", "block"])
def test_every_step_of_a_plan_agrees(engine, granularity):
    layer, grow_prune = seeded(
        0.15,
        granularity,
        grow={"epochs": 2, "interval": 2, "fraction": 0.05},
        prune={"rounds": 2, "final_density": 0.05, "retrain_epochs": 1},
        shift={"epochs": 1},
    )
    active = set()
    for _ in range(grow_prune.plan.epochs):
        for _ in range(4):
            x = torch.randn(6, 17, 24)
            engine("torch")
            layer.zero_grad()
            layer(x)[0].square().mean().backward()
            expected = {name: p.grad.clone() for name, p in layer.named_parameters()}
            engine("native")
            layer.zero_grad()
            layer(x)[0].square().mean().backward()
            masks = grow_prune.masks
            for name, parameter in layer.named_parameters():
                mask = masks.get(name, torch.ones_like(parameter, dtype=torch.bool))
                ours, theirs = parameter.grad * mask, expected[name] * mask
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
            active.add(grow_prune.active())
            grow_prune.step()
        grow_prune.end_epoch()
    assert len(active) >= 5  # it did grow and prune meanwhile


def test_a_weight_written_to_by_others_is_read_whole(engine):
    layer, grow_prune = seeded(0.1)
    engine("native")
    x = torch.randn(5, 3, 24)
    with torch.no_grad():
        layer.weight_hh_l0.fill_(0.05)
        found = layer(x)[0]
        engine("torch")
        torch.testing.assert_close(found, layer(x)[0])
    assert training.active_of(layer.weight_hh_l0) is None
    assert training.active_of(layer.weight_ih_l0) is not None
    grow_prune.step()
    assert training.active_of(layer.weight_hh_l0) is not None


def test_notes_stay_behind_when_a_model_is_copied_or_loaded(engine):
    import copy

    layer, _ = seeded(0.1)
    twin = copy.deepcopy(layer)
    assert training.active_of(twin.weight_hh_l0) is None
    dense = {name: torch.randn_like(value) for name, value in layer.state_dict().items()}
    layer.load_state_dict(dense)
    twin.load_state_dict(dense)
    x = torch.randn(4, 2, 24)
    torch.testing.assert_close(layer(x)[0], twin(x)[0])


def test_resuming_notes_the_connections_again():
    layer, grow_prune = seeded(0.1)
    state, weights = grow_prune.state_dict(), layer.state_dict()
    other, resumed = seeded(0.1)
    other.load_state_dict(weights)
    assert training.active_of(other.weight_hh_l0) is None
    resumed.load_state_dict(state)
    active = training.active_of(other.weight_hh_l0)
    assert active is not None
    assert active.density == pytest.approx(0.1, abs=0.01)


def test_other_types_go_through_torch(engine):
    engine("native")
    layer = HLSTM(3, 4, gate_hidden_sizes=(5,)).double()
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    expected = layer(x)[0]
    torch.testing.assert_close(layer.float()(x.float())[0].double(), expected, rtol=1e-5, atol=1e-6)


def test_the_engine_may_be_forced_and_is_told():
    from growprune.nn import training_engine

    assert training_engine() == training._engine
    assert training._choose("", "avx2") == "native"
    assert training._choose("", "numpy") == "torch"
    assert training._choose("torch", "avx2") == "torch"
    with pytest.raises(GrowPruneError, match="GROWPRUNE_TRAINING is 'fast'; set it to one of: nat"):
        training._choose("fast", "avx2")
    with pytest.raises(GrowPruneError, match="kernels run on NumPy here"):
        training._choose("native", "numpy")


def test_as_torch_lstm_at_sizes_that_fill_vectors(path, engine):
    engine("native")
    lstm = nn.LSTM(48, 64)
    layer = HLSTM.from_lstm(lstm)
    x = torch.randn(20, 33, 48)
    found = results(layer, x)

    def peer(x, hx, lengths):
        return lstm(x, hx)

    peer.parameters = lstm.parameters
    assert_close(found, results(peer, x))


def test_a_noted_model_saves_and_loads_without_its_notes(engine, tmp_path):
    engine("native")
    layer, _ = seeded(0.1)
    x = torch.randn(4, 2, 24)
    expected = layer(x)[0]  # makes what belongs to the notes
    torch.save(layer, tmp_path / "layer.pt")
    torch.save(dict(layer.named_parameters()), tmp_path / "parameters.pt")
    loaded = torch.load(tmp_path / "layer.pt", weights_only=False)
    parameters = torch.load(tmp_path / "parameters.pt", weights_only=True)
    assert training.active_of(loaded.weight_hh_l0) is None
    assert training.active_of(parameters["weight_hh_l0"]) is None
    assert torch.equal(parameters["weight_hh_l0"], layer.weight_hh_l0)
    torch.testing.assert_close(loaded(x)[0], expected)


def test_gradients_are_those_of_the_layers_type_whatever_torchs_default_is(engine):
    engine("native")
    layer = HLSTM(10, 12, gate_hidden_sizes=(14,))
    x = torch.randn(8, 18, 10)
    found = [results(layer, x, [8] * 18)]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found.append(results(layer, x, [8] * 18))
    finally:
        torch.set_default_dtype(before)
    assert_close(*found)


class RoundedProduct(torch.autograd.Function):
    """x @ weight.T of numbers rounded to bfloat16, as is whatever its gradients are made of."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return nearest(x) @ nearest(weight).T

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return nearest(gradient) @ nearest(weight), nearest(gradient).T @ nearest(x)


def nearest(x):
    return x.bfloat16().to(x.dtype)


def slow_rounded(layer):
    """A layer of one hidden layer a gate, one step after the other, with rounded products."""

    def run(x, hx, lengths):
        h, c = (state[0] for state in hx)
        p, outputs = dict(layer.named_parameters()), []
        for x_t in x:
            first = RoundedProduct.apply(x_t, p["weight_ih_l0"]) + p["bias_ih_l0"]
            first = first + RoundedProduct.apply(h, p["weight_hh_l0"]) + p["bias_hh_l0"]
            hidden = nn.functional.leaky_relu(first, layer.negative_slope).chunk(4, -1)
            i, f, g, o = (
                RoundedProduct.apply(a, p[f"weight_{gate}_1_l0"]) + p[f"bias_{gate}_1_l0"]
                for a, gate in zip(hidden, "ifgo", strict=True)
            )
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        return torch.stack(outputs), (h[None], c[None])

    run.parameters = layer.parameters
    return run


needs_bfloat16 = pytest.mark.skipif(not training.rounds(), reason="no AVX512_BF16 here")


@needs_bfloat16
@pytest.mark.parametrize("by", ["autocast", "the environment"])
@pytest.mark.parametrize("width", [11, 40])
def test_products_are_rounded_and_nothing_else(engine, monkeypatch, by, width):
    engine("native")
    layer = HLSTM(19, 25, gate_hidden_sizes=(width,))
    x, hx = torch.randn(4, 17, 19), (torch.randn(1, 17, 25), torch.randn(1, 17, 25))
    if by == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            found = results(layer, x, hx=hx)
    else:
        monkeypatch.setattr(training, "_products", "bfloat16")
        found = results(layer, x, hx=hx)
    for ours, theirs in zip(found, results(slow_rounded(layer), x, hx=hx), strict=True):
        off = (ours - theirs).abs() / theirs.abs().max()
        # A sum that differs in its last bit may be rounded to another number.
        assert float((off > 1e-5).float().mean()) < 0.02
        assert float(off.max()) < 0.01


@needs_bfloat16
def test_rounded_products_change_no_bit_with_the_threads(engine, monkeypatch):
    monkeypatch.setattr(training, "_products", "bfloat16")
    test_threads_that_share_units_or_directions_change_no_bit(engine, 3, False, "weight")
    test_threads_that_share_units_or_directions_change_no_bit(engine, 2, True, "block")
    engine("native")
    layer = HLSTM(64, 96, gate_hidden_sizes=(77,))
    x = torch.randn(30, 20, 64)
    lengths = [30] * 9 + [12] * 11
    found = (results_of_threads(threads, layer, x, lengths) for threads in (1, 3))
    pairs = zip(*found, strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


@needs_bfloat16
@pytest.mark.parametrize("plan", [{}, GROWING], ids=["sparse", "growing"])
def test_rounded_products_agree_between_threads_that_share_sequences(engine, monkeypatch, plan):
    monkeypatch.setattr(training, "_products", "bfloat16")
    engine("native")
    layer = HLSTM(96, 80, gate_hidden_sizes=(72,))
    GrowPrune(layer, torch.optim.SGD(layer.parameters(), 0.1), Plan(seed_density=0.3, **plan))
    x = torch.randn(9, 64, 96)
    found = results_of_threads(2, layer, x, LENGTHS["ragged"])
    alone = results_of_threads(1, layer, x, LENGTHS["ragged"])
    for ours, one in zip(found, alone, strict=True):
        # Rounded gradients of sums may differ in their last bit.
        assert float((ours - one).abs().max()) <= 1e-4 * float(one.abs().max())


@needs_bfloat16
@pytest.mark.parametrize("sizes", [(), (40, 3), UNEQUAL], ids=str)
def test_rounded_products_are_as_near_to_exact_ones_as_torchs(engine, sizes):
    layer = HLSTM(19, 25, 2, bidirectional=True, gate_hidden_sizes=sizes)
    x = torch.randn(max(RAGGED), len(RAGGED), 19)
    exact = results(layer, x, RAGGED)

    def errors():
        with torch.autocast("cpu", torch.bfloat16):
            found = results(layer, x, RAGGED)
        return [
            float((ours - right).norm() / right.norm())
            for ours, right in zip(found, exact, strict=True)
        ]

    engine("torch")
    theirs = errors()
    engine("native")
    ours = errors()
    assert min(ours) > 0
    assert sum(ours) < 1.2 * sum(theirs)


@needs_bfloat16
def test_inputs_of_autocast_may_be_bfloat16(engine):
    engine("native")
    layer = HLSTM(19, 25, gate_hidden_sizes=(11,))
    x = torch.randn(4, 17, 19).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = results(layer, x)
        expected = results(layer, x.float())
    gradient_of_x = 3
    assert found[gradient_of_x].dtype == torch.bfloat16
    expected[gradient_of_x] = expected[gradient_of_x].bfloat16()
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@needs_bfloat16
def test_active_connections_are_multiplied_as_they_are_and_dormant_gradients_rounded(engine):
    engine("native")
    layer, grow_prune = seeded(0.1, grow={"epochs": 1, "interval": 3, "fraction": 0.1})
    x = torch.randn(7, 19, 24)
    expected = results(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        found = results(layer, x)
    names = [*["activation"] * 4, *(name for name, _ in layer.named_parameters())]
    for name, ours, theirs in zip(names, found, expected, strict=True):
        if name in grow_prune.masks:
            assert 0 < float((ours - theirs).norm() / theirs.norm()) < 0.005
        else:
            assert torch.equal(ours, theirs)


def test_products_may_be_forced_and_are_told():
    from growprune.nn import training_products

    assert training_products() == training._products
    assert training._choose_products("", False) == ""
    assert training._choose_products("float32", False) == "float32"
    assert training._choose_products("bfloat16", True) == "bfloat16"
    with pytest.raises(GrowPruneError, match="PRODUCTS is 'int8'; set it to one of: float32, bfl"):
        training._choose_products("int8", True)
    with pytest.raises(GrowPruneError, match="that takes a processor with AVX512_BF16"):
        training._choose_products("bfloat16", False)


def test_forced_float32_is_exact_under_autocast(engine, monkeypatch):
    engine("native")
    monkeypatch.setattr(training, "_products", "float32")
    layer = HLSTM(19, 25, gate_hidden_sizes=(11,))
    x = torch.randn(4, 17, 19)
    expected = results(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        found = results(layer, x)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
