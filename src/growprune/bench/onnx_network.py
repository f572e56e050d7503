"""A packed network as ONNX, with its zeros filled in: the same numbers, for other engines.

Values are `(1, time, *features)`, as in the packed network.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from growprune import native
from growprune.bench.lstm import Array, LstmWeights
from growprune.bench.onnx_graphs import lstm_parameters, model_bytes
from growprune.runtime import PackedModel, StoredMatrix
from growprune.runtime.checks import checked_shapes
from growprune.runtime.graph import GATES, Node, Shape


def network(packed: PackedModel) -> bytes:
    """The whole network at batch 1, for sequences of any length, from `input`."""
    shapes = checked_shapes(packed)
    graph = _Graph(packed, shapes)
    for node in packed.nodes:
        graph.add(node)
    return model_bytes(
        graph.nodes,
        {"input": _axes(shapes["input"], "time")},
        {packed.output: _axes(shapes[packed.output], "time out")},
        graph.constants,
        takes_ids=packed.takes_ids,
    )


def step(packed: PackedModel) -> tuple[bytes, dict[str, int]]:
    """The whole network for one step of any number of rows, with what it carries along.

    Every LSTM or H-LSTM has the inputs `NAME/h` and `NAME/c`, `(rows, hidden)`, and the outputs
    `NAME/next h` and `NAME/next c` after the network's own.

    Returns:
        The model, and the width of what each layer carries, by its name.
    """
    shapes = checked_shapes(packed)
    graph = _StepGraph(packed, shapes)
    for node in packed.nodes:
        graph.add(node)
    carried = {node.name: shapes[node.name].features[0] for node in packed.nodes
               if node.op == "lstm"}  # fmt: skip
    values = {"input": ("rows", *shapes["input"].features)}
    values |= {f"{n}/{part}": ("rows", size) for n, size in carried.items() for part in "hc"}
    found = {packed.output: ("rows", *shapes[packed.output].features)}
    found |= {f"{n}/next {part}": ("rows", size) for n, size in carried.items() for part in "hc"}
    model = model_bytes(graph.nodes, values, found, graph.constants, takes_ids=packed.takes_ids)
    return model, carried


def whole(matrix: StoredMatrix) -> Array:
    """A stored matrix with its zeros, `(rows, columns)` in float32."""
    identity = np.eye(matrix.shape[1], dtype=np.float32)
    return np.ascontiguousarray(native.product(matrix.prepare(), identity).T)


def _axes(shape: Shape, time: str) -> tuple[int | str, ...]:
    return (1, *([] if shape.clock is None else [time]), *shape.features)


class _Graph:
    """ONNX nodes and constants, added one packed node at a time."""

    def __init__(self, packed: PackedModel, shapes: Mapping[str, Shape], prefix: str = "") -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self._packed = packed
        self._shapes = shapes
        self._prefix = prefix

    def add(self, node: Node) -> None:
        """Translate one node; its output has the node's name."""
        if node.op in _SIMPLE:
            name, attributes = _SIMPLE[node.op](node.attributes)
            self.op(name, node.inputs, to=node.name, **attributes)
        else:
            getattr(self, f"_{node.op}")(node)

    def op(self, kind: str, inputs: Sequence[str], to: str = "", **attributes: Any) -> str:
        """Append an operation and return the name of its (first) output."""
        from onnx import helper

        to = to or f"#{self._prefix}value {len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [to], **attributes))
        return to

    def constant(self, array: Array) -> str:
        """Add a constant and return its name."""
        name = f"#constant {len(self.constants)}"
        self.constants[name] = array
        return name

    def _parameter(self, node: Node, name: str) -> Array:
        stored = node.parameters[name]
        if stored in self._packed.vectors:
            return self._packed.vectors[stored]
        return whole(self._packed.matrices[stored])

    def _product(self, x: str, weight: Array, bias: Array, to: str = "") -> str:
        """`x @ weight.T + bias` on the last axis."""
        product = self.op("MatMul", [x, self.constant(weight.T)])
        return self.op("Add", [product, self.constant(bias)], to=to)

    def _linear(self, node: Node) -> None:
        weight, bias = (self._parameter(node, name) for name in ("weight", "bias"))
        self._product(node.inputs[0], weight, bias, to=node.name)

    def _embedding(self, node: Node) -> None:
        table = self.constant(self._parameter(node, "weight"))
        self.op("Gather", [table, node.inputs[0]], to=node.name)

    def _affine(self, node: Node) -> None:
        scale, shift = (self.constant(self._parameter(node, name)) for name in ("scale", "shift"))
        self.op("Add", [self.op("Mul", [node.inputs[0], scale]), shift], to=node.name)

    def _layer_norm(self, node: Node) -> None:
        parameters = [self.constant(self._parameter(node, name)) for name in ("weight", "bias")]
        epsilon = node.attributes["epsilon"]
        inputs = [node.inputs[0], *parameters]
        self.op("LayerNormalization", inputs, to=node.name, axis=-1, epsilon=epsilon)

    def _convolution(self, node: Node) -> None:
        """Channels are the last axis here and the second one there."""
        kernel = node.attributes["kernel"]
        axes = len(kernel)
        weight = self._parameter(node, "weight").reshape(-1, *kernel, self._width(node))
        inputs = [
            self.op("Transpose", node.inputs, perm=[0, axes + 1, *range(1, axes + 1)]),
            self.constant(np.moveaxis(weight, -1, 1)),
            self.constant(self._parameter(node, "bias")),
        ]
        before, after = zip(*node.attributes["padding"], strict=True)
        found = self.op(
            "Conv",
            inputs,
            kernel_shape=kernel,
            strides=node.attributes["stride"],
            dilations=node.attributes["dilation"],
            pads=[*before, *after],
        )
        self.op("Transpose", [found], to=node.name, perm=[0, *range(2, axes + 2), 1])

    def _width(self, node: Node) -> int:
        return self._shapes[node.inputs[0]].features[-1]

    def _lstm(self, node: Node) -> None:
        if any(node.attributes["depths"]):
            self._hlstm(node)
            return
        weights = LstmWeights(*(self._parameter(node, name) for name in ("ih", "hh", "bias")))
        self._recurrent(node, "LSTM", lstm_parameters(weights))

    def _gru(self, node: Node) -> None:
        """Gates in the order z, r, n; the new gate's hidden bias lies inside the reset."""
        ih, hh, bias = (
            np.concatenate([z, r, n])[None]
            for r, z, n in (
                np.split(self._parameter(node, name), 3) for name in ("ih", "hh", "bias")
            )
        )
        new = self._parameter(node, "bias_new")[None]
        nothing = np.zeros_like(bias[:, : 2 * new.shape[1]])
        arrays = {"ih": ih, "hh": hh, "bias": np.concatenate([bias, nothing, new], axis=1)}
        self._recurrent(node, "GRU", arrays, linear_before_reset=1)

    def _recurrent(
        self, node: Node, kind: str, arrays: Mapping[str, Array], **attributes: Any
    ) -> None:
        steps = self.op("Transpose", node.inputs, perm=[1, 0, 2])
        found = self.op(
            kind,
            [steps, *(self.constant(array) for array in arrays.values())],
            hidden_size=arrays["hh"].shape[2],
            direction="reverse" if node.attributes["reverse"] else "forward",
            **attributes,
        )  # (time, direction, batch, hidden)
        kept = self.op("Squeeze", [found, self.constant(np.array([1]))])
        self.op("Transpose", [kept], to=node.name, perm=[1, 0, 2])

    def _hlstm(self, node: Node) -> None:
        """ONNX knows no such layer: a loop over time, with the inputs' product before it."""
        from onnx import helper

        hidden = self._shapes[node.name].features[0]
        ih, hh, bias = (self._parameter(node, name) for name in ("ih", "hh", "bias"))
        from_x = self.op("Squeeze", [self._product(node.inputs[0], ih, bias), self._zero()])
        state = self.constant(np.zeros(hidden, np.float32))
        direction = [int(node.attributes["reverse"])]
        found = f"{node.name}/steps"
        self.nodes.append(
            helper.make_node(
                "Scan",
                [state, state, from_x],
                [f"{node.name}/last h", f"{node.name}/last c", found],
                body=self._loop(node, hh),
                num_scan_inputs=1,
                scan_input_directions=direction,
                scan_output_directions=direction,
            )
        )
        self.op("Unsqueeze", [found, self._zero()], to=node.name)

    def _loop(self, node: Node, hh: Array) -> Any:
        """One step: `h, c, from_x` to the next `h, c` and the output."""
        from onnx import TensorProto, helper

        rows, hidden = hh.shape
        body = _Graph(self._packed, self._shapes, prefix=f"{node.name}/")
        body.constants = self.constants  # the loop's body sees those around it
        h, c, from_x, h_next, c_next, y = (
            f"{node.name}/{name}" for name in ("h", "c", "from x", "next h", "next c", "y")
        )
        body._cell(node, from_x, hh, (h, c), (h_next, c_next))
        body.op("Identity", [h_next], to=y)

        def values(sizes: Mapping[str, int]) -> list[Any]:
            return [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [size])
                for name, size in sizes.items()
            ]

        return helper.make_graph(
            body.nodes,
            f"{node.name}/step",
            values({h: hidden, c: hidden, from_x: rows}),
            values({h_next: hidden, c_next: hidden, y: hidden}),
        )

    def _cell(
        self, node: Node, from_x: str, hh: Array, state: tuple[str, str], to: tuple[str, str]
    ) -> None:
        """One step, from the inputs' product and `h, c` to the next `h, c`, named `to`."""
        h, c = state
        h_next, c_next = to
        first = self.op("Add", [from_x, self.op("MatMul", [h, self.constant(hh.T)])])
        gates = self._gates(node, first, len(hh))
        i, f, o = (self.op("Sigmoid", [gates[gate]]) for gate in "ifo")
        g = self.op("Tanh", [gates["g"]])
        self.op("Add", [self.op("Mul", [f, c]), self.op("Mul", [i, g])], to=c_next)
        self.op("Mul", [o, self.op("Tanh", [c_next])], to=h_next)

    def _gates(self, node: Node, first: str, rows: int) -> dict[str, str]:
        """Names of the gates' sums, by gate."""
        gates, start = {}, 0
        for gate, depth in zip(GATES, node.attributes["depths"], strict=True):
            stages = [f"{gate}_{stage}" for stage in range(1, depth + 1)]
            weights = [self._parameter(node, stage) for stage in stages]
            width = weights[0].shape[1] if weights else self._shapes[node.name].features[0]
            edges = [self.constant(np.array([edge])) for edge in (start, start + width, -1)]
            value = self.op("Slice", [first, *edges])
            for stage, weight in zip(stages, weights, strict=True):
                value = self.op("LeakyRelu", [value], alpha=float(node.attributes["slope"]))
                bias = self._parameter(node, f"bias_{stage}")
                value = self._product(value, weight, bias)
            gates[gate] = value
            start += width
        assert start == rows
        return gates

    def _zero(self) -> str:
        return self.constant(np.array([0]))

    def _hardtanh(self, node: Node) -> None:
        bounds = (np.array(node.attributes[name], np.float32) for name in ("low", "high"))
        self.op("Clip", [node.inputs[0], *map(self.constant, bounds)], to=node.name)

    def _gelu(self, node: Node) -> None:
        x = node.inputs[0]
        if node.attributes["tanh"]:
            cube = self.op("Mul", [x, self.op("Mul", [x, x])])
            inner = self.op("Add", [x, self.op("Mul", [cube, self._number(0.044715)])])
            share = self.op("Tanh", [self.op("Mul", [inner, self._number(np.sqrt(2 / np.pi))])])
        else:
            share = self.op("Erf", [self.op("Mul", [x, self._number(np.sqrt(0.5))])])
        share = self.op("Add", [share, self._number(1.0)])
        half = self.op("Mul", [x, self._number(0.5)])
        self.op("Mul", [half, share], to=node.name)

    def _silu(self, node: Node) -> None:
        x = node.inputs[0]
        self.op("Mul", [x, self.op("Sigmoid", [x])], to=node.name)

    def _number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def _first(self, node: Node) -> None:
        self._pick(node, 0)

    def _last(self, node: Node) -> None:
        self._pick(node, -1)

    def _pick(self, node: Node, index: int) -> None:
        self.op("Gather", [node.inputs[0], self.constant(np.array(index))], to=node.name, axis=1)

    def _reshape(self, node: Node) -> None:
        """A 0 keeps an axis as it is."""
        ahead = [0] * (1 if self._shapes[node.name].clock is None else 2)
        shape = self.constant(np.array([*ahead, *node.attributes["features"]]))
        self.op("Reshape", [node.inputs[0], shape], to=node.name)

    def _permute(self, node: Node) -> None:
        ahead = 1 if self._shapes[node.name].clock is None else 2
        order = [*range(ahead), *(ahead + axis for axis in node.attributes["order"])]
        self.op("Transpose", node.inputs, to=node.name, perm=order)


