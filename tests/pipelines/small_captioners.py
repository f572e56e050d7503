"""Small untrained captioners and features for them."""

import numpy as np
import torch

from growprune.data import Vocabulary
from growprune.pipelines import Captioner
from growprune.tasks import captioning, open_recipe
from growprune.tasks.captioning.model import CaptionModel, StandardNorm
from growprune.tasks.captioning.packing import captioner_info, pack_model

WIDTH = 12
WORDS = ("<end>", "<unknown>", "a", "'s", *(f"word{number}" for number in range(33)))
SMALL = [
    "model.embedding_size=20",
    "model.recurrent.hidden_size=20",
    "model.inject='pre'",
    "data.longest=9",
]
KINDS = {
    "lstm": [],
    "two lstms, standardised": ["model.recurrent.layers=2", "model.normalise='standard'"],
    "three lstms, tied": ["model.recurrent.layers=3", "model.tied=true"],
    "h-lstm, layer norm": ["model.recurrent.gate_hidden_sizes=[18]", "model.normalise='layer'"],
    "two h-lstms, tied": [
        "model.recurrent.gate_hidden_sizes=[18, 11]",
        "model.recurrent.layers=2",
        "model.tied=true",
    ],
    "h-lstm, merged, standardised": [
        "model.recurrent.gate_hidden_sizes=[18]",
        "model.normalise='standard'",
        "model.merge=true",
    ],
    "two lstms, merged, tied": [
        "model.recurrent.layers=2",
        "model.merge=true",
        "model.tied=true",
    ],
    "two lstms, begun, standardised": [
        "model.recurrent.layers=2",
        "model.embedding_size=16",
        "model.inject='init'",
        "model.normalise='standard'",
    ],
    "h-lstm, begun and merged": [
        "model.recurrent.gate_hidden_sizes=[18]",
        "model.inject='init'",
        "model.merge=true",
    ],
}
"""Settings of the recipe by what they make."""


def features(images, seed=0):
    return np.random.default_rng(seed).uniform(0, 3, (images, WIDTH)).astype(np.float32)


def wordy(kind="lstm", density=1.0, slope=0.01, seed=1):
    """An untrained captioner whose outputs are far enough apart to write different words.

    With a density below 1 it has masks.
    """
    recipe = open_recipe("neuraltalk-lstm", [*SMALL, *KINDS[kind]])
    torch.manual_seed(seed)
    model = CaptionModel(recipe.model, WIDTH, len(WORDS))
    model.recurrent.negative_slope = slope
    if isinstance(model.normalise, StandardNorm):
        model.normalise.fit(torch.from_numpy(features(50, seed=9)))
    masks = {}
    if density < 1:
        masks = {
            name: torch.rand_like(weight) < density
            for name, weight in model.named_parameters()
            if weight.ndim >= 2
        }
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                weight.mul_(3 if name.startswith("recurrent") else 4)
            if name in masks:
                weight.mul_(masks[name])
    encoder = {"name": "tiny", "pool": 1, "width": WIDTH}
    captioner = captioning.Captioner(model, recipe, Vocabulary(WORDS), encoder)
    captioner.masks = masks
    return captioner


def pack(captioner, info=None, **options):
    described = captioner_info(captioner) | (info or {})
    return pack_model(captioner.model, captioner.masks, info=described, **options)


def packed(captioner, info=None, **options):
    return Captioner(pack(captioner, info, **options).model(), "test model")
