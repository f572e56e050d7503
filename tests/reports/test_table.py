import io

import pytest
from rich.console import Console

from growprune.errors import CheckpointError
from growprune.reports import comparison_table, print_comparison
from growprune.reports.table import _amount


def small(make_record, **changes):
    """A recipe with a quarter of the base's weights and so on."""
    cost = {
        "weights": {
            "recurrent": 250_000,
            "whole": 1_250_000,
            "recurrent_dense": 2_000_000,
            "whole_dense": 3_000_000,
        },
        "flops_per_second": {"recurrent": 1e8, "whole": 9e8},
    }
    scores = {"dev": {"wer": 0.1, "cer": 0.05}, "test": {"wer": 0.087, "cer": 0.07}}
    return make_record(
        **{"name": "small", "cost": cost, "scores": scores, "seconds": 1200.0} | changes
    )


def test_every_figure_of_two_runs(make_record):
    latency = make_record()["latency"] | {"milliseconds": 16.0}
    table = comparison_table([make_record(), small(make_record, latency=latency)])
    assert table.columns == ("base", "small")
    assert table.rows == (
        ("Weights, recurrent layers", ("1.00 M", "250 k (4.0x less)")),
        ("... if dense", ("1.00 M", "2.00 M (2.0x more)")),
        ("Weights, whole model", ("2.00 M", "1.25 M (1.60x less)")),
        ("... if dense", ("2.00 M", "3.00 M (1.50x more)")),
        ("FLOPs per second of audio, recurrent layers", ("400 M", "100 M (4.0x less)")),
        ("FLOPs per second of audio, whole model", ("1.20 G", "900 M (1.33x less)")),
        ("Latency per utterance, median", ("20.0 ms", "16.0 ms (1.25x less)")),
        ("Dev WER", ("12.0 %", "10.0 % (-2.0)")),
        ("Dev CER", ("5.0 %", "5.0 % (+0.0)")),
        ("Test WER", ("12.9 %", "8.7 % (-4.2)")),
        ("Test CER", ("6.0 %", "7.0 % (+1.0)")),
        ("Training time", ("10.0 min", "20.0 min (2.0x more)")),
    )


def test_seeds_are_merged_to_mean_and_standard_deviation(make_record):
    records = [
        make_record(seed=seed, seconds=600 * minutes, scores={"test": {"wer": wer, "cer": 0.05}})
        for seed, minutes, wer in ((0, 1, 0.10), (1, 2, 0.12), (2, 3, 0.14))
    ]
    table = comparison_table(records)
    assert table.columns == ("base",)
    rows = dict(table.rows)
    assert rows["Test WER"] == ("12.0 ± 2.0 %",)
    assert rows["Training time"] == ("20.0 ± 10.0 min",)
    assert rows["Weights, whole model"] == ("2.00 M",)
    assert any("seeds 0, 1, 2" in note for note in table.notes)
    assert any("standard deviation" in note for note in table.notes)


def test_what_was_not_measured_is_left_out_or_dashed(make_record):
    beam = {"test/beam": {"wer": 0.08, "cer": 0.04}}
    table = comparison_table(
        [make_record(latency=None), small(make_record, latency=None, scores=beam)]
    )
    rows = dict(table.rows)
    assert "Latency per utterance, median" not in rows
    assert rows["Dev WER"] == ("12.0 %", "-")
    assert rows["Test/beam WER"] == ("-", "8.0 %")
    assert [name for name in rows if name.endswith("WER")] == [
        "Dev WER",
        "Test WER",
        "Test/beam WER",
    ]


def test_notes_name_data_code_and_hardware(make_record):
    clean, changed = make_record(), make_record(name="b", dirty=True, commit=None)
    notes = comparison_table([clean, changed]).notes
    assert notes[0] == (
        "base: seed 0; data an4 (850 train, 98 dev utterances); commit 0123456789; "
        "growprune 0.1.0 and torch 2.13.0; Test CPU, 1 thread of 2 cores, on cpu; "
        "latency by torch eager, 1 thread, 30 runs over 2.7 s of audio"
    )
    assert "commit unknown with uncommitted changes" in notes[1]


def test_differing_commits_of_one_recipe_are_all_named(make_record):
    records = [make_record(seed=0), make_record(seed=1, commit="fedcba9876543210")]
    assert "commit 0123456789, fedcba9876" in comparison_table(records).notes[0]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (812, "812"),
        (999.6, "1.00 k"),
        (1000, "1.00 k"),
        (412_345, "412 k"),
        (2_593_000, "2.59 M"),
        (50_400_000, "50.4 M"),
        (999_700, "1.00 M"),
        (3.2e12, "3.20 T"),
    ],
)
def test_amounts_have_three_digits(value, written):
    assert _amount(value, None) == written


def test_spread_shares_the_prefix():
    assert _amount(2_500_000, 40_000) == "2.50 ± 0.04 M"


def test_markdown_is_a_table_with_notes(make_record):
    lines = comparison_table([make_record(name="a|b"), small(make_record)]).markdown().splitlines()
    assert lines[0] == "|  | a\\|b | small |"
    assert lines[1] == "| --- | ---: | ---: |"
    assert lines[2] == "| Weights, recurrent layers | 1.00 M | 250 k (4.0x less) |"
    table, notes = lines[: lines.index("")], lines[lines.index("") + 1 :]
    assert all(line.count("|") - line.count("\\|") == 4 for line in table)
    assert all(note.startswith("- ") for note in notes)


