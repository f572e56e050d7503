"""Files that are damaged or made to do harm: each fault has an error that names it."""

import json
import random
import tracemalloc

import numpy as np
import pytest
from fuzz import KEY, _joined, _parts, damaged, survives, valid_files
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Network, everything
from safetensors.numpy import save_file

from growprune import runtime
from growprune.errors import ModelFileError

VALID = list(valid_files())


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 10**9))
@pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered")
def test_damaged_files_are_refused_or_run(seed, tmp_path_factory):
    rng = random.Random(seed)
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(damaged(rng.choice(VALID), rng))
    survives(path, rng)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_cut_files_are_refused(data, tmp_path_factory):
    valid = data.draw(st.sampled_from(VALID))
    path = tmp_path_factory.getbasetemp() / "cut.safetensors"
    path.write_bytes(valid[: data.draw(st.integers(0, len(valid) - 1))])
    with pytest.raises(ModelFileError, match="export the model again"):
        runtime.load(path)


def edited(tmp_path, edit, valid=VALID[0]):
    """A valid file whose description `edit` has changed."""
    header, body = _parts(valid)
    description = json.loads(header["__metadata__"][KEY])
    text = edit(description)
    header["__metadata__"][KEY] = text if isinstance(text, str) else json.dumps(description)
    path = tmp_path / "edited.safetensors"
    path.write_bytes(_joined(header, body))
    return path


def node(description, name):
    return next(node for node in description["nodes"] if node["name"] == name)


def setting(name, attribute, value):
    return lambda d: node(d, name)["attributes"].update({attribute: value})


def entry(*path, to):
    def edit(description):
        for key in path[:-1]:
            description = description[key]
        description[path[-1]] = to

    return edit


def nested(depth):
    return lambda d: "[" * depth + "]" * depth


