from pathlib import Path

import numpy as np
import pytest
import soundfile

from growprune.data import Alphabet, Utterance, check_utterances, frames_needed
from growprune.errors import DataError

LETTERS = Alphabet(" ABC")


def test_ctc_needs_a_blank_between_equal_letters():
    assert frames_needed([]) == 0
    assert frames_needed([1, 2, 3]) == 3
    assert frames_needed([1, 1, 2, 2, 2]) == 8


@pytest.mark.parametrize(("rate", "fits"), [(25, True), (8, True), (7.9, False)])
def test_recording_must_be_long_enough_for_its_letters(rate, fits):
    # "AAB C" needs 6 frames; 0.75 s at 8 a second are just 6.
    utterances = [Utterance("a", Path("a.wav"), "AAB C", 0.75)]
    if fits:
        check_utterances(utterances, LETTERS, rate)
    else:
        with pytest.raises(DataError, match=r"a\.wav: 0\.75 s give 5 frames, .* 'AAB C' needs 6"):
            check_utterances(utterances, LETTERS, rate)


def test_unknown_duration_is_read_from_the_file(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(1600), 16_000)
    check_utterances([Utterance("a", path, "AB")], LETTERS, 25)
    with pytest.raises(DataError, match=r"0\.10 s give 2 frames"):
        check_utterances([Utterance("a", path, "ABC")], LETTERS, 25)


def test_first_offenders_and_their_number_are_told():
    good = Utterance("a", Path("a.wav"), "ABC", 1.0)
    bad = [Utterance(str(k), Path(f"bad{k}.wav"), "A B, C", 1.0) for k in range(5)]
    with pytest.raises(DataError, match="5 of 6 utterances cannot be used: ") as caught:
        check_utterances([good, *bad], LETTERS, 25)
    message = str(caught.value)
    assert [f"bad{k}.wav: transcript 'A B, C' has ','" in message for k in range(5)] == (
        [True, True, True, False, False]
    )
    assert message.endswith("(and 2 more)")
    assert "\n" not in message
