"""A packed model's latency, layer by layer and whole, beside other engines'."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from growprune import runtime
from growprune.bench import torch_network
from growprune.bench.engines import missing, onnxruntime_session, openvino_request, quantised
from growprune.bench.lstm import Array
from growprune.bench.onnx_network import network, whole
from growprune.metrics import Seconds, by_turns
from growprune.runtime import PackedModel, StoredMatrix
from growprune.runtime.checks import checked_shapes
from growprune.runtime.graph import Node

OURS = "growprune"
DENSE = "growprune, dense"
PLAIN = "onnxruntime, plain LSTM"
"""For an H-LSTM: a dense LSTM of as many inputs and units, without the gates' own layers."""
ENGINES = {
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime", "onnx"),
    "OpenVINO": ("openvino", "onnx"),
}
"""Packages that each of the others takes."""
_CLOSE = 1e-3
"""Float32 engines differ by less than this, relative to the largest output."""


@dataclass(frozen=True)
class Part:
    """A node with weights as a network of its own, or the whole.

    Attributes:
        name: of the node; `whole model`, or `main network` where networks stand beside it.
        kind: of the node, such as `lstm`.
        packed: the network.
    """

    name: str
    kind: str
    packed: PackedModel

    @property
    def active(self) -> int:
        """Connections kept."""
        return sum(matrix.active for matrix in self.packed.matrices.values())

    @property
    def connections(self) -> int:
        """Connections if dense."""
        return sum(rows * columns for rows, columns in self._shapes())

    @property
    def nbytes(self) -> int:
        """Bytes of matrices and vectors."""
        return self.packed.nbytes

    def _shapes(self) -> list[tuple[int, int]]:
        return [matrix.shape for matrix in self.packed.matrices.values()]