EDITS = {
    "format": (entry("format", to="onnx"), "it holds no growprune model"),
    "version": (entry("version", to=2), "format has version 2, but this growprune reads version 1"),
    "version as text": (entry("version", to="1"), "format has version '1'"),
    "version as bool": (entry("version", to=True), "format has version True"),
    "not JSON": (lambda d: "{", r"its description is not JSON \(Expecting"),
    "not a table": (lambda d: "[1]", "it holds no growprune model"),
    "nested": (nested(100_000), "nested too deeply"),
    "infinity": (lambda d: json.dumps(d).replace('"AB"', "Infinity"), "its description holds Inf"),
    "huge number": (
        lambda d: json.dumps(d).replace('"AB"', "1" * 5000),
        "Exceeds the limit",
    ),
    "doubled": (
        lambda d: json.dumps(d).replace('{"format"', '{"version": 1, "format"'),
        "gives 'version' twice",
    ),
    "missing entry": (lambda d: d.pop("nodes") and None, r"description lacks \['nodes'\]"),
    "unknown entry": (entry("code", to="x"), r"unknown \['code'\]"),
    "nodes as table": (entry("nodes", to={}), "nodes must be a list"),
    "node as text": (entry("nodes", 0, to="lstm"), "node 0 must be a table, got 'lstm'"),
    "node without op": (lambda d: d["nodes"][1].pop("op") and None, r"node 1 lacks \['op'\]"),
    "name as number": (entry("nodes", 0, "name", to=1), "name of node 0 must be a string, got 1"),
    "unknown operation": (
        entry("nodes", 0, "op", to="exec"),
        "node 'ahead' is of the unknown operation 'exec'",
    ),
    "input as list": (entry("input", "features", to=[[6]]), "not positive integers"),
    "negative input": (entry("input", "features", to=[-6]), r"\[-6\], not positive integers"),
    "no input": (entry("input", "features", to=[]), "an input has features, unless it is ids"),
    "bool input": (entry("input", "features", to=[True]), "not positive integers"),
    "wide input": (
        entry("input", "features", to=[7]),
        "node 'ahead': a kernel of .* over 7 channels needs a weight of 21 columns, not 18",
    ),
    "input of ids": (
        entry("input", to={"ids": True, "features": []}),
        "node 'ahead': convolution cannot read ids",
    ),
    "output": (entry("output", to="nothing"), "the output 'nothing' is no node"),
    "output is input": (entry("output", to="input"), "the output 'input' is no node"),
    "cycle": (
        lambda d: node(d, "lstm").update(inputs=["scores"]),
        "node 'lstm': input 'scores' is no earlier node",
    ),
    "self": (
        lambda d: node(d, "lstm").update(inputs=["lstm"]),
        "node 'lstm': input 'lstm' is no earlier node",
    ),
    "doubled node": (lambda d: d["nodes"].append(d["nodes"][-1]), "another value has this name"),
    "node called input": (entry("nodes", 0, "name", to="input"), "another value has this name"),
    "unread node": (
        lambda d: d["nodes"].append(dict(node(d, "relu"), name="more")),
        r"no node reads the outputs of \['more'\]",
    ),
    "two inputs": (
        lambda d: node(d, "relu").update(inputs=["norm", "norm"]),
        "node 'relu': relu takes 1 inputs, not 2",
    ),
    "one to add": (
        lambda d: node(d, "sum").update(inputs=["lstm"]),
        "node 'sum': add takes two or more inputs, not 1",
    ),
    "inputs of numbers": (
        lambda d: node(d, "sum").update(inputs=[1, 2]),
        "inputs and parameters of node 'sum' must be names",
    ),
    "different widths": (
        lambda d: node(d, "sum").update(inputs=["lstm", "relu"]),
        r"node 'sum': the inputs have features \[\(20,\), \(5,\)\]",
    ),
    "different rates": (
        lambda d: node(d, "both").update(inputs=["sum", "input"]),
        "node 'both': the inputs run at different rates",
    ),
    "missing parameter": (
        lambda d: node(d, "lstm")["parameters"].pop("hh") and None,
        r"node 'lstm': wrong parameters: missing \['hh'\]",
    ),
    "unknown parameter": (
        lambda d: node(d, "relu")["parameters"].update(weight="lstm.hh"),
        r"node 'relu': wrong parameters: missing \[\], unknown \['weight'\]",
    ),
    "absent array": (
        lambda d: node(d, "lstm")["parameters"].update(hh="other"),
        "node 'lstm': parameter 'other' is missing",
    ),
    "vector for matrix": (
        lambda d: node(d, "lstm")["parameters"].update(hh="lstm.bias"),
        "node 'lstm': parameter 'hh' must be a matrix",
    ),
    "matrix for vector": (
        lambda d: node(d, "lstm")["parameters"].update(bias="lstm.hh"),
        "node 'lstm': parameter 'bias' must be a vector",
    ),
    "other matrix": (
        lambda d: node(d, "lstm")["parameters"].update(ih="gru.ih"),
        r"node 'lstm': parameter 'ih' has shape \(60, 5\), expected \(80, 5\)",
    ),
    "attribute type": (
        setting("ahead", "stride", "2"),
        "'stride' must be 1 or 2 positive integers",
    ),
    "attribute bool": (setting("ahead", "stride", [True]), "'stride' must be 1 or 2 positive int"),
    "zero stride": (setting("ahead", "stride", [0]), "'stride' must be 1 or 2 positive integers"),
    "axes": (setting("ahead", "stride", [1, 1]), "must name the same axes"),
    "huge kernel": (
        setting("ahead", "kernel", [2**31 - 1]),
        "needs a weight of 12884901882 columns",
    ),
    "huger kernel": (setting("ahead", "kernel", [2**31]), "'kernel' must be"),
    "negative padding": (setting("ahead", "padding", [[-1, 1]]), "'padding' must be"),
    "bool padding": (setting("ahead", "padding", [[True, 1]]), "'padding' must be"),
    "wide padding": (setting("ahead", "padding", [[3, 1]]), "reaches beyond a kernel that spans 3"),
    "huge dilation": (
        setting("ahead", "dilation", [2**30]),
        "node 'ahead': a step needs 12884901.* numbers in memory, more than",
    ),
    "missing attribute": (
        lambda d: node(d, "leaky")["attributes"].pop("slope") and None,
        r"node 'leaky': wrong attributes: missing \['slope'\]",
    ),
    "unknown attribute": (setting("relu", "slope", 0.5), r"unknown \['slope'\]"),
    "slope": (setting("lstm", "slope", 1.5), "'slope' must be a number from 0 to 1, got 1.5"),
    "epsilon": (setting("norm", "epsilon", 0), "'epsilon' must be a number above 0, got 0"),
    "huge epsilon": (setting("norm", "epsilon", 10**300), "'epsilon' must be a number above 0"),
    "depths": (setting("lstm", "depths", [0, 0, 0]), "'depths' must be 4 integers"),
    "deep": (setting("lstm", "depths", [64] * 4), r"missing \['i_1', 'i_2'"),
    "deeper": (setting("lstm", "depths", [10**9] * 4), "'depths' must be 4 integers from 0 to 64"),
    "reshape": (setting("grid", "features", [11, 4]), r"\(33,\) cannot become \(11, 4\)"),
    "reshape to bools": (setting("grid", "features", [True, 33]), "'features' must be"),
    "permute": (setting("turned", "order", [0, 0]), "'order' must be"),
    "permute by bools": (setting("turned", "order", [True, False]), "'order' must be"),
    "permute more": (setting("turned", "order", [0, 1, 2]), r"order \[0, 1, 2\] does not fit"),
    "layout": (entry("matrices", "lstm.ih", "layout", to="coo"), "matrix 'lstm.ih' has the layout"),
    "layout list": (entry("matrices", "lstm.ih", "layout", to=[]), "has the layout"),
    "other layout": (
        entry("matrices", "lstm.ih", "layout", to="csr"),
        r"matrix 'lstm.ih' lacks its arrays \['lstm.ih:columns'\]",
    ),
    "dense layout": (
        entry("matrices", "lstm.ih", "layout", to="dense"),
        "matrix 'lstm.ih': values must have shape",
    ),
    "shape": (
        entry("matrices", "lstm.ih", "shape", to=[80, 6]),
        r"matrix 'lstm.ih': starts must have shape \(7,\) of int32, got \(6,\)",
    ),
    "fewer rows": (
        entry("matrices", "lstm.ih", "shape", to=[64, 5]),
        "matrix 'lstm.ih': panels do not all lie in 0 to 3",
    ),
    "more rows": (
        entry("matrices", "lstm.ih", "shape", to=[2**23, 5]),
        r"node 'lstm': parameter 'ih' has shape \(8388608, 5\), expected \(80, 5\)",
    ),
    "shape of one": (entry("matrices", "lstm.ih", "shape", to=[80]), "a shape of two integers"),
    "negative shape": (entry("matrices", "lstm.ih", "shape", to=[-80, 5]), "shape of two integers"),
    "no rows": (entry("matrices", "lstm.ih", "shape", to=[0, 5]), "no rows or no columns"),
    "overflow": (
        entry("matrices", "lstm.ih", "shape", to=[2**31 - 1, 5]),
        "2147483647 x 5 weights are too many for the",
    ),
    "active": (entry("matrices", "lstm.ih", "active", to=10**6), "1000000 active weights do not"),
    "unused matrix": (
        lambda d: (
            d["nodes"].remove(node(d, "lstm")) or node(d, "sum").update(inputs=["gru", "gru"])
        ),
        r"no node uses the arrays \['lstm.bias', 'lstm.hh', 'lstm.ih'\]",
    ),
    "matrix of no arrays": (
        lambda d: d["matrices"].update(more={"layout": "dense", "shape": [1, 1], "active": 1}),
        r"matrix 'more' lacks its arrays \['more:values'\]",
    ),
}