def test_terminal_shows_the_same_figures(make_record):
    records = [make_record(name="[bold]"), small(make_record)]
    console = Console(file=io.StringIO(), width=160)
    print_comparison(records, console)
    printed = console.file.getvalue()
    comparison = comparison_table(records)
    for name, cells in comparison.rows:
        assert any(all(part in line for part in (name, *cells)) for line in printed.splitlines())
    assert "[bold]" in printed


def test_nothing_and_damaged_records_are_refused(make_record):
    with pytest.raises(ValueError, match="nothing to compare"):
        comparison_table([])
    with pytest.raises(CheckpointError, match=r"record 2: .*seconds"):
        comparison_table([make_record(), make_record(seconds=None)])


def test_error_rates_on_splits_that_were_learnt_from_are_left_out(make_record):
    recipe = {"data": {"train_splits": ["train", "dev"]}}
    comparison = comparison_table([make_record(), make_record(name="final", recipe=recipe)])
    rows = dict(comparison.rows)
    assert rows["Dev WER"][0] != "-"
    assert rows["Dev WER"][1] == "-"
    assert rows["Test WER"][1] != "-"
    notes = [note for note in comparison.notes if note.startswith("final")]
    assert "learnt from train and dev" in notes[0]


def captioner(make_record, **changes):
    """A captioning run: costs per caption, scores in [0, 10] and [0, 1], images."""
    weights = {"recurrent": 2e6, "whole": 5e6, "recurrent_dense": 2e6, "whole_dense": 5e6}
    flops = {"recurrent": 4e7, "whole": 7e7}
    splits = {"train": {"images": 6000, "captions": 30000}, "dev": {"images": 1000}}
    changes = {
        "task": "captioning",
        "cost": {"weights": weights, "flops_per_caption": flops | changes.pop("flops", {})},
        "latency": {
            "milliseconds": 2.0,
            "milliseconds_beam_3": 5.0,
            "runs": 10,
            "threads": 1,
            "engine": "torch eager",
        },
        "data": {"name": "flickr8k", "splits": splits},
        "scores": {"test": {"cider_d": 0.42, "bleu_4": 0.17, "rouge_l": 0.44, "bleu_1": 0.6}},
    } | changes
    return make_record(**changes)


def test_captioners_are_compared_by_their_own_figures(make_record):
    measured = {"recurrent": 8e6, "recurrent_measured": 4e6}
    scores = {"test": {"cider_d": 0.441}, "test/beam 3": {"cider_d": 0.46}}
    other = captioner(make_record, name="small", flops=measured, scores=scores)
    table = comparison_table([captioner(make_record), other])
    rows = dict(table.rows)
    assert rows["FLOPs per caption, recurrent layers"] == ("40.0 M", "8.00 M (5.0x less)")
    assert rows["FLOPs per caption, recurrent layers, zeros skipped"] == ("-", "4.00 M")
    assert rows["Latency per caption, median"] == ("2.00 ms", "2.00 ms (same)")
    assert rows["... with beam 3"] == ("5.00 ms", "5.00 ms (same)")
    assert rows["Test CIDEr-D"] == ("0.420", "0.441 (+0.021)")
    assert rows["Test BLEU-4"] == ("0.170", "-")
    assert rows["Test/beam 3 CIDEr-D"] == ("-", "0.460")
    assert not any("audio" in name or "WER" in name or "BLEU-1" in name for name in rows)
    assert "data flickr8k (6000 train, 1000 dev images)" in table.notes[0]
    assert "latency by torch eager, 1 thread, 10 runs" in table.notes[0]


def test_latencies_of_several_engines_stand_in_for_the_lone_one(make_record):
    def timed(engine, greedy, beam):
        times = {"milliseconds": greedy, "milliseconds_beam_3": beam}
        return times | {"runs": 50, "threads": 1, "engine": engine}

    first = captioner(
        make_record,
        latencies={"packed": timed("kernels", 1.0, 4.0), "torch": timed("torch eager", 5.0, 6.0)},
    )
    other = captioner(make_record, name="b", latencies={"packed": timed("kernels", 0.5, 1.0)})
    table = comparison_table([first, other])
    rows = [(name, cells) for name, cells in table.rows if "Latency" in name or "beam" in name]
    assert rows == [
        ("Latency per caption, packed", ("1.00 ms", "0.500 ms (2.0x less)")),
        ("... with beam 3", ("4.00 ms", "1.00 ms (4.0x less)")),
        ("Latency per caption, torch", ("5.00 ms", "-")),
        ("... with beam 3", ("6.00 ms", "-")),
    ]
    assert table.notes[0].endswith(
        "latency by kernels, 1 thread, 50 runs, torch eager, 1 thread, 50 runs"
    )
    alone = captioner(make_record, name="c")
    rows = dict(comparison_table([first, alone]).rows)
    assert rows["Latency per caption, median"] == ("-", "2.00 ms")


def test_scores_on_other_corpora_come_last_under_their_names(make_record):
    scores = {
        "coco: test/beam 3": {"cider_d": 0.1},
        "test/beam 3": {"cider_d": 0.2},
        "dev": {"cider_d": 0.3},
    }
    recipe = {"data": {"train_splits": ["train", "dev", "test"]}}
    table = comparison_table(
        [
            captioner(make_record, scores=scores),
            captioner(make_record, scores=scores, recipe=recipe),
        ]
    )
    assert [row for row in table.rows if "CIDEr" in row[0]] == [
        ("Dev CIDEr-D", ("0.300", "-")),
        ("Test/beam 3 CIDEr-D", ("0.200", "-")),
        ("coco: test/beam 3 CIDEr-D", ("0.100", "0.100 (+0.000)")),
    ]