@dataclass(frozen=True)
class Figures:
    """What one part costs in every engine.

    Attributes:
        part: the part.
        time: steps of the sequence.
        seconds: for a step, by engine.
        differences: of each engine's outputs from ours, relative to the largest output; none of
            `PLAIN`, which computes something else.
    """

    part: Part
    time: int
    seconds: dict[str, Seconds]
    differences: dict[str, float]

    def ratio(self, engine: str) -> float:
        """How many times as long as ours an engine takes."""
        return self.seconds[engine].median / self.seconds[OURS].median

    def differs(self, engine: str) -> bool:
        """Whether an engine computed something else; int8 weights may."""
        return "int8" not in engine and self.differences.get(engine, 0.0) > _CLOSE

    def record(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return {
            "part": self.part.name,
            "kind": self.part.kind,
            "active": self.part.active,
            "connections": self.part.connections,
            "bytes": self.part.nbytes,
            "time": self.time,
            "seconds_per_step": {name: asdict(found) for name, found in self.seconds.items()},
            "differences": self.differences,
        }


def parts(packed: PackedModel) -> list[Part]:
    """Every node with matrices, in order, those of the networks beside it, and the whole."""
    networks = (*packed.parts.values(), packed)
    nodes = [part for network in networks for part in _nodes(network)]
    name = "main network" if packed.parts else "whole model"
    return [*nodes, Part(name, "", replace(packed, parts={}))]


def _nodes(packed: PackedModel) -> Iterator[Part]:
    shapes = checked_shapes(packed)
    for node in packed.nodes:
        if any(stored in packed.matrices for stored in node.parameters.values()):
            source = shapes[node.inputs[0]]
            if source.clock is not None:
                yield Part(node.name, node.op, _alone(packed, node, source.features))


def measure(part: Part, time: int, rounds: int) -> Figures:
    """Time a part at batch 1 on sequences of `time` steps, in all engines by turns."""
    model = runtime.build(part.packed, part.name)
    time = max(time, model.least_steps)
    x = _input(part.packed, time)
    wanted = model.run(x)[0]
    calls: dict[str, Callable[[], Array]] = {OURS: lambda: model.run(x)[0]}
    calls |= dict(_others(part.packed, x))
    size = max(float(np.abs(wanted).max()), 1e-6)
    differences = {
        name: float(np.abs(call() - wanted).max()) / size
        for name, call in calls.items()
        if name != PLAIN
    }
    per_step = {
        name: Seconds(*(s / time for s in (found.median, found.low, found.high)))
        for name, found in by_turns(calls, rounds=rounds).items()
    }
    return Figures(part, time, per_step, differences)


def _others(packed: PackedModel, x: Array) -> Iterator[tuple[str, Callable[[], Array]]]:
    dense = runtime.build(_dense(packed), DENSE)
    yield DENSE, lambda: dense.run(x)[0]
    if not missing(*ENGINES["torch"]):
        module = torch_network.network(packed)
        yield "torch", lambda: module(x)
    if not missing(*ENGINES["onnxruntime"]):
        for name, model in (("", network(packed)), (" int8", quantised(network(packed)))):
            session = onnxruntime_session(model)
            yield f"onnxruntime{name}", partial(_run_onnxruntime, session, x)
        if any(packed.nodes[0].attributes.get("depths", ())) and len(packed.nodes) == 1:
            plain = onnxruntime_session(network(_plain_lstm(packed)))
            yield PLAIN, partial(_run_onnxruntime, plain, x)
    if not missing(*ENGINES["OpenVINO"]):
        request = openvino_request(network(packed))
        yield "OpenVINO", lambda: request.infer([x])[0]


def _run_onnxruntime(session: Any, x: Array) -> Array:
    return session.run(None, {"input": x})[0]


def _alone(packed: PackedModel, node: Node, features: tuple[int, ...]) -> PackedModel:
    """The network that consists of one node."""
    used = set(node.parameters.values())
    takes_ids = node.op == "embedding"
    return PackedModel(
        features=() if takes_ids else features,
        takes_ids=takes_ids,
        nodes=(replace(node, inputs=("input",)),),
        output=node.name,
        matrices={name: m for name, m in packed.matrices.items() if name in used},
        vectors={name: v for name, v in packed.vectors.items() if name in used},
    )


def _dense(packed: PackedModel) -> PackedModel:
    """The same network with its zeros stored."""
    matrices = {}
    for name, matrix in packed.matrices.items():
        values = whole(matrix)
        matrices[name] = StoredMatrix("dense", matrix.shape, matrix.active, {"values": values})
    return replace(packed, matrices=matrices)


def _plain_lstm(packed: PackedModel) -> PackedModel:
    """A dense LSTM with the inputs and units of a network that is one H-LSTM."""
    node = packed.nodes[0]
    hidden = packed.matrices[node.parameters["hh"]].shape[1]
    rng = np.random.default_rng(0)
    scale = 1 / np.sqrt(hidden)
    matrices = {}
    for name, columns in {"ih": packed.features[0], "hh": hidden}.items():
        values = rng.uniform(-scale, scale, (4 * hidden, columns)).astype(np.float32)
        matrices[name] = StoredMatrix("dense", values.shape, values.size, {"values": values})
    attributes = {**node.attributes, "depths": [0, 0, 0, 0]}
    parameters = {name: name for name in ("ih", "hh", "bias")}
    plain = replace(node, attributes=attributes, parameters=parameters)
    bias = np.zeros(4 * hidden, np.float32)
    return replace(packed, nodes=(plain,), matrices=matrices, vectors={"bias": bias})


def _input(packed: PackedModel, time: int) -> Array:
    rng = np.random.default_rng(0)
    if not packed.takes_ids:
        return rng.standard_normal((1, time, *packed.features)).astype(np.float32)
    tables = [
        packed.matrices[node.parameters["weight"]].shape[0]
        for node in packed.nodes
        if node.op == "embedding"
    ]
    return rng.integers(0, min(tables), (1, time))
