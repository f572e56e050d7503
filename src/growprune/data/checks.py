"""Checks that are cheaper before training than after an hour of it."""

from collections.abc import Sequence
from itertools import pairwise

from growprune.data.alphabet import Alphabet
from growprune.data.audio import audio_seconds
from growprune.data.manifest import Utterance
from growprune.errors import DataError

_SHOWN = 3


def check_utterances(
    utterances: Sequence[Utterance], alphabet: Alphabet, output_frames_per_second: float
) -> None:
    """Check that every transcript can be written and every recording is long enough for it.

    Args:
        utterances: What a model is going to be trained on or tested with.
        alphabet: The letters the model writes.
        output_frames_per_second: Frames that the model puts out a second, after its subsampling.

    Raises:
        DataError: naming the first offending files, why, and how many there are.
    """
    problems = [
        problem
        for utterance in utterances
        if (problem := _problem(utterance, alphabet, output_frames_per_second))
    ]
    if problems:
        more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
        raise DataError(
            f"{len(problems)} of {len(utterances)} utterances cannot be used: "
            f"{'; '.join(problems[:_SHOWN])}{more}"
        )


def frames_needed(numbers: Sequence[int]) -> int:
    """Fewest frames CTC can write a transcript in: one a letter, one more between equal ones."""
    return len(numbers) + sum(first == second for first, second in pairwise(numbers))


def _problem(utterance: Utterance, alphabet: Alphabet, rate: float) -> str | None:
    try:
        needed = frames_needed(alphabet.encode(utterance.text))
    except DataError as error:
        return f"{utterance.audio}: {error}"
    seconds = utterance.duration or audio_seconds(utterance.audio)
    frames = int(seconds * rate)
    if frames < needed:
        return (
            f"{utterance.audio}: {seconds:.2f} s give {frames} frames, but its transcript "
            f"{utterance.text!r} needs {needed}; correct the transcript, leave it out, or "
            "subsample less"
        )
    return None
