import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def fill_readme():
    spec = importlib.util.spec_from_file_location("fill_readme", ROOT / "docs" / "fill_readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readmes_figures_are_those_of_the_records():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert fill_readme().filled(text) == text


def test_every_committed_record_names_its_commit_seed_data_and_hardware():
    import json

    records = [json.loads(path.read_text()) for path in ROOT.glob("results/*/records/*.json")]
    assert records
    for record in records:
        assert record["commit"]
        assert not record["dirty"]
        assert isinstance(record["seed"], int)
        assert record["data"]["name"]
        assert record["hardware"]["cpu"]


def test_links_of_the_documentation_lead_somewhere():
    import re

    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("results/*/*.md")]
    links = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
        if "://" not in target
    ]
    assert len(links) > 5
    assert [
        (str(page), target) for page, target in links if not (page.parent / target).exists()
    ] == []
