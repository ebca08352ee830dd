"""Every benchmark's imports hold: a name that moved would else be noticed only by who runs it."""

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def apart() -> Iterator[None]:
    """Modules that scripts take from their own folder are forgotten, as other folders have some of the same names."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if FOLDER in Path(getattr(sys.modules[name], "__file__", None) or "/").parents:
            del sys.modules[name]


@pytest.mark.parametrize("name", sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.py")))
def test_a_benchmark_finds_what_it_imports(name: str, monkeypatch: pytest.MonkeyPatch, apart: None) -> None:
    monkeypatch.syspath_prepend(str((FOLDER / name).parent))
    assert runpy.run_path(str(FOLDER / name), run_name="imported")["__doc__"]
