"""Latency of one LSTM layer at batch 1: ours at many densities, other engines beside it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from limits import Limits

from growprune.bench.lstm import Array, LstmWeights
from growprune.bench.peers import PEERS, Peer
from growprune.metrics import Seconds, by_turns
from growprune.native import PANEL

WIDTHS = (256, 512, 800, 1024)
TIMES = (1, 100)
KEPT = ("1", "1/2", "1/10", "1/19.4", "1/38.7", "1/100")
LAYOUTS = ("dense", "csr", "blocks")
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Row:
    """One layer in one engine.

    Attributes:
        width: inputs and units.
        time: steps of the sequence; 1 is a lone step with a carried state.
        engine: `growprune` or a peer.
        layout: of ours; of a peer `sparse` or `dense`.
        kept: share of the connections, as it was asked for.
        active: connections.
        bytes: that a step moves at least: weights, indices, bias, input, states, output.
        flops: in a step: two per active connection.
        difference: largest one from the specification's outputs.
        seconds: of a step.
        limit: seconds that bytes and operations take at least.
        level: where the weights lie.
    """

    width: int
    time: int
    engine: str
    layout: str
    kept: str
    active: int
    bytes: int
    flops: int
    difference: float
    seconds: Seconds
    limit: float
    level: str

    @property
    def microseconds(self) -> float:
        """Median of a step."""
        return 1e6 * self.seconds.median

    def record(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class _Case:
    """What a row says before it is timed, and the call to time."""

    engine: str
    layout: str
    kept: str
    active: int
    weight_bytes: int
    difference: float
    call: Callable[[], object]


def share_of(kept: str) -> float:
    """The number that a share such as `1/38.7` stands for."""
    numerator, _, denominator = kept.partition("/")
    return float(numerator) / float(denominator or 1)


def measure_cells(
    width: int,
    time: int,
    kept: Sequence[str],
    layouts: Sequence[str],
    peers: Sequence[str],
    rounds: int,
    limits: Limits,
) -> list[Row]:
    """Check every variant against the specification, then time all by turns."""
    rng = np.random.default_rng(width)
    x, h, c = (
        (scale * rng.standard_normal(shape)).astype(np.float32)
        for scale, shape in ((1, (time, width)), (0.3, width), (0.3, width))
    )
    cases = []
    for share in kept:
        fraction = share_of(share)
        single = LstmWeights.random(width, fraction, 1, rng)
        for layout in layouts:
            if layout != "dense" or fraction == 1:
                blocks = layout == "blocks"
                weights = LstmWeights.random(width, fraction, PANEL, rng) if blocks else single
                cases.append(_ours(weights, layout, share, x, h, c))
        for name in peers:
            peer = PEERS[name]
            if (peer.sparse or fraction == 1) and not (peer.steps_only and time > 1):
                cases.append(_peer(name, peer, single, share, x, h, c))
    found = by_turns({str(n): case.call for n, case in enumerate(cases)}, rounds=rounds)
    return [
        _row(width, time, case, found[str(number)], limits) for number, case in enumerate(cases)
    ]


def _ours(weights: LstmWeights, layout: str, kept: str, x: Array, h: Array, c: Array) -> _Case:
    layer, nbytes = weights.recurrent(layout)
    row, state, cell = (x, h[None], c[None]) if len(x) == 1 else (x[None], h[None], c[None])
    run = layer.step if len(x) == 1 else (lambda x, h, c: layer.run(x, None, h, c))
    outputs = np.reshape(run(row, state, cell)[0], (len(x), -1))
    difference = _checked("growprune", outputs, weights.run(x, h, c), _TOLERANCE)
    call = lambda: run(row, state, cell)  # noqa: E731
    return _Case("growprune", layout, kept, weights.active, nbytes, difference, call)


def _peer(
    name: str, peer: Peer, weights: LstmWeights, kept: str, x: Array, h: Array, c: Array
) -> _Case:
    prepared = peer.build(weights, x, h, c)
    outputs = prepared.outputs(prepared.call())
    difference = _checked(name, outputs, weights.run(x, h, c), peer.tolerance)
    layout = "sparse" if peer.sparse else "dense"
    each = 1 if "int8" in name else 8 if peer.sparse else 4
    return _Case(
        name, layout, kept, weights.active, each * weights.active, difference, prepared.call
    )


def _checked(name: str, found: Array, wanted: Array, tolerance: float) -> float:
    difference = float(np.abs(found - wanted).max())
    if not difference < tolerance:
        raise AssertionError(f"{name} is off by {difference:.2g}, more than {tolerance:g}")
    return difference


def _row(width: int, time: int, case: _Case, found: Seconds, limits: Limits) -> Row:
    # The inputs' half of the weights need be read but once for all steps of a sequence.
    weights = case.weight_bytes * (1 + 1 / time) / 2
    nbytes = round(weights) + 4 * (4 + 1 + 2 + 2) * width  # bias, input, states read and written
    flops = 2 * case.active
    return Row(
        width=width,
        time=time,
        engine=case.engine,
        layout=case.layout,
        kept=case.kept,
        active=case.active,
        bytes=nbytes,
        flops=flops,
        difference=case.difference,
        seconds=Seconds(found.median / time, found.low / time, found.high / time),
        limit=limits.seconds(nbytes, flops),
        level=limits.level(nbytes).name,
    )
