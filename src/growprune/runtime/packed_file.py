"""What a packed file holds: a description of the network, and its arrays.

docs/packed-models.md gives the format.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from growprune.errors import ModelFileError
from growprune.files import write_bytes
from growprune.runtime.graph import LARGEST, RULES, Node, Sizes
from growprune.runtime.matrices import PARTS, StoredMatrix

KEY = "growprune"
"""The metadata entry that holds the description."""
FORMAT = "growprune packed model"
VERSION = 1
INPUT = "input"
_DTYPES = ("F32", "I8", "I32")
_NETWORK = ("input", "nodes", "output")
_ENTRIES = ("format", "version", *_NETWORK, "matrices", "info", "parts")
_NODE_ENTRIES = {"name": str, "op": str, "inputs": list, "attributes": dict, "parameters": dict}


@dataclass(frozen=True)
class PackedModel:
    """A network with its weights, as stored; checked entry by entry, not yet as a whole.

    Attributes:
        features: sizes of the input's axes after batch and time; empty for ids.
        takes_ids: whether the input are ids rather than numbers.
        nodes: every node after those whose output it reads.
        output: name of the node whose output is the model's.
        matrices: stored matrices by name.
        vectors: float32 vectors by name.
        info: what the maker of the file wrote about the model.
        parts: networks beside it in the same file, by name; they may share its arrays, and have no
            info or parts of their own.
    """

    features: Sizes
    takes_ids: bool
    nodes: tuple[Node, ...]
    output: str
    matrices: Mapping[str, StoredMatrix]
    vectors: Mapping[str, np.ndarray]
    info: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, "PackedModel"] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays but those of its parts."""
        matrices = sum(matrix.info("").nbytes for matrix in self.matrices.values())
        return matrices + sum(vector.nbytes for vector in self.vectors.values())


def write(path: str | Path, packed: PackedModel) -> None:
    """Write a packed file, whole or not at all.

    Raises:
        DataError: the file cannot be written.
        ValueError: two of its networks have different arrays of one name.
    """
    arrays: dict[str, np.ndarray] = {}
    for network in (packed, *packed.parts.values()):
        for name, array in _arrays(network).items():
            if not np.array_equal(arrays.setdefault(name, array), array):
                raise ValueError(f"two networks have different arrays of the name {name!r}")
    text = json.dumps(_description(packed), allow_nan=False)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_bytes(path, save(contiguous, {KEY: text}))


def read(path: str | Path) -> PackedModel:
    """Read a packed file.

    Raises:
        ModelFileError: it is missing, damaged, of another kind or version, or an entry of its
            description is not what it must be.
    """
    try:
        text, arrays = _contents(Path(path))
        return _interpreted(_parsed(text), arrays)
    except ValueError as error:
        raise unusable(path, error) from None


def unusable(source: str | Path, problem: object) -> ModelFileError:
    """The error that says what is wrong with a file."""
    return ModelFileError(f"{source}: {problem}; export the model again")


def _arrays(packed: PackedModel) -> dict[str, np.ndarray]:
    arrays = dict(packed.vectors)
    for name, matrix in packed.matrices.items():
        arrays |= {f"{name}:{part}": array for part, array in matrix.arrays.items()}
    return arrays


def _description(packed: PackedModel) -> dict[str, Any]:
    networks = (packed, *packed.parts.values())
    matrices = {name: matrix for network in networks for name, matrix in network.matrices.items()}
    description = {
        "format": FORMAT,
        "version": VERSION,
        **_network_description(packed),
        "matrices": {
            name: {"layout": matrix.layout, "shape": list(matrix.shape), "active": matrix.active}
            for name, matrix in matrices.items()
        },
        "info": dict(packed.info),
    }
    if packed.parts:
        parts = {name: _network_description(part) for name, part in packed.parts.items()}
        description["parts"] = parts
    return description


def _network_description(packed: PackedModel) -> dict[str, Any]:
    return {
        "input": {"ids": packed.takes_ids, "features": list(packed.features)},
        "nodes": [
            {
                "name": node.name,
                "op": node.op,
                "inputs": list(node.inputs),
                "attributes": dict(node.attributes),
                "parameters": dict(node.parameters),
            }
            for node in packed.nodes
        ],
        "output": packed.output,
    }


