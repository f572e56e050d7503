"""Time of a step of a captioner's recurrent layers alone, beside other engines, on one thread.

    python benchmarks/captioner_cells.py RUN... --features TABLE

Recipes named with --untrained stand beside the runs, with weights as they are drawn and, if they
have a plan, the connections that it leaves. The first of them is what factors are told of: a dense
LSTM's time does not depend on what it has learnt. All layers take a lone step with a carried state,
of one caption (greedy) and of three (a beam of 3), in the middle of captions that the model itself
writes of photographs. Before anything is timed, every engine's outputs are compared with torch's.
"""

# ruff: noqa: E402 (NumPy and torch read the environment when they are imported)
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe, write_figures

from growprune import GrowPrune, native, runtime
from growprune.bench.engines import missing, one_thread, onnxruntime_session, openvino_request
from growprune.bench.onnx_network import step
from growprune.data import Vocabulary, open_features
from growprune.data.vocabulary import END, UNKNOWN
from growprune.files import write_text
from growprune.metrics import Seconds, by_turns
from growprune.runtime import PackedModel
from growprune.tasks import open_recipe
from growprune.tasks.captioning import Captioner, CaptioningRecipe
from growprune.tasks.captioning.model import CaptionModel
from growprune.tasks.captioning.packing import pack_model

WORDS = 2537
"""That an untrained captioner knows: as many as there are in Flickr8k."""
ROWS = (1, 3)
STEPS = 10
TOLERANCE = 1e-4
REFERENCE = "onnxruntime"

Array = np.ndarray


@dataclass(frozen=True)
class Moment:
    """What a cell finds before a step.

    Attributes:
        x: `(rows, inputs)`.
        h: of each layer, `(layers, rows, hidden)`.
        c: likewise.
        y: what the last layer has to give, `(rows, hidden)`.
    """

    x: Array
    h: Array
    c: Array
    y: Array


@dataclass(frozen=True)
class Engine:
    """A cell with its inputs in place.

    Attributes:
        call: takes the step at every moment; what it returns is the engine's own.
        outputs: those of every moment, `(rows, hidden)`, in what `call` returned.
    """

    call: Callable[[], Any]
    outputs: Callable[[Any], Sequence[Array]] = lambda found: found


def main() -> None:
    args = parse_arguments()
    table = open_features(args.features)
    features = table.rows(table.names[: args.images])
    drawn = [untrained(recipe, features) for recipe in args.untrained]
    subjects = {f"{captioner.recipe.name} (untrained)": captioner for captioner in drawn}
    subjects |= {run.name: Captioner.from_run(run) for run in args.runs}
    with one_thread():
        rows = measure(subjects, features, args.rounds)
    write_figures(args.out / "cells.json", 1, rows)
    write_text(args.out / "cells.md", report(rows))
    print(report(rows))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="captioners' folders")
    parser.add_argument("--untrained", nargs="+", default=["neuraltalk-lstm-3"], help="recipes")
    parser.add_argument("--features", type=Path, required=True, help="of photographs")
    parser.add_argument("--images", type=int, default=3, help="of the features; captions of each")
    parser.add_argument("--rounds", type=int, default=15, help="turns of every engine")
    parser.add_argument("--out", type=Path, default=Path("results/flickr8k"))
    return parser.parse_args()


def untrained(name: str, features: Array) -> Captioner:
    """A recipe's captioner, its plan walked through and nothing learnt."""
    recipe = open_recipe(name)
    assert isinstance(recipe, CaptioningRecipe)
    torch.manual_seed(0)
    model = CaptionModel(recipe.model, features.shape[1], WORDS)
    vocabulary = Vocabulary([END, UNKNOWN, *map(str, range(2, WORDS))])
    encoder = recipe.encoder.model_dump() | {"width": features.shape[1]}
    captioner = Captioner(model, recipe, vocabulary, encoder)
    if recipe.plan is not None:
        grow_prune = GrowPrune(model, torch.optim.Adam(model.parameters()), recipe.plan)
        for _ in range(recipe.plan.epochs):
            grow_prune.end_epoch(0.0)
        captioner.masks = grow_prune.masks
    return captioner


