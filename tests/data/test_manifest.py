import json

import pytest

from growprune.data import Corpus, Utterance, read_manifest, write_manifest
from growprune.errors import DataError


@pytest.fixture
def audio(tmp_path):
    path = tmp_path / "wav" / "a.wav"
    path.parent.mkdir()
    path.write_bytes(b"only the name matters here")
    return path


def manifest(tmp_path, *lines):
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_written_manifest_reads_back(tmp_path, audio):
    elsewhere = tmp_path / "elsewhere.wav"
    elsewhere.touch()
    utterances = (
        Utterance("a-1", audio, "HELLO WORLD", 1.25, "fash"),
        Utterance("b-2", elsewhere, "\u00c9T\u00c9"),
    )
    path = tmp_path / "lists" / "train.jsonl"
    write_manifest(path, utterances)
    assert read_manifest(path) == utterances


def test_paths_below_the_manifest_are_written_relative(tmp_path, audio):
    path = tmp_path / "train.jsonl"
    write_manifest(path, [Utterance("a", audio, "HELLO", 1.0)])
    assert json.loads(path.read_text()) == {
        "audio_filepath": "wav/a.wav",
        "text": "HELLO",
        "duration": 1.0,
        "id": "a",
    }
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    assert read_manifest(moved / "train.jsonl")[0].audio == moved / "wav" / "a.wav"
    moved.rename(tmp_path)


def test_lines_of_other_tools_are_read(tmp_path, audio):
    path = manifest(
        tmp_path,
        '{"audio_filepath": "wav/a.wav", "duration": 2, "text": "hello", "offset": 0, "x": "y"}',
        "",
        json.dumps({"audio_filepath": str(audio), "text": "again", "speaker": 7}),
    )
    first, second = read_manifest(path)
    assert first == Utterance("wav/a", audio, "hello", 2.0, None)
    assert (second.text, second.duration, second.speaker) == ("again", None, "7")
    assert second.audio == audio


GOOD = '{"audio_filepath": "wav/a.wav", "text": "HELLO"}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'audio_filepath': 1}", "not JSON"),
        ("[1, 2]", "a JSON list; each line must be an object"),
        ('{"text": "HELLO", "path": "a"}', "has no 'audio_filepath'; its keys are text, path"),
        ('{"audio_filepath": "wav/a.wav"}', "has no 'text'"),
        ('{"audio_filepath": "wav/a.wav", "text": "  "}', "'text' is '  '; it must be text"),
        ('{"audio_filepath": "wav/a.wav", "text": null}', "'text' is None"),
        ('{"audio_filepath": 5, "text": "HELLO"}', "'audio_filepath' is 5"),
        ('{"audio_filepath": "wav/b.wav", "text": "HELLO"}', "no audio file .*b.wav; correct"),
        (GOOD[:-1] + ', "duration": "long"}', "duration is 'long'"),
        (GOOD[:-1] + ', "duration": -1}', "duration is -1; it must be seconds above 0"),
        (GOOD[:-1] + ', "duration": NaN}', "duration is nan"),
        (GOOD[:-1] + ', "duration": true}', "duration is True"),
        (GOOD[:-1] + ', "offset": 1.5}', "offset is 1.5, but recordings are read whole"),
    ],
)
@pytest.mark.usefixtures("audio")
def test_bad_line_is_named_by_file_and_number(tmp_path, line, message):
    path = manifest(tmp_path, GOOD, line)
    with pytest.raises(DataError, match=f"^{path}:2: {message}") as caught:
        read_manifest(path)
    assert "\n" not in str(caught.value)


def test_missing_empty_or_binary_manifests_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl: cannot be read \(No such file"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"train\.jsonl: lists no utterance"):
        read_manifest(manifest(tmp_path, "", " "))
    (tmp_path / "train.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not UTF-8"):
        read_manifest(tmp_path / "train.jsonl")


def test_missing_split_is_named(audio):
    utterances = (Utterance("a", audio, "HELLO"),)
    corpus = Corpus("mine", {"train": utterances, "test": utterances})
    assert corpus.split("test") == utterances
    with pytest.raises(DataError, match="corpus mine has no dev split, only train, test"):
        corpus.split("dev")
