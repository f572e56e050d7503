"""The recogniser as a packed model, with all that a program needs to hear with it."""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from growprune.export import Builder, Packed, Parameters, layers
from growprune.nn import HLSTM
from growprune.runtime.packed_file import INPUT
from growprune.tasks.provenance import provenance
from growprune.tasks.speech.model import ConvolutionBlock, RecurrentStack, SpeechModel
from growprune.tasks.speech.recognizer import Recognizer
from growprune.tasks.speech.settings import SpeechRecipe


def pack_run(
    folder: str | Path,
    *,
    layout: str = "auto",
    weights: str = "float32",
    info: Mapping[str, Any] | None = None,
) -> Packed:
    """Pack the model of a run.

    Args:
        folder: what `growprune train` left.
        layout: as in `growprune.export.pack`.
        weights: as in `growprune.export.pack`.
        info: more of it, beside what `speech_info` gives.

    Raises:
        CheckpointError: there is no finished model, or it is damaged.
        ValueError: an unknown layout or kind of weights.
    """
    recognizer = Recognizer.from_run(folder)
    described = speech_info(recognizer.model, recognizer.recipe) | {
        "provenance": provenance(folder, recognizer.recipe.name)
    }
    return pack_model(
        recognizer.model,
        recognizer.recipe.data.features.columns,
        recognizer.masks,
        layout=layout,
        weights=weights,
        info=described | dict(info or {}),
    )


def pack_model(
    model: SpeechModel,
    bands: int,
    masks: Mapping[str, torch.Tensor] | None = None,
    *,
    layout: str = "auto",
    weights: str = "float32",
    info: Mapping[str, Any] | None = None,
) -> Packed:
    """Pack a recogniser.

    Args:
        model: the network.
        bands: width of its feature frames.
        masks: as in `growprune.export.pack`, and so are the others.
        layout: see there.
        weights: see there.
        info: see there.

    Raises:
        ValueError: a mask that does not fit, an unknown layout or kind of weights.
    """
    parameters = Parameters(model, masks)
    builder = Builder([bands])
    x = _front_end(builder, parameters, model)
    x = _recurrent(builder, parameters, model.recurrent, x)
    x = layers.linear(builder, parameters, "output", model.output, x)
    x = builder.add("log_softmax", "log_softmax", [x])
    parameters.check_all_used()
    return builder.finish(x, layout=layout, weights=weights, info=info)


def speech_info(model: SpeechModel, recipe: SpeechRecipe) -> dict[str, Any]:
    """What a packed recogniser says of itself.

    - task: "speech"
    - letters: those of the outputs 1, 2, ...; output 0 is the CTC blank
    - features: `FeatureSettings` of the input
    - stride: feature frames per output frame
    - frames_per_second: output frames per second of audio
    - causal: whether no output depends on later input
    """
    features = recipe.data.features
    return {
        "task": "speech",
        "letters": recipe.data.letters,
        "features": features.model_dump(mode="json"),
        "stride": model.stride,
        "frames_per_second": 1000 / features.hop_ms / model.stride,
        "causal": model.settings.causal,
    }


def _front_end(builder: Builder, parameters: Parameters, model: SpeechModel) -> str:
    """The convolutions; gives frames of one axis."""
    x = INPUT
    for index, block in enumerate(model.front_end.blocks):
        assert isinstance(block, ConvolutionBlock)
        path = f"front_end.blocks.{index}"
        channels = block.convolution.in_channels
        x = _reshaped(
            builder, f"{path}.input", x, [channels] if block.over_time else [-1, channels]
        )
        x = layers.convolution(
            builder,
            parameters,
            f"{path}.convolution",
            block.convolution,
            x,
            time_padding=block.time_padding,
            time_axis=0 if block.over_time else 1,
        )
        x = _norm(builder, f"{path}.norm", block.norm, x)
        x = layers.activation(builder, f"{path}.activation", block.activation, x)
    return _reshaped(builder, "front_end.output", x, [-1])


def _reshaped(builder: Builder, name: str, x: str, wanted: Sequence[int]) -> str:
    """The value with features of other sizes; one of them may be -1, for what is left."""
    features = builder.features(x)
    left = prod(features) // abs(prod(wanted))
    sizes = [left if size == -1 else size for size in wanted]
    return x if tuple(sizes) == features else builder.add(name, "reshape", [x], features=sizes)


def _recurrent(builder: Builder, parameters: Parameters, stack: RecurrentStack, x: str) -> str:
    for index, (layer, norm) in enumerate(zip(stack.layers, stack.norms, strict=True)):
        path = f"recurrent.layers.{index}"
        assert isinstance(layer, HLSTM | nn.GRU)
        directions = layers.recurrent(builder, parameters, path, layer, x)[-1]
        if stack.sum_directions:
            x = builder.add(f"{path}.sum", "add", directions)
        else:
            x = layers.joined(builder, f"{path}.both", directions)
        x = _norm(builder, f"recurrent.norms.{index}", norm, x)
    return x


def _norm(builder: Builder, path: str, norm: nn.Module, x: str) -> str:
    if isinstance(norm, nn.BatchNorm1d):
        return layers.batch_norm(builder, path, norm, x)
    if isinstance(norm, nn.LayerNorm):
        return layers.layer_norm(builder, path, norm, x)
    return x
