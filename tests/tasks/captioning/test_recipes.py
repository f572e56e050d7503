"""The recipes in the package: their sizes, and each in miniature from photographs to a file."""

import math

import pytest
import torch
from small_tasks import SMALL

from growprune import GrowPrune, pipelines
from growprune.data import FeatureWriter, open_captions, open_features, open_image
from growprune.metrics import totals
from growprune.pipelines import ImageEncoder
from growprune.tasks import open_recipe, open_task, pack_run
from growprune.tasks.captioning import Captioner
from growprune.tasks.captioning.encoders import encoder_file
from growprune.tasks.captioning.model import CaptionModel
from growprune.training import save_local, train

WIDTH, WORDS = 1280, 2537  # of EfficientNet-Lite0's features, and in Flickr8k
STACKED = "neuraltalk-lstm-3"
MINIATURE = [
    *SMALL, "model.embedding_size=16", "model.recurrent.hidden_size=16", "training.batch_size=32",
    "training.epochs=4", "training.optimizer.learning_rate=1e-2",
]  # fmt: skip
GROWN = [
    "model.recurrent.gate_hidden_sizes=[16]", "plan.grow.epochs=1", "plan.grow.interval=5",
    "plan.prune.rounds=1", "plan.prune.final_density=0.2", "plan.shift.epochs=1",
]  # fmt: skip


def cost_of(name):
    """Weights and FLOPs of a recipe pruned from all that may grow, with nothing learnt."""
    recipe = open_recipe(name)
    torch.manual_seed(0)
    model = CaptionModel(recipe.model, WIDTH, WORDS)
    masks = {}
    if recipe.plan is not None:
        most = recipe.plan.grow.max_density or recipe.plan.seed_density
        plan = recipe.plan.model_copy(update={"seed_density": most})
        grow_prune = GrowPrune(model, torch.optim.Adam(model.parameters()), plan)
        for _ in range(recipe.plan.epochs):
            grow_prune.end_epoch(0.0)
        masks = grow_prune.masks
    return totals(model.operations(masks, words=10), "caption")


@pytest.mark.parametrize(("name", "layers"), [("neuraltalk-lstm-2", 2), (STACKED, 3)])
def test_stacked_lstms_have_layers_of_512(name, layers):
    cost = cost_of(name)
    connections = layers * 4 * 512 * (512 + 512)
    assert cost["flops_per_caption"]["recurrent"] == 11 * 2 * connections
    assert cost["weights"]["recurrent"] == connections + layers * 2 * 4 * 512
    ends = 512 * (WIDTH + 1) + 512 * WORDS + (512 + 1) * WORDS
    assert cost["weights"]["whole"] == cost["weights"]["recurrent"] + ends


@pytest.mark.parametrize(
    "name",
    [
        "neuraltalk-hlstm-small",
        "neuraltalk-hlstm-tiny",
        "neuraltalk-hlstm-merge",
        "neuraltalk-hlstm-tiny-merge",
    ],
)
def test_the_small_cell_is_a_small_part_of_stacked_lstms(name):
    small, stacked = cost_of(name), cost_of(STACKED)
    blocks = 2 * round(0.0875 * 64 * 512) + 4 * round(0.0875 * 32 * 256)
    assert small["flops_per_caption"]["recurrent"] == 11 * 2 * 16 * blocks
    assert stacked["weights"]["recurrent"] > 38.7 * small["weights"]["recurrent"]
    assert (
        stacked["flops_per_caption"]["recurrent"] > 45.5 * small["flops_per_caption"]["recurrent"]
    )


@pytest.mark.parametrize("name", ["neuraltalk-hlstm-tiny", "neuraltalk-hlstm-tiny-merge"])
def test_the_tiny_decoder_is_a_20th_of_stacked_lstms(name):
    tiny, stacked = (cost_of(recipe)["weights"]["whole"] for recipe in (name, STACKED))
    assert stacked > 20 * tiny


@pytest.fixture(scope="module")
def photographs(real_data, tmp_path_factory):
    """A corpus in the layout of MSCOCO, and the features of its photographs."""
    cache = tmp_path_factory.mktemp("encoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROWPRUNE_CACHE", str(cache))
        encoder = ImageEncoder(encoder_file())
    corpus = real_data / "coco_sample"
    features = FeatureWriter(
        cache / "features", encoder.width, {"name": encoder.name, "pool": encoder.pool}
    )
    for image in open_captions(corpus).split("all"):
        features.append([image.name], encoder.encode([open_image(image.path)]))
    return corpus, cache / "features"


@pytest.mark.parametrize(
    "name",
    [
        "neuraltalk-lstm",
        "neuraltalk-lstm-2",
        STACKED,
        "neuraltalk-hlstm-gp",
        "neuraltalk-hlstm-small",
        "neuraltalk-hlstm-tiny",
        "neuraltalk-lstm-merge",
        "neuraltalk-hlstm-merge",
        "neuraltalk-hlstm-tiny-merge",
        "neuraltalk-hlstm-large",
    ],
)
def test_a_recipe_is_trained_on_photographs_and_packed(photographs, tmp_path, name):
    """A grown one is grown, pruned and shifted."""
    corpus, features = photographs
    is_grown = open_recipe(name).plan is not None
    recipe = open_recipe(name, [*MINIATURE, *(GROWN if is_grown else [])])
    record = train(open_task(recipe, corpus, features, 0), tmp_path / "run", seed=0)
    assert sum(split["images"] for split in record["data"]["splits"].values()) == 100
    losses = [entry["train_loss"] for entry in record["epochs"]]
    assert losses == sorted(losses, reverse=True)
    assert record["scores"]["dev"]["loss"] < math.log(record["data"]["words"])
    if is_grown:
        phases = [entry["phase"] for entry in record["epochs"]]
        assert phases == ["grow", "prune", "shift", "retrain"]
        weights = record["cost"]["weights"]
        assert weights["recurrent"] < 0.5 * weights["recurrent_dense"]

    save_local(tmp_path / "run", {"data": str(corpus), "features": str(features), "seed": 0})
    pack_run(tmp_path / "run", layout="auto", weights="float32").save(tmp_path / "packed")
    names = [image.name for image in open_captions(corpus).split("all")][:20]
    rows = open_features(features).rows(names)
    trained, packed = (
        captioner.caption(rows)
        for captioner in (
            Captioner.from_run(tmp_path / "run"),
            pipelines.Captioner.load(tmp_path / "packed"),
        )
    )
    assert [caption.text for caption in packed] == [caption.text for caption in trained]
    log_probs = [caption.log_prob for caption in trained]
    assert [caption.log_prob for caption in packed] == pytest.approx(log_probs, abs=1e-3)
