"""Records of runs that never were."""


def a_record(recipe, seed, wer, **changes):
    """Of one seed, with an error rate on dev and a better one on test."""
    return {
        "format": 1, "name": "x", "task": "speech", "recipe": recipe, "seed": seed, "commit": "ab",
        "dirty": False, "versions": {}, "data": {"name": "tones", "splits": {}},
        "hardware": {"cpu": "c", "threads": 1, "device": "cpu"}, "seconds": 120 * (seed + 1),
        "epochs": [
            {"epoch": 1, "phase": "dense", "train_loss": 9.0},
            {"epoch": 2, "phase": "dense", "train_loss": 1.0 + seed},
        ],
        "matrices": [],
        "cost": {
            "weights": {"recurrent": 1500, "whole": 2500, "recurrent_dense": 0, "whole_dense": 0}
        },
        "scores": {"dev": {"wer": wer, "cer": wer / 2}, "test": {"wer": 0.77, "cer": 0.77}},
    } | changes  # fmt: skip