class _StepGraph(_Graph):
    """One step of `(rows, *features)` instead of a sequence; only what has no time in it."""

    def _lstm(self, node: Node) -> None:
        h, c, h_next, c_next = (f"{node.name}/{name}" for name in ("h", "c", "next h", "next c"))
        (x,) = node.inputs
        ih, hh, bias = (self._parameter(node, name) for name in ("ih", "hh", "bias"))
        if any(node.attributes["depths"]):
            self._cell(node, self._product(x, ih, bias), hh, (h, c), (h_next, c_next))
        else:
            self._own_cell(LstmWeights(ih, hh, bias), x, (h, c), (h_next, c_next))
        self.op("Identity", [h_next], to=node.name)

    def _own_cell(
        self, weights: LstmWeights, x: str, state: tuple[str, str], to: tuple[str, str]
    ) -> None:
        """One step of the engine's own LSTM."""
        from onnx import helper

        arrays = [self.constant(array) for array in lstm_parameters(weights).values()]
        one_step, h, c = (self.op("Unsqueeze", [value, self._zero()]) for value in (x, *state))
        last = [f"{name} of all" for name in to]
        inputs, outputs = [one_step, *arrays, "", h, c], ["", *last]
        self.nodes.append(helper.make_node("LSTM", inputs, outputs, hidden_size=weights.hidden))
        for name, result in zip(last, to, strict=True):
            self.op("Squeeze", [name, self._zero()], to=result)


_SIMPLE: dict[str, Callable[[Mapping[str, Any]], tuple[str, dict[str, Any]]]] = {
    "relu": lambda _: ("Relu", {}),
    "leaky_relu": lambda attributes: ("LeakyRelu", {"alpha": float(attributes["slope"])}),
    "sigmoid": lambda _: ("Sigmoid", {}),
    "tanh": lambda _: ("Tanh", {}),
    "softmax": lambda _: ("Softmax", {"axis": -1}),
    "log_softmax": lambda _: ("LogSoftmax", {"axis": -1}),
    "add": lambda _: ("Sum", {}),
    "concatenate": lambda _: ("Concat", {"axis": -1}),
    "mean": lambda _: ("ReduceMean", {"axes": [1], "keepdims": 0}),
}
"""Operations that ONNX has under a name of its own."""
