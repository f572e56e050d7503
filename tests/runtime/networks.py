"""Networks made by hand, without torch."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from growprune import runtime
from growprune.runtime.graph import Node


class Network:
    """Collects nodes with random weights."""

    def __init__(self, features, takes_ids=False, seed=0):
        self.features, self.takes_ids = tuple(features), takes_ids
        self.nodes, self.matrices, self.vectors = [], {}, {}
        self.output = "input"
        self._rng = np.random.default_rng(seed)

    def numbers(self, *shape):
        return self._rng.uniform(-1, 1, shape).astype(np.float32)

    def matrix(self, name, rows, columns, layout="dense", density=0.5, int8=False):
        """Store a random sparse matrix; it is given back whole."""
        tile = 16 if layout == "blocks" else 1
        active = self._rng.random((-(-rows // tile), columns)) < density
        active = active.repeat(tile, axis=0)[:rows] | (layout == "dense")
        whole = self.numbers(rows, columns) * active
        values, scales = whole, np.ones((rows, 1), np.float32)
        if int8:
            scales = self._rng.uniform(0.01, 0.02, (rows, 1)).astype(np.float32)
            values = np.rint(whole * 50).astype(np.int8)
            whole = values * scales
        arrays = _stored(layout, values, active)
        if int8:
            arrays["scales"] = scales[:, 0]
        self.matrices[name] = runtime.StoredMatrix(
            layout, (rows, columns), int(active.sum()), arrays
        )
        return whole

    def add(self, name, op, inputs=None, parameters: Mapping = {}, **attributes):
        """Add a node that reads the last one; `parameters` gives sizes of what it takes."""
        stored = {}
        for role, size in parameters.items():
            stored[role] = f"{name}.{role}"
            if isinstance(size, tuple):
                self.matrix(stored[role], *size)
            else:
                self.vectors[stored[role]] = self.numbers(size)
        self.nodes.append(Node(name, op, tuple(inputs or [self.output]), attributes, stored))
        self.output = name
        return name

    def convolution(self, name, features, channels, kernel, stride=1, padding=(0, 0), **more):
        return self.add(
            name,
            "convolution",
            parameters={
                "weight": (channels, kernel * features, *more.pop("matrix", ())),
                "bias": channels,
            },
            kernel=[kernel],
            stride=[stride],
            dilation=[more.pop("dilation", 1)],
            padding=[list(padding)],
        )

    def lstm(self, name, features, hidden, reverse=False, inputs=None, matrix=()):
        return self.add(
            name,
            "lstm",
            inputs,
            {"ih": (4 * hidden, features, *matrix), "hh": (4 * hidden, hidden), "bias": 4 * hidden},
            reverse=reverse,
            slope=0.0,
            depths=[0, 0, 0, 0],
        )

    def gru(self, name, features, hidden, reverse=False):
        sizes = {"ih": (3 * hidden, features), "hh": (3 * hidden, hidden)}
        return self.add(
            name,
            "gru",
            None,
            sizes | {"bias": 3 * hidden, "bias_new": hidden},
            reverse=reverse,
        )

    def packed(self, output=None, info=None):
        return runtime.PackedModel(
            features=self.features,
            takes_ids=self.takes_ids,
            nodes=tuple(self.nodes),
            output=output or self.output,
            matrices=self.matrices,
            vectors=self.vectors,
            info=info or {},
        )

    def model(self):
        return runtime.build(self.packed(), "test")


def _stored(layout, values, active):
    rows, columns = values.shape
    if layout == "dense":
        return {"values": values}
    if layout == "csr":
        starts = np.cumsum([0, *active.sum(axis=1)]).astype(np.int32)
        found = np.nonzero(active)[1].astype(np.int32)
        return {"starts": starts, "columns": found, "values": values[active]}
    filled = np.pad(values, ((0, -rows % 16), (0, 0))).reshape(-1, 16, columns)
    places, panels = np.nonzero(active[::16].T)
    starts = np.cumsum([0, *active[::16].sum(axis=0)]).astype(np.int32)
    blocks = np.ascontiguousarray(filled[panels, :, places])
    return {"starts": starts, "panels": panels.astype(np.int32), "values": blocks}


def everything(seed=0):
    """A streamable network with every layout, int8, joins, and most operations."""
    net = Network([6], seed=seed)
    net.convolution("ahead", 6, 5, 3, stride=2, padding=(1, 1), matrix=("csr", 0.4))
    net.add("norm", "layer_norm", None, {"weight": 5, "bias": 5}, epsilon=1e-5)
    net.add("relu", "relu")
    left = net.lstm("lstm", 5, 20, matrix=("blocks", 0.6))
    net.output = "relu"
    net.gru("gru", 5, 20)
    net.add("sum", "add", [left, "gru"])
    net.add("both", "concatenate", ["sum", "relu"])
    net.add("wide", "linear", None, {"weight": (33, 25, "blocks", 0.5, True), "bias": 33})
    net.add("leaky", "leaky_relu", slope=0.1)
    net.add("grid", "reshape", features=[11, 3])
    net.add("turned", "permute", order=[1, 0])
    net.add("flat", "reshape", features=[33])
    net.add("scaled", "affine", None, {"scale": 33, "shift": 33})
    net.add("out", "linear", None, {"weight": (4, 33, "csr", 0.5, True), "bias": 4})
    net.add("scores", "log_softmax")
    return net


def with_parts(info=None):
    """A network with two parts: one reads ids, by a table that the network multiplies by."""
    net = Network([5])
    net.lstm("lstm", 5, 5)
    net.add("out", "linear", None, {"weight": (9, 5), "bias": 9})
    words = Network([], takes_ids=True)
    words.add("embedding", "embedding")
    words.nodes[-1].parameters["weight"] = "out.weight"
    words.matrices["out.weight"] = net.matrices["out.weight"]
    image = Network([7], seed=1)
    image.add("image", "linear", None, {"weight": (5, 7, "csr"), "bias": 5})
    parts = {"words": words.packed(), "image": image.packed()}
    return replace(net.packed(info=info), parts=parts)
