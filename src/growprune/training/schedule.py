"""Learning rates as pure functions of the step."""

import math

from growprune.training.recipe import OptimizerSettings


def learning_rate(
    settings: OptimizerSettings, step: int, steps_per_epoch: int, epochs: int
) -> float:
    """The rate for optimizer step number `step` (from 0) of a run of `epochs` epochs."""
    peak = settings.learning_rate
    if settings.schedule == "constant":
        return peak
    if settings.schedule == "exponential":
        return peak / settings.anneal ** (step // steps_per_epoch)
    total = steps_per_epoch * (epochs - settings.final_epochs)
    rising = settings.warmup * total
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    fallen = (step - rising) / max(total - rising, 1)
    low = settings.final_scale
    return peak * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(fallen, 1.0))))
