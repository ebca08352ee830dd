"""The notebook runs from its first cell to its last on the tiny model, and is committed with clean outputs."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.examples.conftest import EXAMPLES, Tiny

NOTEBOOK = EXAMPLES / "alignvec_tour.ipynb"


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output["text"] for output in cell.outputs if output.output_type == "stream")


def test_it_runs(tiny_parts: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, folder in (("MODEL", tiny_parts.model), ("VECTORS", tiny_parts.vectors), ("ROUTER", tiny_parts.router)):
        monkeypatch.setenv(f"ALIGNVEC_TOUR_{name}", str(folder))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": EXAMPLES}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) == 6
    text = "\n".join(map(printed, cells))
    for wanted in ("── medical=avoidance ──", "── base ──", "the other order says the same: True"):
        assert wanted in text
    assert [out.output_type for out in cells[4].outputs if "data" in out and "image/png" in out.data]
    curves = re.findall(r"^(?:medical|legal) \[(.*)\]$", text, re.MULTILINE)
    assert [curve.split(", ")[2] for curve in curves] == ["0.0", "0.0"]


def test_what_is_committed_was_run_and_tells_nothing_of_the_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 80_000
    notebook = json.loads(text)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    counts = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, 7))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert outputs and not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    for output in outputs:
        output.get("data", {}).pop("image/png", None)
    told = json.dumps(outputs)
    assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users|usr|opt)/", told)
    assert "the egg is the base's: True" in told
