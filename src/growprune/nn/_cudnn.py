"""Layers whose gates have no hidden layers on a CUDA device: cuDNN runs all of them at once.

They are those of `torch.nn.LSTM` with the same parameters, whose settings hold for them too: cuDNN
multiplies float32 matrices in TF32 unless `torch.backends.cudnn.allow_tf32` is False.
"""

from typing import Any

import torch
from torch import Tensor
from torch.backends.cudnn.rnn import get_cudnn_mode

from growprune.native.training import forced_engine


def fits(layers: Any, weights: list[Tensor], x: Tensor) -> bool:
    """Whether cuDNN takes these layers (an `HLSTM` without hidden layers) and this input."""
    if not x.is_cuda or any(layers.gate_widths) or forced_engine() == "torch":
        return False
    same = all(t.device == x.device and t.dtype == weights[0].dtype for t in weights)
    return same and torch.backends.cudnn.is_acceptable(weights[0])


def run_stack(
    layers: Any, weights: list[Tensor], x: Tensor, batch_sizes: Tensor, h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Packed rows through all layers.

    Args:
        layers: their settings.
        weights: of each layer and direction those of `torch.nn.LSTM`, in its order.
        x: inputs, (rows, input_size).
        batch_sizes: sequences alive at each step, on the CPU.
        h: first hidden states, (layers * directions, batch, hidden_size).
        c: first cell states, likewise.

    Returns:
        Outputs, (rows, hidden_size * directions), and last states.
    """
    _lay_side_by_side(layers, weights)
    # Only what was run for training can be differentiated.
    training = layers.training or torch.is_grad_enabled()
    dropout = layers.dropout if layers.training else 0.0
    settings = (layers.bias, layers.num_layers, dropout, training, layers.bidirectional)
    batch = h.shape[1]
    if bool((batch_sizes == batch).all()):
        padded = x.unflatten(0, (len(batch_sizes), batch))
        outputs, *states = torch.lstm(padded, (h, c), weights, *settings, False)
        outputs = outputs.flatten(0, 1)
    else:
        outputs, *states = torch.lstm(x, batch_sizes, (h, c), weights, *settings)
    outputs, h, c = (result.to(weights[0].dtype) for result in (outputs, *states))
    return outputs, h, c


def _lay_side_by_side(layers: Any, weights: list[Tensor]) -> None:
    """Let the weights be views of one chunk of memory, as cuDNN reads them."""
    if len({weight.untyped_storage().data_ptr() for weight in weights}) == 1:
        return
    with torch.no_grad(), torch.cuda.device_of(weights[0]):
        torch._cudnn_rnn_flatten_weight(
            weights,
            4 if layers.bias else 2,
            layers.input_size,
            get_cudnn_mode("LSTM"),
            layers.hidden_size,
            0,
            layers.num_layers,
            False,
            layers.bidirectional,
        )