@pytest.mark.parametrize("case", EDITS)
def test_faults_of_the_description_are_named(tmp_path, case):
    edit, message = EDITS[case]
    path = edited(tmp_path, edit)
    with pytest.raises(ModelFileError, match=message) as error:
        runtime.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert str(error.value).endswith("; export the model again")


PART_EDITS = {
    "parts as list": (entry("parts", to=[]), "parts must be a table"),
    "part as text": (entry("parts", "image", to="x"), "part 'image': network must be a table"),
    "part with info": (
        entry("parts", "image", "info", to={}),
        r"part 'image': network lacks \[\] or has unknown \['info'\]",
    ),
    "nodes as table": (
        entry("parts", "image", "nodes", to={}),
        "part 'image': nodes must be a list",
    ),
    "input": (
        entry("parts", "image", "input", "features", to=[8]),
        "part 'image': node 'image': the input has 8 features, but the weight takes 7",
    ),
    "output": (entry("parts", "words", "output", to="out"), "part 'words': the output 'out' is no"),
    "unknown weight": (
        lambda d: d["parts"]["words"]["nodes"][0]["parameters"].update(weight="other"),
        "part 'words': node 'embedding': parameter 'other' is missing",
    ),
    "no image": (
        lambda d: d["parts"].pop("image") and None,
        r"no node uses the arrays \['image.bias', 'image.weight'\]",
    ),
}


@pytest.mark.parametrize("case", PART_EDITS)
def test_faults_of_parts_are_named(tmp_path, case):
    edit, message = PART_EDITS[case]
    path = edited(tmp_path, edit, VALID[-1])
    with pytest.raises(ModelFileError, match=message) as error:
        runtime.load(path)
    assert str(error.value).startswith(f"{path}: ")


