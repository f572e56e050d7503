"""Small untrained recognisers and sounds for them."""

import numpy as np
import torch

from growprune.pipelines import Recognizer
from growprune.tasks import speech
from growprune.tasks.speech.model import build_model
from growprune.tasks.speech.packing import pack_model, speech_info

SMALL = ["model.recurrent.hidden_size=24", "model.recurrent.gate_hidden_sizes=[16]"]


def talkative(recipe, density=0.5, seed=1):
    """An untrained recogniser with masks, whose outputs are far enough apart to spell a lot."""
    torch.manual_seed(seed)
    model = build_model(recipe)
    masks = {
        name: torch.rand_like(weight) < density
        for name, weight in model.named_parameters()
        if weight.ndim >= 2
    }
    with torch.no_grad():
        model.output.weight.mul_(30)
        for name, mask in masks.items():
            model.get_parameter(name).mul_(mask)
    recognizer = speech.Recognizer(model, recipe)
    recognizer.masks = masks
    return recognizer


def pack(recognizer, info=None, **options):
    described = speech_info(recognizer.model, recognizer.recipe) | (info or {})
    bands = recognizer.recipe.data.features.columns
    return pack_model(recognizer.model, bands, recognizer.masks, info=described, **options)


def packed(recognizer, info=None, **options):
    return Recognizer(pack(recognizer, info, **options).model(), "test model")


def speechlike(seconds, seed=0):
    """Noise whose colour and loudness change, so that a recogniser hears something happen."""
    rng = np.random.default_rng(seed)
    samples = int(16_000 * seconds)
    times = np.arange(samples) / 16_000
    pitch = 200 + 2000 * np.abs(np.sin(3 * times + seed))
    tone = np.sin(2 * np.pi * np.cumsum(pitch) / 16_000) * np.abs(np.sin(9 * times))
    return (0.3 * tone + 0.05 * rng.standard_normal(samples)).astype(np.float32)
