"""The recogniser: convolutions, recurrent layers, and a distribution over letters per frame."""

from collections.abc import Iterator, Mapping
from math import prod

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from growprune.metrics import Operation
from growprune.nn import HLSTM, Dropout
from growprune.tasks.speech.settings import (
    ConvolutionSettings,
    FrontEndSettings,
    ModelSettings,
    RecurrentSettings,
    SpeechRecipe,
)


class SpeechModel(nn.Module):
    """Log-probabilities of letters for every output frame.

    What lies beyond an utterance's length never changes its result, nor, in inference, does the
    company it is batched with.

    Args:
        settings: sizes.
        bands: width of the feature frames.
        symbols: letters plus the blank.
    """

    def __init__(self, settings: ModelSettings, bands: int, symbols: int) -> None:
        super().__init__()
        self.settings = settings
        self.front_end = FrontEnd(settings.front_end, bands, settings.causal)
        self.recurrent = RecurrentStack(settings.recurrent, self.front_end.output_size)
        self.output = nn.Linear(self.recurrent.output_size, symbols, bias=settings.output_bias)

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor, *, every_layer: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score letters.

        Args:
            features: `(batch, time, bands)`, padded.
            lengths: `(batch,)` valid frames, on the CPU.
            every_layer: read each recurrent layer through the output matrix, not only the last.

        Returns:
            Log-probabilities `(batch, output time, symbols)` in float32, or `(layers, batch,
            output time, symbols)`, the last layer at the end; and the `(batch,)` valid output
            frames.
        """
        x, lengths = self.front_end(features, lengths)
        layers = self.recurrent(x, lengths)
        x = torch.stack(layers) if every_layer else layers[-1]
        return self.output(x).float().log_softmax(-1), lengths

    def output_length(self, frames: int) -> int:
        """Output frames for `frames` feature frames."""
        for stride in self.front_end.strides:
            frames = -(-frames // stride)
        return frames

    @property
    def stride(self) -> int:
        """Feature frames per output frame."""
        return prod(self.front_end.strides)

    def operations(
        self, masks: Mapping[str, torch.Tensor], frames_per_second: float
    ) -> Iterator[Operation]:
        """Every parameter with its cost, at so many feature frames per second of audio."""
        uses = {}
        rate = frames_per_second
        steps = zip(self.front_end.strides, self.front_end.positions, strict=True)
        for index, (stride, positions) in enumerate(steps):
            rate /= stride
            uses[f"front_end.blocks.{index}.convolution.weight"] = rate * positions
        for name, weight in self.named_parameters():
            active = int(masks[name].sum()) if name in masks else weight.numel()
            per_second = uses.get(name, rate if weight.ndim >= 2 else 0.0)
            in_cell = name.startswith("recurrent.layers.")
            yield Operation(name, weight.numel(), active, per_second, in_cell)


class FrontEnd(nn.Module):
    """A stack of strided convolutions over feature frames."""

    def __init__(self, settings: FrontEndSettings, bands: int, causal: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        self.strides: list[int] = []
        self.positions: list[int] = []
        width, channels = bands, 1
        for convolution in settings.convolutions:
            block = ConvolutionBlock(settings, convolution, width, channels, causal)
            self.blocks.append(block)
            self.strides.append(block.time_stride)
            self.positions.append(block.positions)
            width, channels = block.positions, block.channels
        self.output_size = width * channels

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map `(batch, time, bands)` to `(batch, output time, output_size)`, padding zero."""
        x = (features * valid_frames(lengths, features).unsqueeze(-1)).unsqueeze(-1)
        for block in self.blocks:
            x, lengths = block(x, lengths)
        return x.flatten(2), lengths


class ConvolutionBlock(nn.Module):
    """Convolution, norm, activation, dropout on `(batch, time, positions, channels)`."""

    def __init__(
        self,
        shared: FrontEndSettings,
        settings: ConvolutionSettings,
        width: int,
        channels: int,
        causal: bool,
    ) -> None:
        super().__init__()
        self.channels = settings.channels
        self.over_time = len(settings.kernel) == 1
        self.time_stride = settings.stride[-1]
        reach = settings.kernel[-1] - 1
        left = reach if causal else reach // 2
        self.time_padding = (left, reach - left)
        self.convolution: nn.Conv1d | nn.Conv2d
        if self.over_time:
            self.positions = 1
            self.convolution = nn.Conv1d(
                width * channels, self.channels, settings.kernel[0], settings.stride[0]
            )
        else:
            self.positions = (width - settings.kernel[0]) // settings.stride[0] + 1
            if self.positions < 1:
                raise ValueError(
                    f"a kernel of {settings.kernel[0]} bands does not fit {width} bands; "
                    "make it smaller or use more bands"
                )
            high, long = settings.kernel
            self.convolution = nn.Conv2d(
                channels, self.channels, (high, long), (settings.stride[0], settings.stride[1])
            )
        self.norm = frame_norm(shared.norm, self.channels)
        self.activation = nn.Hardtanh(0, 20) if shared.activation == "hardtanh" else nn.LeakyReLU()
        self.dropout = Dropout(shared.dropout)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map `(batch, time, positions, channels)` to the same with this block's sizes."""
        if self.over_time:
            columns = F.pad(x.flatten(2).transpose(1, 2), self.time_padding)
            x = self.convolution(columns).transpose(1, 2).unsqueeze(2)
        else:
            image = F.pad(x.permute(0, 3, 2, 1), self.time_padding)
            x = self.convolution(image).permute(0, 3, 2, 1)
        lengths = (lengths + self.time_stride - 1) // self.time_stride
        x = self.dropout(self.activation(self.norm(x, lengths)))
        return x * valid_frames(lengths, x)[:, :, None, None], lengths


