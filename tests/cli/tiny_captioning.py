"""An encoder of a few bytes, and what a captioner trained on it takes."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from growprune.data import open_captions
from growprune.data.scenes import make_scenes
from growprune.pipelines import ImageEncoder
from growprune.pipelines.image_encoder import METADATA

SIZE, POOL = 8, 2
WIDTH = 3 * POOL * POOL
SETTINGS = {"name": "tiny", "pool": POOL, "width": WIDTH, "size": SIZE, "mean": 0.5, "std": 0.25}

TINY = [
    "encoder.name=tiny", "encoder.pool=2", "data.least=1", "data.longest=12",
    "loss.self_critical_epochs=0", "loss.label_smoothing=0", "model.embedding_size=16",
    "model.recurrent.hidden_size=32", "model.recurrent.gate_hidden_sizes=[32]",
    "model.recurrent.gate_dropout=0", "model.dropout=0", "training.epochs=6",
    "training.threads=1", "training.optimizer.learning_rate=3e-2", "training.batch_size=8",
    "training.keep=last", "plan.grow.epochs=1", "plan.grow.interval=5", "plan.prune.rounds=1",
    "plan.shift.epochs=1",
]  # fmt: skip


def write_encoder(path, **changes):
    """An encoder whose features are the mean colours of a picture's quarters."""
    settings = SETTINGS | changes
    part = SIZE // POOL
    nodes = [
        helper.make_node(
            "AveragePool", ["images"], ["quarters"], kernel_shape=[part] * 2, strides=[part] * 2
        ),
        helper.make_node("Reshape", ["quarters", "shape"], ["features"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ("n", 3, SIZE, SIZE))
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ("n", WIDTH))
    shape = numpy_helper.from_array(np.array([-1, WIDTH], np.int64), "shape")
    graph = helper.make_graph(nodes, "tiny", [images], [features], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {METADATA: json.dumps(settings)})
    onnx.save(model, path)
    return path


def make_corpus(folder):
    """Scenes, and a table of their features by the tiny encoder."""
    corpus = open_captions(make_scenes(folder / "scenes", train=40, dev=5, test=6))
    encoder = ImageEncoder(write_encoder(folder / "tiny.onnx"))
    images = corpus.split("all")
    np.savez(
        folder / "features.npz",
        names=np.array([image.name for image in images]),
        features=np.stack([features_of(encoder, image.path) for image in images]),
    )
    return corpus


def features_of(encoder, path):
    from growprune.data import open_image

    return encoder.encode([open_image(path)])[0]
