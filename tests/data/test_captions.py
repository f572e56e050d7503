"""Every layout of captioned images gives the same corpus, and every mistake a line."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growprune.data.captions import CaptionCorpus, CaptionedImage, open_captions
from growprune.data.captions.corpus import split_by_hash
from growprune.errors import DataError

ROWS = [
    ("dog.jpg", "train", ["A dog runs.", "A brown dog, running."]),
    ("cat.jpg", "train", ["The cat sleeps."]),
    ("bus.jpg", "val", ["A red bus."]),
    ("sea.jpg", "test", ["The sea.", "Waves."]),
]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def karpathy(rows=ROWS, **keys):
    return {
        "images": [
            {"filename": name, "split": split, "sentences": [{"raw": text} for text in texts]}
            | keys
            for name, split, texts in rows
        ]
    }


def coco(rows=ROWS):
    images = [{"id": number, "file_name": name} for number, (name, _, _) in enumerate(rows)]
    annotations = [
        {"image_id": number, "caption": text, "id": 100 * number}
        for number, (_, _, texts) in enumerate(rows)
        for text in texts
    ]
    return {"info": {}, "images": images, "annotations": annotations[::-1]}


def told(corpus):
    """Names and captions of every split."""
    return {
        split: [(image.name, list(image.captions)) for image in images]
        for split, images in corpus.splits.items()
    }


WANTED = {
    "train": [(name, texts) for name, split, texts in ROWS if split == "train"],
    "dev": [("bus.jpg", ["A red bus."])],
    "test": [("sea.jpg", ["The sea.", "Waves."])],
}


def fails(path, *parts):
    with pytest.raises(DataError) as caught:
        open_captions(path)
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


def test_karpathys_layout(tmp_path):
    path = write(tmp_path / "dataset_small.json", karpathy())
    for source in (path, str(path), tmp_path):
        corpus = open_captions(source)
        assert told(corpus) == WANTED
        assert (corpus.name, corpus.folder) == ("small", tmp_path)
        assert corpus.split("train")[0] == CaptionedImage(
            "dog.jpg", None, ("A dog runs.", "A brown dog, running.")
        )


def test_karpathys_splits_and_tokens(tmp_path):
    rows = [("a", "train", ["x"]), ("b", "restval", ["x"]), ("c", "val", ["x"])]
    content = karpathy([*rows, ("d", "unassigned", ["x"]), ("e", " Test ", ["x"])])
    content["images"][0]["sentences"] = [{"tokens": ["a", "dog"]}, {"raw": "R", "tokens": ["t"]}]
    corpus = open_captions(write(tmp_path / "dataset.json", content))
    assert told(corpus) == {
        "train": [("a", ["a dog", "R"]), ("b", ["x"])],
        "dev": [("c", ["x"])],
        "test": [("e", ["x"])],
    }


def test_rows_of_a_table(tmp_path):
    lines = [(name, text, split) for name, split, texts in ROWS for text in texts]
    lines.append(lines.pop(1))  # an image's captions need not stand together
    table = "\ufefffile,caption,split\r\n" + "".join(
        f'{name},"{text}",{split}\r\n' for name, text, split in lines
    )
    corpus = open_captions(write(tmp_path / "captions_own.csv", table))
    assert told(corpus) == WANTED
    assert corpus.name == "own"
    rows = "\n\n".join(
        json.dumps({"image": name, "text": text, "split": split}) for name, text, split in lines
    )
    assert told(open_captions(write(tmp_path / "x" / "own.jsonl", rows))) == WANTED
    assert told(open_captions(tmp_path / "x")) == WANTED


def test_pictures_are_found_beside_the_file_and_where_it_says(tmp_path):
    rows = [(name, "train", ["x"]) for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")]
    content = karpathy(rows)
    content["images"][2]["filepath"] = content["images"][3]["filepath"] = "val2014"
    path = write(tmp_path / "dataset.json", content)
    wanted = [
        picture(tmp_path / place)
        for place in ("a.jpg", "images/b.jpg", "val2014/c.jpg", "images/val2014/d.jpg")
    ]
    found = [image.path for image in open_captions(path).split("train")]
    assert found == [*wanted, None]


def test_mscocos_folder(tmp_path):
    train, val = coco(ROWS[:2]), coco([(f"v{i}.jpg", None, ["x"]) for i in range(40)])
    write(tmp_path / "coco" / "annotations" / "captions_train2014.json", train)
    write(tmp_path / "coco" / "annotations" / "captions_val2014.json", val)
    dog = picture(tmp_path / "coco" / "train2014" / "dog.jpg")
    first = picture(tmp_path / "coco" / "val2014" / "v0.jpg")
    corpus = open_captions(tmp_path / "coco")
    assert corpus.name == "coco"
    assert {split: len(images) for split, images in corpus.splits.items()}["train"] == 2
    assert corpus.split("train")[0] == CaptionedImage(
        "dog.jpg", dog, ("A brown dog, running.", "A dog runs.")
    )
    halves = {split: {image.name for image in corpus.split(split)} for split in ("dev", "test")}
    assert halves["dev"] | halves["test"] == {f"v{i}.jpg" for i in range(40)}
    assert 8 <= len(halves["dev"]) == 40 - len(halves["test"]) <= 32
    for split, names in halves.items():
        for name in names:
            digest = hashlib.sha256(name.encode()).digest()
            assert ("dev", "test")[digest[7] % 2] == split
    assert {image.path for image in corpus.split("all")} == {dog, first, None}
    # One file by itself, and Karpathy's file, which is preferred for its splits.
    alone = open_captions(tmp_path / "coco" / "annotations" / "captions_train2014.json")
    assert told(alone) == {"train": told(corpus)["train"]}
    assert (alone.name, alone.folder) == ("train2014", tmp_path / "coco")
    write(tmp_path / "coco" / "dataset_coco.json", karpathy())
    assert told(open_captions(tmp_path / "coco")) == WANTED


def test_without_splits_names_decide(tmp_path):
    names = [f"{number}.jpg" for number in range(300)]
    table = "file,caption\n" + "".join(f"{name},a dog\n" for name in names)
    corpus = open_captions(write(tmp_path / "own.csv", table))
    assert sorted(image.name for image in corpus.split("all")) == sorted(names)
    counts = {split: len(images) for split, images in corpus.splits.items()}
    assert 210 < counts["train"] < 265
    assert min(counts["dev"], counts["test"]) > 15
    shuffled = "file,caption\n" + "".join(f"{name},a dog\n" for name in reversed(names))
    other = open_captions(write(tmp_path / "x" / "own.csv", shuffled))
    for split, images in corpus.splits.items():
        assert {image.name for image in images} == {image.name for image in other.split(split)}


def test_shares_are_kept_and_splits_by_hash_never_change():
    counts = Counter(split_by_hash(str(i), {"train": 8, "dev": 1, "test": 1}) for i in range(5000))
    assert counts["train"] == pytest.approx(4000, abs=5 * (5000 * 0.8 * 0.2) ** 0.5)
    assert counts["dev"] == pytest.approx(500, abs=5 * (5000 * 0.1 * 0.9) ** 0.5)
    shares = {"train": 8, "dev": 1, "test": 1}
    assert [split_by_hash(name, shares) for name in ("dog.jpg", "two.jpg")] == ["train", "test"]


def test_a_split_that_is_not_there_is_named(tmp_path):
    corpus = CaptionCorpus("small", tmp_path, {"train": (), "test": ()})
    with pytest.raises(DataError, match=r"corpus small in .* has no dev split, only train, test"):
        corpus.split("dev")


def one(**keys):
    return karpathy([("a.jpg", "train", ["x"])], **keys)


def annotated(**keys):
    return coco() | {"annotations": [keys]}


TWINS = [{"id": 3, "file_name": "a.jpg"}, {"id": 3, "file_name": "b.jpg"}]
MISTAKES = {
    "twice": (karpathy([*ROWS, ROWS[0]]), "lists image dog.jpg twice"),
    "no caption": (one(sentences=[]), "image a.jpg has no caption"),
    "empty": (one(sentences=[{"raw": "x"}, {"raw": " \n"}]), "image a.jpg has an empty caption"),
    "split": (one(split="trial"), "image a.jpg is in a split 'trial'; known are train"),
    "none used": (one(split="unassigned"), "lists no image with captions"),
    "name": (one(filename=7), "image 0: 'filename' is 7; it must be text"),
    "no name": (one(filename=" "), "lists an image without a file name"),
    "caption for name": (one(filename=60 * "a dog "), "cannot be looked for (File name too long)"),
    "split number": (one(split=7), "image 0: 'split' is 7"),
    "folder": (one(filepath=3), "image 0: 'filepath' is 3"),
    "sentences": (one(sentences="x"), "image a.jpg: has no list 'sentences'"),
    "sentence": (one(sentences=["x"]), "image a.jpg: entry 0 of sentences: is a str"),
    "tokens": (one(sentences=[{"tokens": [1]}]), "has a sentence with neither 'raw' nor 'tokens'"),
    "raw": (one(sentences=[{"raw": None}]), "image a.jpg: 'raw' is None"),
    "unlisted": (annotated(image_id=9, caption="x"), "a caption is of image 9, which is not"),
    "image_id": (annotated(image_id=[1], caption="x"), "a caption: 'image_id' is [1]; it must be"),
    "no annotation": (coco() | {"annotations": []}, "image dog.jpg has no caption"),
    "no file_name": (coco() | {"images": [{"id": 3}]}, "'file_name' is None"),
    "id": (coco() | {"images": [{"id": {}, "file_name": "a.jpg"}]}, "image a.jpg: 'id' is {}"),
    "id twice": (coco() | {"images": TWINS}, "images a.jpg and b.jpg have the same id 3"),
    "caption": (annotated(image_id=0, caption=5), "image dog.jpg: 'caption' is 5"),
    "other layout": ({"images": []}, "neither Karpathy's layout"),
    "images no list": ({"images": 5, "annotations": []}, "has no list 'images'"),
    "list": ([], "is a list; it must be a JSON object"),
    "names only": ({"images": ["a.jpg"]}, "neither Karpathy's layout"),
    "names only in COCO": ({"images": ["a.jpg"], "annotations": []}, "entry 0 of images: is a str"),
    "not JSON": ('{"images": [', "not JSON ("),
    "nested": ("[" * 200_000, "not JSON ("),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, mistake):
    content, line = MISTAKES[mistake]
    path = write(tmp_path / "dataset_x.json", content)
    fails(path, str(path), line)


TABLES = {
    "": "lists no image with captions",
    "file,caption\n": "lists no image with captions",
    "picture,caption\na.jpg,x\n": ":2: no 'file' or 'file_name'",
    "file,words\na.jpg,x\n": ":2: no 'caption' or 'text' among the columns file, words",
    "file,caption\na.jpg,A dog, running\n": ":2: more columns than the first line",
    "file,caption\na.jpg\n": ":2: 'caption' is None",
    "file,caption\na.jpg,x\nb.jpg,  \n": ":3: an empty file name or caption",
    "file,caption\n,x\n": ":2: an empty file name or caption",
    'file,caption\na.jpg,"x\n': "not CSV (",
    "file,caption,split\na.jpg,x,train\na.jpg,y,test\n":
        ":3: a.jpg is in split 'test', above in 'train'",
    "file,caption,split\na.jpg,x,learn\n": "image a.jpg is in a split 'learn'",
}  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_a_wrong_row_is_named_with_its_line(tmp_path, table):
    path = write(tmp_path / "own.csv", table)
    fails(path, str(path), TABLES[table])


def test_a_wrong_json_line_is_named(tmp_path):
    path = write(tmp_path / "own.jsonl", '{"file": "a", "caption": "x"}\n{"file": "b", ')
    fails(path, f"{path}:2: not JSON (")
    write(path, '{"file": "a", "caption": "x"}\n[]')
    fails(path, f"{path}:2: is a list")


def test_what_is_not_there_is_named(tmp_path):
    fails(tmp_path / "none.json", "none.json: cannot be read (No such file", "check the path")
    fails(tmp_path, "no captions in it; looked for dataset*.json")
    (tmp_path / "dataset.json").write_bytes(b"\xff\xfe{")
    fails(tmp_path, "is not UTF-8 text")
    write(tmp_path / "dataset_b.json", karpathy())
    fails(tmp_path, "holds several lists of captions (dataset.json, dataset_b.json); name one")


KEYS = "images annotations sentences id file_name image_id caption filename raw tokens split"
LEAVES = st.none() | st.booleans() | st.integers(-1, 3) | st.text("ab ", max_size=3)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(ANYTHING)
def test_whatever_json_a_file_holds_it_is_read_or_named(tmp_path_factory, value):
    path = write(tmp_path_factory.getbasetemp() / "captions_fuzz.json", value)
    try:
        corpus = open_captions(path)
    except DataError as error:
        line = str(error)
    else:
        assert corpus.split("all")
        return
    assert line.startswith(str(path))
    assert "\n" not in line


def test_flickr8k_has_its_official_splits(real_data):
    corpus = open_captions(real_data / "flickr8k")
    counts = {split: len(images) for split, images in corpus.splits.items()}
    assert counts == {"train": 6000, "dev": 1000, "test": 1000}
    assert all(len(image.captions) == 5 for image in corpus.split("all"))
    for split in ("dev", "test"):
        assert all(image.path and image.path.is_file() for image in corpus.split(split))
    assert corpus.name == "flickr8k"


def test_the_sample_of_mscoco_is_read_whole(real_data):
    corpus = open_captions(real_data / "coco_sample")
    images = corpus.split("all")
    assert len(images) == 100
    assert all(image.path and image.path.is_file() for image in images)
    assert all(len(image.captions) >= 5 for image in images)
    by_name = {image.name: image for image in images}
    bears = by_name["000000000776.jpg"].captions
    assert bears[0] == "Three teddy bears, each a different color, snuggling together."
    assert isinstance(corpus.folder, Path)
