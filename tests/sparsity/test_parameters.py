import pytest
import torch
from torch import nn

from growprune.nn import HLSTM
from growprune.sparsity import choose_parameters


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.conv = nn.Conv2d(2, 3, (5, 3))
        self.batch_norm = nn.BatchNorm2d(3)
        self.layer_norm = nn.LayerNorm((3, 4))
        self.lstm = nn.LSTM(4, 5, bidirectional=True)
        self.gru_cell = nn.GRUCell(5, 5)
        self.hlstm = HLSTM(5, 4, gate_hidden_sizes=(3,))
        self.free = nn.Parameter(torch.zeros(2, 2))
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.output = nn.Linear(4, 7)
        self.output.weight = self.embedding.weight


def test_default_is_every_weight_matrix_and_nothing_else():
    chosen = set(choose_parameters(Everything()))
    expected = {"embedding.weight", "conv.weight", "gru_cell.weight_ih", "gru_cell.weight_hh"}
    expected |= {f"lstm.weight_{k}_l0{r}" for k in ("ih", "hh") for r in ("", "_reverse")}
    hlstm = {name for name in chosen if name.startswith("hlstm.")}
    assert {
        f"hlstm.{n}"
        for n, p in HLSTM(5, 4, gate_hidden_sizes=(3,)).named_parameters()
        if p.ndim == 2
    } == hlstm
    assert len(hlstm) == 6
    assert chosen == expected | hlstm


def test_shared_weight_is_taken_once_and_excluded_by_any_of_its_names():
    model = Everything()
    assert "output.weight" not in choose_parameters(model)
    assert choose_parameters(model, include=["output.*"]) == {
        "embedding.weight": model.embedding.weight
    }
    assert "embedding.weight" not in choose_parameters(model, exclude=["output.*"])


def test_patterns():
    model = Everything()
    assert list(choose_parameters(model, include=["lstm.*_hh_*"])) == [
        "lstm.weight_hh_l0",
        "lstm.weight_hh_l0_reverse",
    ]
    assert list(choose_parameters(model, include=["free"])) == ["free"]
    assert list(choose_parameters(model, include=["lstm.*"], exclude=["*_reverse"])) == [
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
    ]


def test_norms_biases_and_frozen_weights_are_never_taken():
    taken = set(choose_parameters(Everything(), include=["*"]))
    assert "free" in taken
    assert taken.isdisjoint({"layer_norm.weight", "layer_norm.bias", "frozen.weight"})
    assert not any("bias" in name for name in taken)


def test_nothing_left_is_an_error_that_names_what_there_is():
    with pytest.raises(ValueError, match=r"include=\['lstn\.\*'\].*'weight', 'bias'"):
        choose_parameters(nn.Linear(2, 2), include=["lstn.*"])
    with pytest.raises(ValueError, match="no weight matrix"):
        choose_parameters(nn.LayerNorm((2, 2)))
    with pytest.raises(ValueError, match="no weight matrix"):
        choose_parameters(nn.Linear(2, 2), include=["bias"])


def test_sparse_embedding_gradients_are_refused():
    model = nn.Embedding(3, 2, sparse=True)
    with pytest.raises(ValueError, match=r"weight: .*sparse=False or exclude it"):
        choose_parameters(model)
