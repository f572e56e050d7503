"""Fill the README's marked blocks with what lies under results/, so that no figure is typed.

python docs/fill_readme.py
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from growprune.files import write_text
from growprune.reports import Comparison, comparison_table, read_record

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FLICKR8K_COLUMNS = ("neuraltalk-lstm", "neuraltalk-hlstm", "neuraltalk-hlstm-gp")


def blocks() -> dict[str, str]:
    """Every marked block's content, made from the results."""
    output = (ROOT / "results/demo/output.txt").read_text(encoding="utf-8")
    an4 = (ROOT / "results/an4/README.md").read_text(encoding="utf-8")
    runtime = (ROOT / "results/runtime/summary.md").read_text(encoding="utf-8")
    return {
        "an4": an4.removeprefix("# AN4").split("\n## ")[0].replace("](", "](results/an4/").strip(),
        "flickr8k": without(comparison("flickr8k", FLICKR8K_COLUMNS), ("Dev", "ROUGE")),
        "runtime": runtime.strip(),
        "demo": f"```\n{output.strip()}\n```",
    }


def comparison(folder: str, columns: Sequence[str]) -> Comparison:
    """The comparison of the records in `results/folder/records` of these recipes, in this order."""
    paths = sorted((ROOT / "results" / folder / "records").glob("*.json"))
    records = [record for record in map(read_record, paths) if record.name in columns]
    return comparison_table(sorted(records, key=lambda r: (columns.index(r.name), r.seed)))


def without(table: Comparison, words: Sequence[str]) -> str:
    """The comparison as Markdown, less the rows whose names have one of the words."""
    rows = tuple(row for row in table.rows if not any(word in row[0] for word in words))
    return replace(table, rows=rows).markdown().strip()


def filled(text: str) -> str:
    """`text` with the content of its marked blocks replaced.

    Raises:
        ValueError: a block's markers are missing.
    """
    for name, content in blocks().items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"README.md has no block between <!-- {name} --> and <!-- /{name} -->")
        text = pattern.sub(lambda found, new=content: f"{found[1]}{new}\n{found[2]}", text)
    return text


if __name__ == "__main__":
    write_text(README, filled(README.read_text(encoding="utf-8")))