def replaced(tmp_path, name, array):
    """The file of `everything()` with another array; None leaves it out."""
    packed = everything().packed()
    arrays = dict(packed.vectors)
    for key, matrix in packed.matrices.items():
        arrays |= {f"{key}:{part}": values for part, values in matrix.arrays.items()}
    array = array(arrays[name]) if callable(array) else array
    arrays = {key: value for key, value in (arrays | {name: array}).items() if value is not None}
    path = tmp_path / "replaced.safetensors"
    runtime.write(path, packed)
    header, _ = _parts(path.read_bytes())
    save_file(arrays, path, header["__metadata__"])
    return path


def at(index, value):
    def change(array):
        array = array.copy()
        array[index] = value
        return array

    return change


ARRAYS = {
    "missing": ("lstm.hh:values", None, r"lacks its arrays \['lstm.hh:values'\]"),
    "missing vector": ("gru.bias", None, "node 'gru': parameter 'gru.bias' is missing"),
    "unused": ("more", np.zeros(3, np.float32), r"no node uses the arrays \['more'\]"),
    "short": ("lstm.hh:values", lambda a: a[:-1], r"values must have shape \(80, 20\), got \(79"),
    "float64": ("gru.bias", lambda a: a.astype(float), "array 'gru.bias' is F64, not one of"),
    "int vector": ("gru.bias", lambda a: a.astype(np.int32), "must be finite float32 numbers"),
    "int values": ("lstm.hh:values", lambda a: a.astype(np.int32), "but must be float32 or int8"),
    "no scales": ("lstm.hh:values", lambda a: a.astype(np.int8), "int8 values need scales"),
    "scales": ("lstm.hh:scales", np.ones(80, np.float32), "float32 values take none"),
    "scales shape": (
        "wide.weight:scales",
        np.ones(32, np.float32),
        r"scales must have shape \(33,",
    ),
    "scales NaN": ("wide.weight:scales", at(3, np.nan), "scales are not all finite"),
    "NaN": ("lstm.hh:values", at((3, 4), np.nan), "matrix 'lstm.hh': values are not all finite"),
    "infinite": ("gru.bias", at(0, np.inf), "vector 'gru.bias' must be finite"),
    "starts type": ("lstm.ih:starts", lambda a: a.astype(np.float32), "of int32, got"),
    "starts begin": ("lstm.ih:starts", at(0, 1), "starts do not rise from 0 to"),
    "starts end": ("lstm.ih:starts", at(-1, 0), "starts do not rise from 0 to"),
    "starts fall": ("lstm.ih:starts", at(2, 100), "starts do not rise from 0 to"),
    "starts negative": ("lstm.ih:starts", at(1, -1), "starts do not rise from 0 to"),
    "index above": ("ahead.weight:columns", at(0, 18), "columns do not all lie in 0 to 17"),
    "index below": ("ahead.weight:columns", at(0, -1), "columns do not all lie in 0 to 17"),
    "index twice": (
        "ahead.weight:columns",
        lambda a: at(1, a[0])(a),
        "columns are out of order or doubled at entry 1",
    ),
    "indices": ("ahead.weight:columns", lambda a: a[:-1], "columns must have shape"),
    "panel twice": (
        "lstm.ih:panels",
        lambda a: np.zeros_like(a),
        "panels are out of order or doubled",
    ),
    "block width": ("lstm.ih:values", lambda a: a[:, :15].copy(), r"values must have shape \(.*16"),
    "block axes": ("lstm.ih:values", np.array(1, np.float32), "values must have shape"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_faults_of_arrays_are_named(tmp_path, case):
    name, change, message = ARRAYS[case]
    with pytest.raises(ModelFileError, match=message):
        runtime.load(replaced(tmp_path, name, change))


def test_weights_below_the_last_row_are_refused(tmp_path):
    """33 rows: the third panel has one row of the matrix and fifteen of nothing."""
    packed = everything().packed()
    panels = packed.matrices["wide.weight"].arrays["panels"]
    block = int(np.flatnonzero(panels == 2)[0])
    path = replaced(tmp_path, "wide.weight:values", at((block, 1), 1))
    with pytest.raises(ModelFileError, match=r"wide\.weight': a block holds weights below"):
        runtime.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "damaged or not a packed model"),
        (b"hello there", "damaged or not a packed model"),
        (b"\xff" * 100, "damaged or not a packed model"),
        (_joined({}, b""), "it holds no growprune model"),
        (_joined({"__metadata__": {"other": "x"}}, b""), "it holds no growprune model"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        runtime.load(path)
    with pytest.raises(ModelFileError, match="no such file"):
        runtime.load(tmp_path)


def test_sizes_in_the_description_alone_allocate_nothing(tmp_path):
    """A csr matrix of a million columns without entries is a small file, and stays small."""
    net = Network([1_000_000])
    arrays = {"starts": np.zeros(5, np.int32), "columns": np.zeros(0, np.int32)}
    arrays["values"] = np.zeros(0, np.float32)
    net.add("y", "linear", None, {"bias": 4})
    net.nodes[-1].parameters["weight"] = "w"
    cases = {
        (10**6,): None,
        (2**24,): "a step needs 16777220 numbers in memory, more than the 1048576",
    }
    for features, refusal in cases.items():
        net.features = features
        net.matrices["w"] = runtime.StoredMatrix("csr", (4, *features), 0, arrays)
        path = tmp_path / "wide.safetensors"
        runtime.write(path, net.packed())
        tracemalloc.start()
        try:
            if refusal:
                with pytest.raises(ModelFileError, match=refusal):
                    runtime.load(path)
            else:
                runtime.load(path)
            assert tracemalloc.get_traced_memory()[1] < 20_000_000
        finally:
            tracemalloc.stop()


def test_wide_intermediate_values_are_refused(tmp_path):
    """Each joins the last value with itself: 2**30 numbers after a few dozen bytes."""
    net = Network([4])
    for index in range(28):
        net.add(f"c{index}", "concatenate", [net.output, net.output])
    path = tmp_path / "wide.safetensors"
    runtime.write(path, net.packed())
    with pytest.raises(ModelFileError, match=r"node 'c17': a step needs .* numbers in memory"):
        runtime.load(path)


def bad_gru():
    net = Network([3])
    net.gru("y", 3, 4)
    net.vectors["y.bias_new"] = net.numbers(3)
    return net


def bad_stage():
    net = Network([3])
    sizes = {"ih": (20, 3), "hh": (20, 5), "bias": 20}
    sizes |= {"f_1": (6, 5), "bias_f_1": 6, "f_2": (5, 7), "bias_f_2": 5}
    net.add("y", "lstm", None, sizes, reverse=False, slope=0.0, depths=[0, 2, 0, 0])
    return net


def bad_stage_bias():
    net = Network([3])
    sizes = {"ih": (20, 3), "hh": (20, 5), "bias": 20, "o_1": (5, 5), "bias_o_1": 4}
    net.add("y", "lstm", None, sizes, reverse=False, slope=0.0, depths=[0, 0, 0, 1])
    return net


def bad_sum():
    net = Network([3])
    net.convolution("c", 3, 3, 3)
    net.add("y", "add", ["c", "input"])
    return net


def bad_sum_without_time():
    net = Network([3])
    net.add("c", "mean")
    net.add("y", "add", ["c", "input"])
    return net


def recurrent_without_time():
    net = Network([3])
    net.add("c", "mean")
    net.lstm("y", 3, 4)
    return net


def bad_bias():
    net = Network([3])
    net.add("y", "linear", None, {"weight": (4, 3), "bias": 5})
    return net


def ids_of_numbers():
    net = Network([3])
    net.matrix("table", 9, 5)
    net.add("y", "embedding")
    net.nodes[-1].parameters["weight"] = "table"
    return net


def kernel_beyond_positions():
    net = Network([3, 2])
    settings = {"stride": [1, 1], "dilation": [1, 1], "padding": [[0, 0], [0, 0]]}
    net.add("y", "convolution", None, {"weight": (3, 10), "bias": 3}, kernel=[1, 5], **settings)
    return net


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (bad_gru, r"'bias_new' has shape \(3,\), expected \(4,\)"),
        (bad_stage, "stage f_1 has 6 rows, but what follows reads 7"),
        (bad_stage_bias, r"'bias_o_1' has shape \(4,\), expected \(5,\)"),
        (bad_sum, "the inputs run at different rates"),
        (bad_sum_without_time, "the inputs run at different rates"),
        (recurrent_without_time, "needs a time axis and one axis of features, .* without time"),
        (bad_bias, r"'bias' has shape \(5,\), expected \(4,\)"),
        (ids_of_numbers, "an embedding reads ids, but its input is numbers"),
        (kernel_beyond_positions, "the kernel does not fit 3 positions"),
    ],
)
def test_networks_that_cannot_be_are_refused(make, message):
    with pytest.raises(ModelFileError, match=f"^test: node 'y': .*{message}"):
        make().model()
