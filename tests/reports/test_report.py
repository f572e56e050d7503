import re
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from growprune.errors import CheckpointError
from growprune.reports import comparison_table, read_record, write_report


def test_report_holds_table_curves_and_connections(make_run, tmp_path):
    runs = [make_run("dense"), make_run("sparse", masked=True, name="small")]
    page = write_report(runs, tmp_path / "new" / "report")
    assert page == tmp_path / "new" / "report" / "report.md"
    text = page.read_text(encoding="utf-8")
    assert comparison_table([read_record(run) for run in runs]).markdown() in text
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert pictures == ["curves.png", "connections-small-seed0.png"]
    found = {path.name for path in page.parent.iterdir()}
    assert found == {"report.md", "records", *pictures}
    assert "## Connections of base, seed 0\n\nDense: every connection is active." in text
    assert "| lstm.weight_ih_l0 | 8 x 3 | 12 | 50.0% |" in text
    assert "| conv.weight | 2 x 3 x 5 | 30 | 100.0% |" in text


def test_every_run_gets_its_own_picture(make_run, tmp_path):
    runs = [
        make_run("a", masked=True, seed=0),
        make_run("b", masked=True, seed=1),
        make_run("c", masked=True, seed=1, recipe={"name": "base", "other": 1}),
    ]
    write_report(runs, tmp_path / "report")
    found = {path.name for path in (tmp_path / "report").glob("connections-*.png")}
    assert found == {
        "connections-base-seed0.png",
        "connections-base-seed1.png",
        "connections-base-seed1-run2.png",
    }


def test_a_record_without_weights_is_enough(make_run, tmp_path):
    run = make_run("a", masked=True)
    (run / "weights.safetensors").unlink()
    text = write_report([run], tmp_path / "report").read_text(encoding="utf-8")
    assert "The weights are not beside the record" in text


def test_report_replaces_an_earlier_one(make_run, tmp_path):
    write_report([make_run("a")], tmp_path / "report")
    page = write_report([make_run("b", name="later")], tmp_path / "report")
    assert "later" in page.read_text(encoding="utf-8")
    assert "base" not in page.read_text(encoding="utf-8")


def test_missing_run_writes_nothing(make_run, tmp_path):
    with pytest.raises(CheckpointError, match=r"gone/record\.json: no such run record"):
        write_report([make_run("a"), tmp_path / "gone"], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_no_runs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to compare"):
        write_report([], tmp_path / "report")


def test_damaged_weights_name_file_and_remedy(make_run, tmp_path):
    run = make_run("a", masked=True)
    content = (run / "weights.safetensors").read_bytes()
    (run / "weights.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: not a readable .* delete"):
        write_report([run], tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("mask", ["mask:lstm.weight_ih_l0", "mask:unknown"])
def test_masks_of_another_run_are_refused(make_run, tmp_path, mask):
    run = make_run("a")
    save_file({mask: np.ones((5, 5), np.uint8)}, run / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"mask of .* \(5, 5\).*different runs"):
        write_report([run], tmp_path / "report")


def test_reports_load_neither_torch_nor_pyplot():
    program = (
        "import sys, growprune.reports\n"
        "print([m for m in ('torch', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_report_can_be_made_again_from_the_records_it_keeps(make_run, tmp_path):
    runs = [make_run("a", seed=0), make_run("b", seed=1)]
    first = write_report(runs, tmp_path / "first").read_text()
    kept = sorted((tmp_path / "first" / "records").glob("*.json"))
    assert [path.name for path in kept] == ["base-seed0.json", "base-seed1.json"]
    again = write_report(kept, tmp_path / "again").read_text()
    assert again.split("## Training")[0] == first.split("## Training")[0]
