"""Fill the README's marked blocks with what lies under results/, so that no figure is typed.

python docs/fill_readme.py
"""

import re
from pathlib import Path

from growprune.files import write_text
from growprune.reports import comparison_table, read_record

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
AN4_COLUMNS = ("an4-lstm-final", "an4-hlstm-gp-final")


def blocks() -> dict[str, str]:
    """Every marked block's content, made from the results."""
    records = [read_record(path) for path in sorted((ROOT / "results/an4/records").glob("*.json"))]
    ordered = sorted(records, key=lambda record: (AN4_COLUMNS.index(record.name), record.seed))
    output = (ROOT / "results/demo/output.txt").read_text(encoding="utf-8")
    runtime = (ROOT / "results/runtime/summary.md").read_text(encoding="utf-8")
    return {
        "an4": comparison_table(ordered).markdown().strip(),
        "runtime": runtime.strip(),
        "demo": f"```\n{output.strip()}\n```",
    }


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