@torch.inference_mode()
def moments(captioner: Captioner, features: Array, rows: int) -> list[Moment]:
    """The steps in which captions are written, the image's own left out.

    Args:
        captioner: whose steps they are.
        features: of images `(images, width)`.
        rows: captions of an image, which begin with its likeliest words.
    """
    model = captioner.model
    found = []
    for image in torch.from_numpy(features).split(1):
        scores, state = model.begin(image)
        words = _likeliest(scores, rows).squeeze(0)
        state = tuple(part.expand(-1, rows, -1).contiguous() for part in state)
        for _ in range(STEPS):
            scores, following = model.step(words, state)
            x, (h, c), y = model.embedding(words), state[:2], following[0][-1]
            found.append(Moment(x.numpy(), h.numpy(), c.numpy(), y.numpy()))
            words, state = _likeliest(scores, 1).squeeze(1), following
    return found


def _likeliest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Numbers of each row's likeliest words, neither the end nor the unknown word."""
    return scores[:, 2:].topk(count).indices + 2


def measure(
    subjects: Mapping[str, Captioner], features: Array, rounds: int
) -> list[dict[str, Any]]:
    """Every subject in every engine, all by turns; a row each."""
    rows: list[dict[str, Any]] = []
    calls: dict[str, Callable[[], object]] = {}
    for subject, captioner in subjects.items():
        packed = cell(pack_model(captioner.model, captioner.masks).contents)
        for count in ROWS:
            at = moments(captioner, features, count)
            for name, engine in engines(captioner, packed, at).items():
                calls[str(len(rows))] = engine.call
                rows.append(
                    {
                        "model": subject,
                        "engine": name,
                        "rows": count,
                        "active": sum(matrix.active for matrix in packed.matrices.values()),
                        "layouts": sorted({m.layout for m in packed.matrices.values()}),
                        "difference": _difference(engine, at, f"{subject} in {name}"),
                    }
                )
    found = by_turns(calls, rounds=rounds)
    each = STEPS * len(features)
    for number, row in enumerate(rows):
        seconds = found[str(number)]
        times = (seconds.median / each, seconds.low / each, seconds.high / each)
        row["seconds"] = asdict(Seconds(*times))
    return rows


def _difference(engine: Engine, at: Sequence[Moment], source: str) -> float:
    """The largest difference from torch's outputs."""
    outputs = engine.outputs(engine.call())
    found = max(float(np.abs(y - moment.y).max()) for y, moment in zip(outputs, at, strict=True))
    if not found < TOLERANCE:
        raise AssertionError(f"{source} is off by {found:.2g}, more than {TOLERANCE:g}")
    return found


def cell(packed: PackedModel) -> PackedModel:
    """The recurrent layers of a packed captioner, as a network of their own."""
    nodes = tuple(node for node in packed.nodes if node.op == "lstm")
    used = {name for node in nodes for name in node.parameters.values()}
    return replace(
        packed,
        nodes=nodes,
        output=nodes[-1].name,
        matrices={name: m for name, m in packed.matrices.items() if name in used},
        vectors={name: v for name, v in packed.vectors.items() if name in used},
        info={},
        parts={},
    )


def engines(captioner: Captioner, packed: PackedModel, at: Sequence[Moment]) -> dict[str, Engine]:
    """The cell in every engine that is installed; torch and OpenVINO for ordinary LSTMs only."""
    found = {"packed": _packed(packed, at)}
    if not missing("onnxruntime", "onnx"):
        found["onnxruntime"] = _onnxruntime(packed, at)
    if not captioner.recipe.model.recurrent.gate_hidden_sizes:
        found["torch"] = _torch(captioner, at)
        if not missing("openvino", "onnx"):
            found["OpenVINO"] = _openvino(packed, at)
    return found


