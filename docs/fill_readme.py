"""Fill the README's marked blocks with what lies under results/, so that no figure is typed.

python docs/fill_readme.py
"""

import re
from pathlib import Path

from growprune.files import write_text

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def blocks() -> dict[str, str]:
    """Every marked block's content, made from the results."""
    output = (ROOT / "results/demo/output.txt").read_text(encoding="utf-8")
    runtime = (ROOT / "results/runtime/summary.md").read_text(encoding="utf-8")
    return {
        "an4": page("an4"),
        "flickr8k": page("flickr8k"),
        "runtime": runtime.strip(),
        "demo": f"```\n{output.strip()}\n```",
    }


def page(name: str) -> str:
    """What `results/NAME/README.md` says between its title and its first section."""
    folder = f"results/{name}"
    text = (ROOT / folder / "README.md").read_text(encoding="utf-8").partition("\n")[2]
    return text.split("\n## ")[0].replace("](", f"]({folder}/").strip()


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