class RecurrentStack(nn.Module):
    """Recurrent layers with a norm and dropout between them."""

    def __init__(self, settings: RecurrentSettings, input_size: int) -> None:
        super().__init__()
        self.sum_directions = settings.bidirectional and settings.merge == "sum"
        directions = 2 if settings.bidirectional and not self.sum_directions else 1
        self.output_size = directions * settings.hidden_size
        sizes = [input_size] + [self.output_size] * (settings.layers - 1)
        self.layers = nn.ModuleList(recurrent_layer(settings, size) for size in sizes)
        self.norms = nn.ModuleList(
            frame_norm(settings.norm, self.output_size) for _ in range(settings.layers)
        )
        self.dropout = Dropout(settings.dropout)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
        """Map `(batch, time, input)` to every layer's output, `(batch, time, output_size)` each."""
        outputs = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x, _ = layer(x, lengths=lengths)
            if self.sum_directions:
                x = x.unflatten(-1, (2, -1)).sum(-2)
            x = self.dropout(norm(x, lengths))
            outputs.append(x)
        return outputs


class FrameGRU(nn.GRU):
    """A GRU whose utterances have lengths of their own."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """Map `(batch, time, input)` to outputs, zero beyond `lengths`, and last states."""
        rows = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        outputs, states = super().forward(rows)
        return pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])[0], states


class FrameBatchNorm(nn.BatchNorm1d):
    """Batch norm of the last axis whose statistics see valid frames only."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Normalise `(batch, time, ..., channels)`; frames beyond `lengths` become zero."""
        valid = valid_frames(lengths, x).bool()
        frames = x[valid]
        normed = super().forward(frames.reshape(-1, frames.shape[-1])).view_as(frames)
        return torch.zeros_like(x).to(normed.dtype).masked_scatter(_spread(valid, x), normed)


class FrameLayerNorm(nn.LayerNorm):
    """Layer norm of the last axis, frame by frame."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # noqa: ARG002
        """Normalise `(batch, time, ..., channels)`."""
        return super().forward(x)


class NoNorm(nn.Module):
    """The input as it is."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Return `x`."""
        return x


def build_model(recipe: SpeechRecipe) -> SpeechModel:
    """The recipe's recogniser with new weights."""
    return SpeechModel(recipe.model, recipe.data.features.columns, len(recipe.data.letters) + 1)


def recurrent_layer(settings: RecurrentSettings, input_size: int) -> HLSTM | FrameGRU:
    """One layer of the cell a recipe names, to be called with `lengths`."""
    size, directions = settings.hidden_size, settings.bidirectional
    if settings.cell == "gru":
        return FrameGRU(input_size, size, batch_first=True, bidirectional=directions)
    return HLSTM(
        input_size,
        size,
        batch_first=True,
        bidirectional=directions,
        gate_hidden_sizes=settings.gate_hidden_sizes,
        gate_dropout=settings.gate_dropout,
        negative_slope=settings.negative_slope,
    )


def frame_norm(kind: str, channels: int) -> nn.Module:
    """The norm a recipe names: `batch`, `layer` or `none`."""
    if kind == "none":
        return NoNorm()
    return FrameBatchNorm(channels) if kind == "batch" else FrameLayerNorm(channels)


def valid_frames(lengths: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`(batch, time)`: 1 where a frame of `x` lies within its utterance, else 0."""
    times = torch.arange(x.shape[1], device=x.device)
    return (times < lengths.to(x.device)[:, None]).to(x.dtype)


def _spread(valid: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`valid` with axes of length 1 appended, to broadcast against `x`."""
    return valid.reshape(*valid.shape, *[1] * (x.ndim - 2)).expand_as(x)