def _packed(packed: PackedModel, at: Sequence[Moment]) -> Engine:
    model = runtime.build(packed, "cell")
    inputs = [(moment.x, _carried(moment)) for moment in at]
    return Engine(lambda: [model.step(x, state)[0] for x, state in inputs])


def _carried(moment: Moment) -> tuple[Array, ...]:
    """States in the order of a network's layers: h and c of each."""
    return tuple(part[layer] for layer in range(len(moment.h)) for part in (moment.h, moment.c))


def _onnxruntime(packed: PackedModel, at: Sequence[Moment]) -> Engine:
    """Inputs and outputs stay where they are, so that no step copies or allocates."""
    from onnxruntime import OrtValue

    model, _ = step(packed)
    session = onnxruntime_session(model)
    bindings, outputs = [], []
    for moment in at:
        binding = session.io_binding()
        given = (moment.x, *_carried(moment))
        for value, array in zip(session.get_inputs(), given, strict=True):
            binding.bind_ortvalue_input(value.name, OrtValue.ortvalue_from_numpy(array))
        spaces = [OrtValue.ortvalue_from_numpy(np.zeros_like(a)) for a in (moment.y, *given[1:])]
        for value, space in zip(session.get_outputs(), spaces, strict=True):
            binding.bind_ortvalue_output(value.name, space)
        bindings.append(binding)
        outputs.append(spaces[0])

    def run() -> None:
        for binding in bindings:
            session.run_with_iobinding(binding)

    return Engine(run, lambda _: [space.numpy() for space in outputs])


def _openvino(packed: PackedModel, at: Sequence[Moment]) -> Engine:
    model, _ = step(packed)
    request = openvino_request(model)
    inputs = [[moment.x, *_carried(moment)] for moment in at]
    return Engine(lambda: [request.infer(arrays, share_inputs=True)[0].copy() for arrays in inputs])


def _torch(captioner: Captioner, at: Sequence[Moment]) -> Engine:
    """The cells of torch, which are faster for a lone step than its `LSTM`."""
    layers = captioner.model.recurrent
    state = dict(layers.state_dict())
    cells = []
    for layer in range(layers.num_layers):
        cell = torch.nn.LSTMCell(state[f"weight_ih_l{layer}"].shape[1], layers.hidden_size)
        cell.load_state_dict({name: state[f"{name}_l{layer}"] for name in cell.state_dict()})
        cells.append(cell.requires_grad_(False))
    inputs = [
        (
            torch.from_numpy(moment.x),
            [*zip(*map(torch.from_numpy, (moment.h, moment.c)), strict=True)],
        )
        for moment in at
    ]

    def run() -> list[Array]:
        outputs = []
        for x, states in inputs:
            for cell, state in zip(cells, states, strict=True):
                x, _ = cell(x, state)
            outputs.append(x.numpy())
        return outputs

    return Engine(run)


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """Microseconds of a step and how many times as long the reference takes, as Markdown."""
    first = rows[0]["model"]
    base = {
        row["rows"]: row["seconds"]["median"]
        for row in rows
        if (row["model"], row["engine"]) == (first, REFERENCE)
    }
    lines = [
        "| recurrent layers of | engine | connections | us | factor | us, beam 3 | factor |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row["rows"] == ROWS[0]:
            same = [r for r in rows if (r["model"], r["engine"]) == (row["model"], row["engine"])]
            times = [(r["seconds"]["median"], base[r["rows"]]) for r in same]
            cells = [f"{1e6 * own:.1f} | {other / own:.1f}" for own, other in times]
            lines.append(
                f"| {row['model']} | {row['engine']} | {row['active']:,} | {' | '.join(cells)} |"
            )
    notes = (
        f"A lone step with a carried state, of one caption and of three; medians. {describe(1)}, "
        f"{native.kernel()} kernels. Factor: {first} in {REFERENCE} takes so many times "
        "as long."
    )
    return "\n".join(lines) + f"\n\n{notes}\n"


if __name__ == "__main__":
    main()
