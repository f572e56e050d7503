from growprune.metrics import Evaluation, Transcript


def test_scores_by_hand():
    found = Evaluation.of(
        [Transcript("a", "GO ON", "GO IN"), Transcript("b", "STOP", "STOP NOW")],
    )
    assert found.scores == {"wer": 2 / 3, "cer": 5 / 9}
    assert (found.words.substitutions, found.words.insertions) == (1, 1)
    assert [row.name for row in found.transcripts] == ["a", "b"]
