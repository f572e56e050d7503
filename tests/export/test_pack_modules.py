"""Modules as people write them, and what is said about those that cannot be packed."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import rnn
from torch.nn.utils.rnn import pack_padded_sequence

from growprune import GrowPrune, Plan, export
from growprune.nn import HLSTM, HLSTMCell


class Module(nn.Module):
    """Layers by name and a forward given as a function of the module and its input."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def lstm(**options):
    return nn.LSTM(5, 4, batch_first=True, **options)


def last_step(m, x):
    out, _ = m.lstm(x)
    return m.fc(out[:, -1])


def last_step_in_full(m, x):
    out, (_, _) = m.lstm(x)
    return m.fc(F.relu(out[:, -1, :]))


def hidden_state(m, x):
    _, (h, _) = m.lstm(x)
    return m.fc(h[-1])


def hidden_state_in_full(m, x):
    return m.fc(m.lstm(x)[1][0][-1, :, :])


def zero_states(m, x):
    h = torch.zeros(1, x.size(0), 4).to(x.device)
    c = torch.zeros(1, x.shape[0], 4, dtype=x.dtype, device=x.device)
    out, _ = m.lstm(x, (h, c))
    return m.fc(out[:, 0])


def squeezed(m, x):
    _, (h, _) = m.lstm(x)
    return m.fc(h.squeeze(0))


def mean_over_time(m, x):
    return m.fc(m.lstm(x)[0].mean(dim=1))


def residual(m, x):
    out, _ = m.lstm(x)
    out = out + torch.tanh(out)
    out += F.silu(out)
    return m.fc(F.dropout(out, 0.5, m.training))


def concatenated(m, x):
    out, _ = m.lstm(x)
    return F.log_softmax(m.fc(torch.cat([out[..., :], torch.sigmoid(out)], dim=-1)[:, -1]), -1)


def transposed(m, x):
    out = m.lstm(x)[0].transpose(1, 2).contiguous().permute(0, 2, 1)
    return m.fc(out).softmax(dim=2)


FORMS = {
    form.__name__: (form, 8 if form is concatenated else 4)
    for form in (
        last_step,
        last_step_in_full,
        hidden_state,
        hidden_state_in_full,
        zero_states,
        squeezed,
        mean_over_time,
        residual,
        concatenated,
        transposed,
    )
}


@pytest.mark.parametrize("form", FORMS)
def test_lstm_models(assert_packs_alike, form):
    forward, width = FORMS[form]
    assert_packs_alike(Module(forward, lstm=lstm(), fc=nn.Linear(width, 3)), torch.randn(3, 7, 5))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, HLSTM])
def test_last_states_of_both_directions(assert_packs_alike, kind):
    layer = kind(5, 4, num_layers=2, bidirectional=True, batch_first=True)

    def forward(m, x):
        _, state = m.layer(x)
        h = state if kind is nn.GRU else state[0]
        return torch.cat([h[-2], h[-1], h[0], h[1]], dim=1)

    assert_packs_alike(Module(forward, layer=layer), torch.randn(3, 7, 5))


def test_time_first(assert_packs_alike):
    module = Module(lambda m, x: m.lstm(x)[0][-1], lstm=nn.LSTM(5, 4))
    assert_packs_alike(module, torch.randn(7, 3, 5), axes="tbf")


def test_convolutions_before_a_recurrent_layer(assert_packs_alike):
    def forward(m, x):
        x = m.conv(F.pad(x.transpose(1, 2), (4, 0)))
        x, _ = m.lstm(F.leaky_relu(m.norm(x), 0.2).transpose(1, 2))
        return m.fc(x)

    layers = {"conv": nn.Conv1d(6, 5, 5, stride=2), "norm": nn.BatchNorm1d(5)}
    module = Module(forward, **layers, lstm=lstm(), fc=nn.Linear(4, 2))
    packed = assert_packs_alike(module, torch.randn(2, 17, 6), features=[6])
    assert packed.model().not_streamable is None


@pytest.mark.parametrize("way", ["flatten", "reshape", "view", "module"])
def test_images_before_a_recurrent_layer(assert_packs_alike, way):
    """Channels and bands become one axis, in torch's order."""

    def forward(m, x):
        x = F.hardtanh(m.norm(m.conv(x.transpose(1, 2).unsqueeze(1))), 0, 20)
        if way == "flatten":
            x = x.permute(0, 3, 1, 2).flatten(2)
        elif way == "module":
            x = m.flatten(x.permute(0, 3, 1, 2))
        elif way == "reshape":
            x = x.reshape(x.size(0), -1, x.size(3)).transpose(1, 2)
        else:
            batch, channels, bands, time = x.shape
            x = x.permute(0, 3, 1, 2).contiguous().view(batch, time, channels * bands)
        return m.gru(x)[0]

    module = Module(
        forward,
        conv=nn.Conv2d(1, 3, (3, 5), stride=(2, 2), padding=(1, 2)),
        norm=nn.BatchNorm2d(3),
        gru=nn.GRU(15, 4, batch_first=True),
        flatten=nn.Flatten(2),
    )
    assert_packs_alike(module, torch.randn(2, 11, 9), features=[9])


