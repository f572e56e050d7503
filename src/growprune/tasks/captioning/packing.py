"""The captioner as a packed model, with all that a program needs to write with it.

Three networks in one file: the decoder, which is stepped, and as its parts `image` and `words` the
two ways into it. Where it begins with the image the part that makes its first state is called
`state`, and there is no `image`. Where the image is merged there are two more: the decoder ends
with the recurrent layers, `merge` makes of the image what is added to that, and `output` goes on
from there.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from growprune.export import Builder, Packed, Parameters, layers
from growprune.export.parameters import vector
from growprune.runtime.packed_file import INPUT, PackedModel
from growprune.tasks.captioning.captioner import Captioner
from growprune.tasks.captioning.model import CaptionModel, StandardNorm
from growprune.tasks.provenance import provenance


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
        info: more of it, beside what `captioner_info` gives.

    Raises:
        CheckpointError: there is no finished model, or it is damaged.
        ValueError: an unknown layout or kind of weights.
    """
    captioner = Captioner.from_run(folder)
    described = captioner_info(captioner) | {
        "provenance": provenance(folder, captioner.recipe.name)
    }
    return pack_model(
        captioner.model,
        captioner.masks,
        layout=layout,
        weights=weights,
        info=described | dict(info or {}),
    )


def pack_model(
    model: CaptionModel,
    masks: Mapping[str, torch.Tensor] | None = None,
    *,
    layout: str = "auto",
    weights: str = "float32",
    info: Mapping[str, Any] | None = None,
) -> Packed:
    """Pack a decoder.

    Args:
        model: the network.
        masks: as in `growprune.export.pack`, and so are the others.
        layout: see there.
        weights: see there.
        info: see there.

    Raises:
        ValueError: a mask that does not fit, an unknown layout or kind of weights.
    """
    parameters = Parameters(model, masks)

    def finish(builder: Builder, output: str, layout: str = layout) -> Packed:
        return builder.finish(output, layout=layout, weights=weights)

    seen = _image(parameters, model, "image", model.image)
    if model.settings.inject == "init":
        parts = {"state": finish(seen, seen.add("tanh", "tanh", ["image"]))}
    else:
        parts = {"image": finish(seen, "image")}
    if model.merge is not None:
        parts["merge"] = finish(_image(parameters, model, "merge", model.merge), "merge")
    words = finish(_words(parameters, model), "embedding", "auto")
    decoder = Builder([model.settings.embedding_size])
    (y,) = layers.recurrent(decoder, parameters, "recurrent", model.recurrent, INPUT)[-1]
    if model.merge is None:
        whole = finish(decoder, _scores(decoder, parameters, model, y))
        written = whole
    else:
        whole = finish(decoder, y)
        output = Builder([model.output.in_features])
        written = parts["output"] = finish(output, _scores(output, parameters, model, INPUT))
    parameters.check_all_used()
    if model.settings.tied:  # rows are looked up in the output's matrix as that is stored
        words = Packed(_sharing(words.contents, written.contents), ())
    parts["words"] = words
    contents = replace(
        whole.contents,
        info=dict(info or {}),
        parts={name: part.contents for name, part in parts.items()},
    )
    return Packed(contents, tuple(c for part in (*parts.values(), whole) for c in part.choices))


def captioner_info(captioner: Captioner) -> dict[str, Any]:
    """What a packed captioner says of itself.

    - task: "captioning"
    - words: those of the outputs; output 0 ends a caption, output 1 is the unknown word
    - encoder: what computes the features it reads: `name`, `pool` and `width`
    - longest: words after which a caption is cut
    """
    return {
        "task": "captioning",
        "words": list(captioner.vocabulary.words),
        "encoder": captioner.encoder,
        "longest": captioner.recipe.data.longest,
    }


def _image(parameters: Parameters, model: CaptionModel, name: str, linear: nn.Linear) -> Builder:
    """From features `(width,)` to what a layer of that name makes of them."""
    builder = Builder([linear.in_features])
    x = INPUT
    norm = model.normalise
    if isinstance(norm, StandardNorm):
        mean, scale = (vector(part, linear.in_features) for part in (norm.mean, norm.scale))
        vectors = {"scale": scale, "shift": -mean * scale}
        x = builder.add("normalise", "affine", [x], vectors=vectors)
    elif isinstance(norm, nn.LayerNorm):
        x = layers.layer_norm(builder, "normalise", norm, x)
    layers.linear(builder, parameters, name, linear, x)
    return builder


def _words(parameters: Parameters, model: CaptionModel) -> Builder:
    """From words' numbers to what the recurrent layers read."""
    builder = Builder([], takes_ids=True)
    layers.embedding(builder, parameters, "embedding", model.embedding, INPUT)
    return builder


def _sharing(words: PackedModel, decoder: PackedModel) -> PackedModel:
    """The table of words as the matrix of a decoder's output layer."""
    (node,) = words.nodes
    name = "output.weight"
    node = replace(node, parameters={"weight": name})
    return replace(words, nodes=(node,), matrices={name: decoder.matrices[name]})


def _scores(builder: Builder, parameters: Parameters, model: CaptionModel, x: str) -> str:
    """From what the output layer reads to the next word's log-probabilities."""
    x = layers.linear(builder, parameters, "output", model.output, x)
    return builder.add("log_softmax", "log_softmax", [x])
