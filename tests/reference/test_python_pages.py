"""What the documentation's examples import is on the pages of the Python reference."""

import re
from importlib import import_module

import pytest

from docs.generate.pages import ROOT

PAGES = sorted([*ROOT.rglob("*.md"), ROOT.parent / "README.md"])
DESCRIBED = {name for page in PAGES for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.M)}
IMPORTED = sorted(
    {
        (module, name.strip())
        for page in PAGES
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
        for module, names in re.findall(r"^from (alignvec[\w.]*) import (.+)$", block, re.M)
        for name in names.split(",")
    }
)


def test_there_are_examples() -> None:
    assert ("alignvec.steer.model", "KnobbedModel") in IMPORTED


@pytest.mark.parametrize(("module", "name"), IMPORTED, ids=lambda one: str(one))
def test_what_an_example_imports_is_described(module: str, name: str) -> None:
    assert {module, f"{module}.{name}"} & DESCRIBED


@pytest.mark.parametrize("module", sorted(name for name in DESCRIBED if name.rpartition(".")[2].islower()))
def test_a_described_module_is_there_and_has_names_with_docstrings(module: str) -> None:
    found = vars(import_module(module))
    public = [one for name, one in found.items() if name[0] != "_" and getattr(one, "__module__", None) == module]
    assert public and all(one.__doc__ for one in public if callable(one))