def test_squeezing_and_softmax_over_channels(assert_packs_alike):
    def forward(m, x):
        return m.fc(
            m.conv(x.unsqueeze(-1).permute(0, 2, 3, 1)).softmax(1).squeeze(2).transpose(1, 2)
        )

    module = Module(forward, conv=nn.Conv2d(6, 4, (1, 3)), fc=nn.Linear(4, 2))
    assert_packs_alike(module, torch.randn(2, 8, 6), features=[6])


def test_a_module_used_twice(assert_packs_alike):
    module = Module(lambda m, x: m.fc(torch.relu(m.fc(x))), fc=nn.Linear(5, 5))
    packed = assert_packs_alike(module, torch.randn(2, 3, 5))
    assert [choice.name for choice in packed.choices] == ["fc.weight"]
    assert [node.name for node in packed.contents.nodes] == ["fc", "relu", "fc#2"]


def test_packed_sequences():
    class Ragged(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.fc = lstm(bidirectional=True), nn.Linear(8, 2)

        def forward(self, x, lengths):
            rows = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            rows, _ = self.lstm(rows)
            x, lengths = rnn.pad_packed_sequence(rows, batch_first=True)
            return self.fc(x), lengths

    torch.manual_seed(0)
    module, x, lengths = Ragged(), torch.randn(3, 6, 5), torch.tensor([3, 6, 1])
    with torch.no_grad():
        expected, _ = module(x, lengths)
    found, found_lengths = export.pack(module).model().run(x.numpy(), lengths.numpy())
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(found[row, :length], expected[row, :length], atol=1e-6)
        assert not found[row, length:].any()
    assert found_lengths.tolist() == [3, 6, 1]


def test_optional_arguments_keep_their_defaults():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = HLSTM(5, 4, batch_first=True, gate_hidden_sizes=(3,))

        def forward(self, x, state=None, lengths=None, double=False):
            if state is None and not double:
                x = torch.relu(x)
            return self.layer(x, state, lengths=lengths)[0], lengths

    x = torch.randn(2, 3, 5)
    module = Optional()
    found, _ = export.pack(module).model().run(x.numpy())
    np.testing.assert_allclose(found, module(x)[0].detach().numpy(), atol=1e-6)


def test_the_module_is_left_as_it_was():
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3)).train()
    module[1].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    export.pack(module, axes="bf")
    assert [part.training for part in module] == [True, False, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_after_growing_and_pruning():
    torch.manual_seed(0)
    module = Module(last_step, lstm=lstm(), fc=nn.Linear(4, 3))
    plan = Plan.model_validate({"seed_density": 0.4, "granularity": "weight"})
    trained = GrowPrune(module, torch.optim.Adam(module.parameters()), plan)
    packed = export.pack(module, trained.masks, info={"task": "toy"})
    assert sum(choice.active for choice in packed.choices) == trained.active()
    model = packed.model()
    assert {row.name: row.active for row in model.matrices} == {
        name: int(mask.sum()) for name, mask in trained.masks.items()
    }
    x = torch.randn(2, 6, 5)
    np.testing.assert_allclose(model.run(x.numpy())[0], module(x).detach().numpy(), atol=1e-6)
    assert model.info == {"task": "toy"}


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Own(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


def hooked():
    layer = nn.Linear(5, 5)
    layer.register_forward_hook(lambda module, inputs, output: output * 2)
    return nn.Sequential(layer)


def overwritten(m, x):
    y = m.fc(x)
    z = F.relu(y, inplace=True)
    return y + z


def starts_elsewhere(m, x):
    h = torch.zeros(1, x.size(0), 4).fill_(1)
    return m.lstm(x, (h, h))[0]


REFUSED = {
    "unknown layer": (nn.Sequential(nn.Linear(5, 5), nn.PReLU()), "'1' cannot.*PReLU is not supp"),
    "cell": (Module(lambda m, x: m.cell(x)[0], cell=HLSTMCell(5, 4)), "HLSTMCell is not supported"),
    "rnn": (Module(lambda m, x: m.rnn(x)[0], rnn=nn.RNN(5, 4)), "RNN is not supported"),
    "projection": (
        Module(lambda m, x: m.l(x)[0], l=lstm(proj_size=2)),
        "'l' cannot be packed: proj_size is not supported",
    ),
    "time first": (
        Module(lambda m, x: m.l(x)[0], l=nn.LSTM(5, 4)),
        r"layer 'l'.*reads \(time, batch, features\), but is given \(batch, time, features\); say",
    ),
    "channels last": (
        nn.Conv1d(5, 4, 3),
        r"reads \(batch, channels, \.\.\.\).*given \(batch, time, features\).*`axes`",
    ),
    "norm of time": (nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), "works on the time axis"),
    "data": (Branching(), "Branching.forward cannot be packed, because torch.fx cannot follow"),
    "own layer": (
        nn.Sequential(nn.Linear(5, 5), Own(5, 5)),
        "parameter or buffer outside of a layer",
    ),
    "hooks": (hooked(), "layer '0' cannot be packed: it has forward hooks"),
    "in place": (Module(overwritten, fc=nn.Linear(5, 4)), "changes in place what is read again"),
    "operation": (
        Module(lambda m, x: m.fc(x) * 2, fc=nn.Linear(5, 4)),
        "operation 'mul' cannot be packed: mul is not supported",
    ),
    "scalar": (Module(lambda m, x: m.fc(x) + 2, fc=nn.Linear(5, 4)), "two values .* can be added"),
    "state": (Module(starts_elsewhere, lstm=lstm()), "fill_.*cannot be packed: it reads a tensor"),
    "cell state": (Module(lambda m, x: m.l(x)[1][1][-1], l=lstm()), "picks from a cell state"),
    "all states": (Module(lambda m, x: m.l(x)[1][0], l=lstm()), "the output cannot be packed"),
    "dropout": (Module(lambda m, x: F.dropout(m.l(x)[0]), l=lstm()), "drops in evaluation too"),
    "two outputs": (Module(lambda m, x: (m.l(x)[0], x), l=lstm()), "it must be one tensor"),
    "step": (Module(lambda m, x: m.l(x)[0][:, 3], l=lstm()), "first or the last step only"),
    "wrong width": (
        nn.Sequential(nn.Linear(5, 4), nn.Linear(3, 2)),
        "'1' cannot be packed: the input has 4 features, but the weight takes 3",
    ),
    "flattened time": (
        nn.Sequential(nn.Linear(5, 4), nn.Flatten()),
        r"layer '1'.*\(batch, time, features\) cannot be flattened from axis 1 to 2",
    ),
    "padding": (
        nn.Sequential(nn.ConstantPad1d((1, 0), 1.0), nn.Conv1d(5, 4, 2)),
        "ConstantPad1d is not supported",
    ),
    "padding mode": (
        Module(lambda m, x: m.c(x.mT), c=nn.Conv1d(5, 4, 3, padding=1, padding_mode="reflect")),
        "the attribute mT",
    ),
    "empty": (nn.Identity(), "does not tell the size"),
    "statistics": (
        Module(
            lambda m, x: m.n(m.fc(x).transpose(1, 2)),
            fc=nn.Linear(5, 4),
            n=nn.BatchNorm1d(4, track_running_stats=False),
        ),
        "'n' cannot be packed: it has no running statistics",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_packed_is_named(case):
    module, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        export.pack(module)


def test_nothing_to_pack():
    with pytest.raises(ValueError, match="there is nothing to pack"):
        export.pack(nn.Identity(), features=[3])


def test_infinite_weights_are_refused():
    module = nn.Linear(3, 2)
    module.weight.data[1, 1] = torch.nan
    with pytest.raises(ValueError, match="weight of Linear is not finite"):
        export.pack(module)
    mask = torch.ones(2, 3, dtype=torch.bool)
    mask[1, 1] = False
    export.pack(module, {"weight": mask})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": {"wight": torch.ones(1)}}, "'wight', which is no parameter"),
        ({"masks": {"weight": torch.ones(2, 3)}}, "must be bool of shape"),
        ({"masks": {"weight": torch.ones(3, 2, dtype=bool)}}, r"got torch.bool of shape \(3, 2\)"),
        ({"masks": {"bias": torch.ones(2, dtype=bool)}}, r"masks are given for \['bias'\]"),
        ({"layout": "coo"}, "layout must be auto or one of dense, csr, blocks, got 'coo'"),
        ({"weights": "int4"}, "weights must be one of float32, int8, got 'int4'"),
        ({"axes": "bxf"}, "axes must be made of"),
        ({"axes": "tf"}, "axes must be made of"),
        ({"axes": "btff"}, r"'btff' have 2 of features, but 1 sizes are known, \[3\]"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        export.pack(nn.Linear(3, 2), **options)
