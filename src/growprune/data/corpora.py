"""Which corpora are known, and how any corpus is opened and prepared."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from growprune.data.alphabet import Alphabet
from growprune.data.an4 import download_an4, is_an4, read_an4
from growprune.data.audio import SAMPLE_RATE, load_audio
from growprune.data.manifest import Corpus, Utterance, read_manifest, write_manifest
from growprune.data.spoken import make_corpus
from growprune.errors import DataError

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class KnownCorpus:
    """What a user wants to know before fetching a corpus.

    Attributes:
        name: What commands call it.
        what: Its contents in one line.
        licence: Terms of use.
        source: How to get it.
        by_hand: What to fetch and where to put it, a step a line, where that is not done here.
    """

    name: str
    what: str
    licence: str
    source: str
    by_hand: tuple[str, ...] = ()


_KARPATHY = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"


CORPORA = (
    KnownCorpus(
        name="an4",
        what="CMU AN4: 1,078 utterances of spelled names, numbers and dates, 48 minutes, English",
        licence="free for any use, see its LICENSE file",
        source="downloaded from CMU (64 MB) by `growprune data prepare an4`",
    ),
    KnownCorpus(
        name="spoken",
        what="synthetic speech of AN4's kind, many voices, any amount, exactly reproducible",
        licence="yours: it is made on your machine, by eSpeak NG",
        source="synthesised by `growprune data prepare spoken`; the demo makes its own",
    ),
    KnownCorpus(
        name="coco",
        what="MSCOCO 2014: 123,287 photographs with five sentences or more each, English",
        licence="sentences CC BY 4.0; photographs under their Flickr licences",
        source="fetched by hand (20 GB), see below",
        by_hand=(
            "http://images.cocodataset.org/zips/train2014.zip"
            " (MD5 0da8c0bd3d6becc4dcb32757491aca88)",
            "http://images.cocodataset.org/zips/val2014.zip (MD5 a3d79f5ed8d289b7a7554ce06a5782b3)",
            "http://images.cocodataset.org/annotations/annotations_trainval2014.zip"
            " (MD5 0a379cfc70b0e71301e0f377548639bd)",
            "unpack them into a folder coco: annotations/, train2014/, val2014/",
            f"for the usual splits, dataset_coco.json of {_KARPATHY} goes into coco, too",
            "then growprune data features coco -o coco-features",
        ),
    ),
    KnownCorpus(
        name="flickr8k",
        what="Flickr8k: 8,091 photographs with five sentences each, English",
        licence="research and education only; cite Hodosh, Young, Hockenmaier 2013",
        source="fetched by hand (1 GB), see below",
        by_hand=(
            "ask for Flickr8k_Dataset.zip at https://forms.illinois.edu/sec/1713398; no checksum "
            "is published",
            "its photographs go into flickr8k/images/",
            f"dataset_flickr8k.json of {_KARPATHY} goes into flickr8k",
            "then growprune data features flickr8k -o flickr8k-features",
        ),
    ),
)


def open_corpus(folder: str | Path) -> Corpus:
    """Open AN4's official folder, or a folder of `train.jsonl`, `dev.jsonl`, `test.jsonl`.

    Not every manifest need be there: evaluation, say, needs only the split it reads.

    Raises:
        DataError: the folder is neither, or a file in it cannot be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; name a folder with AN4's layout or with manifests, or run "
            "`growprune data list` to see what can be downloaded"
        )
    for candidate in (folder, folder / "an4"):
        if is_an4(candidate):
            return read_an4(candidate)
    manifests = {split: folder / f"{split}.jsonl" for split in SPLITS}
    found = {split: path for split, path in manifests.items() if path.is_file()}
    if not found:
        raise DataError(
            f"{folder}: no corpus in it; looked for etc/an4_train.fileids (AN4) and for "
            f"{', '.join(path.name for path in manifests.values())}; name another folder or write "
            "manifests there"
        )
    return Corpus(
        name=folder.resolve().name,
        splits={split: read_manifest(path) for split, path in found.items()},
    )


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    alphabet: Alphabet | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Corpus:
    """Check every recording of a corpus and write its manifests to `out`.

    Args:
        source: A folder that `open_corpus` reads, or the name of a known corpus to fetch into
            a folder of that name in `out`.
        out: Folder for the manifests, one per split, with durations.
        alphabet: If given, transcripts must be written in it.
        progress: Called with what is done and what there is to do, first while fetching (bytes,
            or utterances made), then while checking (recordings).

    Returns:
        The corpus as it was written.

    Raises:
        DataError: a recording or transcript cannot be used. No manifest is written then.
    """
    out = Path(out)
    corpus = open_corpus(_folder(source, out, progress))
    total = sum(map(len, corpus.splits.values()))
    splits: dict[str, tuple[Utterance, ...]] = {}
    for split, utterances in corpus.splits.items():
        done = sum(map(len, splits.values()))
        checked = []
        for number, utterance in enumerate(utterances, start=done + 1):
            checked.append(_checked(utterance, alphabet))
            if progress:
                progress(number, total)
        splits[split] = tuple(checked)
    for split, utterances in splits.items():
        write_manifest(out / f"{split}.jsonl", utterances)
    return Corpus(corpus.name, splits)


def _folder(
    source: str | Path, out: Path, progress: Callable[[int, int | None], None] | None
) -> Path:
    if Path(source).is_dir():
        return Path(source)
    if str(source) == "an4":
        return download_an4(out / "an4", progress)
    if str(source) == "spoken":
        make_corpus(out / "spoken", progress=progress)
        return out / "spoken"
    for corpus in CORPORA:
        if corpus.name == str(source):
            raise DataError(
                f"{corpus.name} is fetched by hand and needs no preparing: "
                f"{'; '.join(corpus.by_hand)}"
            )
    raise DataError(
        f"{source}: neither a folder nor a known corpus; known are "
        f"{', '.join(corpus.name for corpus in CORPORA)}"
    )


def _checked(utterance: Utterance, alphabet: Alphabet | None) -> Utterance:
    """The utterance with its true duration, its audio read whole and its letters known."""
    if alphabet is not None:
        try:
            alphabet.encode(utterance.text)
        except DataError as error:
            raise DataError(f"{utterance.audio}: {error}") from error
    samples = load_audio(utterance.audio)
    return replace(utterance, duration=round(len(samples) / SAMPLE_RATE, 4))