def _contents(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """The description's text and the arrays; safetensors checks that they lie inside the file."""
    if not path.is_file():
        raise ValueError("no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
            if text is None:
                raise ValueError("it holds no growprune model")
            arrays = {}
            for name in file.keys():  # noqa: SIM118 - not a mapping
                dtype = file.get_slice(name).get_dtype()
                if dtype not in _DTYPES:
                    raise ValueError(f"array {name!r} is {dtype}, not one of {', '.join(_DTYPES)}")
                arrays[name] = file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"damaged or not a packed model ({error})") from None
    return text, arrays


def _parsed(text: str) -> dict[str, Any]:
    try:
        description = json.loads(
            text, object_pairs_hook=_without_doubles, parse_constant=_refused_constant
        )
    except RecursionError:
        raise ValueError("its description is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"its description is not JSON ({error})") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError("it holds no growprune model")
    if type(description.get("version")) is not int or description["version"] != VERSION:
        raise ValueError(
            f"its format has version {description.get('version')!r:.40}, "
            f"but this growprune reads version {VERSION}; use the growprune that wrote it"
        )
    return description


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"its description gives {doubled!r:.80} twice")
    return table


def _refused_constant(text: str) -> None:
    raise ValueError(f"its description holds {text}")


def _interpreted(description: dict[str, Any], arrays: dict[str, np.ndarray]) -> PackedModel:
    description.setdefault("parts", {})
    _check_entries("description", description, _ENTRIES)
    for name in ("matrices", "info", "parts"):
        _check_type(name, description[name], dict)
    main = _network("", {name: description[name] for name in _NETWORK})
    parts = {
        name: _network(f"part {name!r:.80}: ", part) for name, part in description["parts"].items()
    }
    left = dict(arrays)
    matrices = {
        name: _matrix(name, header, left) for name, header in description["matrices"].items()
    }
    # What no network uses stays with the main one, whose check refuses it.
    shared = {name for part in parts.values() for name in _used(part)} - _used(main)
    return replace(
        main,
        matrices={name: matrix for name, matrix in matrices.items() if name not in shared},
        vectors={name: vector for name, vector in left.items() if name not in shared},
        info=description["info"],
        parts={name: _with_arrays(part, matrices, left) for name, part in parts.items()},
    )


def _network(what: str, entry: Any) -> PackedModel:
    """A network without its arrays; `what` begins the messages."""
    _check_type(f"{what}network", entry, dict)
    _check_entries(f"{what}network", entry, _NETWORK)
    for name, kind in {"input": dict, "nodes": list, "output": str}.items():
        _check_type(f"{what}{name}", entry[name], kind)
    features, takes_ids = _input(entry["input"])
    nodes = tuple(_node(index, node) for index, node in enumerate(entry["nodes"]))
    return PackedModel(features, takes_ids, nodes, entry["output"], {}, {})


def _used(network: PackedModel) -> set[str]:
    """Names of the matrices and vectors that its nodes name."""
    return {name for node in network.nodes for name in node.parameters.values()}


def _with_arrays(
    network: PackedModel, matrices: Mapping[str, StoredMatrix], vectors: Mapping[str, np.ndarray]
) -> PackedModel:
    used = _used(network)
    return replace(
        network,
        matrices={name: matrix for name, matrix in matrices.items() if name in used},
        vectors={name: vector for name, vector in vectors.items() if name in used},
    )


def _input(entry: dict[str, Any]) -> tuple[Sizes, bool]:
    _check_entries("input", entry, ("ids", "features"))
    _check_type("input ids", entry["ids"], bool)
    _check_type("input features", entry["features"], list)
    if not all(type(size) is int and 1 <= size <= LARGEST for size in entry["features"]):
        raise ValueError(f"input features are {entry['features']!r:.80}, not positive integers")
    if entry["ids"] != (not entry["features"]):
        raise ValueError("an input has features, unless it is ids")
    return tuple(entry["features"]), entry["ids"]


def _node(index: int, entry: Any) -> Node:
    _check_type(f"node {index}", entry, dict)
    _check_entries(f"node {index}", entry, tuple(_NODE_ENTRIES))
    for name, kind in _NODE_ENTRIES.items():
        _check_type(f"{name} of node {index}", entry[name], kind)
    strings = [*entry["inputs"], *entry["parameters"].values()]
    if not all(isinstance(name, str) for name in strings):
        raise ValueError(f"inputs and parameters of node {entry['name']!r:.80} must be names")
    if entry["op"] not in RULES:
        raise ValueError(
            f"node {entry['name']!r:.80} is of the unknown operation {entry['op']!r:.80}"
        )
    return Node(**entry | {"inputs": tuple(entry["inputs"])})


def _matrix(name: str, header: Any, arrays: dict[str, np.ndarray]) -> StoredMatrix:
    """The matrix of a header, its arrays taken out of `arrays`."""
    what = f"matrix {name!r:.80}"
    _check_type(what, header, dict)
    _check_entries(what, header, ("layout", "shape", "active"))
    layout, shape, active = header["layout"], header["shape"], header["active"]
    if not isinstance(layout, str) or layout not in PARTS:
        raise ValueError(f"{what} has the layout {layout!r:.80}, not one of {', '.join(PARTS)}")
    numbers = [*shape, active] if isinstance(shape, list) else []
    if len(numbers) != 3 or not all(type(n) is int and 0 <= n <= LARGEST for n in numbers):
        raise ValueError(f"{what} must have a shape of two integers and a number of active weights")
    if 0 in shape:
        raise ValueError(f"{what} has no rows or no columns")
    parts = [*PARTS[layout], *(["scales"] if f"{name}:scales" in arrays else [])]
    missing = [f"{name}:{part}" for part in parts if f"{name}:{part}" not in arrays]
    if missing:
        raise ValueError(f"{what} lacks its arrays {missing}")
    taken = {part: arrays.pop(f"{name}:{part}") for part in parts}
    return StoredMatrix(layout, (shape[0], shape[1]), active, taken)


def _check_entries(what: str, table: Mapping[str, Any], expected: tuple[str, ...]) -> None:
    missing = [name for name in expected if name not in table]
    unknown = [name for name in table if name not in expected]
    if missing or unknown:
        raise ValueError(f"{what:.100} lacks {missing} or has unknown {unknown[:8]!r:.200}")


def _check_type(what: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        names = {dict: "a table", list: "a list", str: "a string", bool: "true or false"}
        raise ValueError(f"{what:.100} must be {names[kind]}, got {value!r:.80}")
