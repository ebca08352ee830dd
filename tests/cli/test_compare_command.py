"""`alignvec compare`: a table on stdout, a picture beside, and one line for a user's mistake."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from running import Command, assert_told, prepared

from alignvec.vectors.card import BaseReference, Card
from alignvec.vectors.compare import Comparison, compare
from alignvec.vectors.delta import DenseDelta, LowRankDelta
from alignvec.vectors.store import load_vector, save_vector
from alignvec.vectors.vector import AlignmentVector

BASE = BaseReference(name="tiny", fingerprint="a" * 64, template="b" * 64)


def made(name: str, seed: int, *, hinged: bool = True) -> AlignmentVector:
    generator = torch.Generator().manual_seed(seed)

    def side() -> dict[str, Any]:
        return {
            f"model.layers.{i}.mlp.up_proj.weight": LowRankDelta(
                torch.randn(2, 5, generator=generator), torch.randn(7, 2, generator=generator)
            )
            for i in range(3)
        } | {"model.norm.weight": DenseDelta(torch.randn(7, generator=generator))}

    form = "hinged" if hinged else "single"
    card = Card(name=name, form=form, method="hinged" if hinged else "one-sided", base=BASE)
    return AlignmentVector(card, side(), side() if hinged else None)


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """A folder of a hinged and a single vector."""
    save_vector(made("legal", 1, hinged=False), tmp_path / "vectors" / "legal")
    save_vector(made("medical", 0), tmp_path / "vectors" / "medical")
    return tmp_path / "vectors"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return prepared(monkeypatch, capfd, tmp_path)


def table(done: str) -> dict[str, list[str]]:
    """Rows of the table by label."""
    words = [line.split() for line in done.splitlines()]
    return {row[1]: row[2:] for row in words if len(row) > 3 and row[0].isdigit()}


def test_the_table_has_the_librarys_numbers_and_the_picture_is_there(command: Command, vectors: Path) -> None:
    done = command("compare", vectors / "medical", vectors / "legal", "--out", "here/c.png")
    assert done.code == 0, done
    expected = compare([load_vector(vectors / "medical"), load_vector(vectors / "legal")]).total
    assert table(done.out) == {
        label: [f"{expected.norms[i]:.4g}", *(f"{value:.2f}" for value in expected.cosines[i])]
        for i, label in enumerate(("medical+", "medical-", "legal"))
    }
    assert done.out.splitlines()[-1] == "picture, by layer: here/c.png"
    assert Path("here/c.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_folder_of_vectors_stands_for_those_in_it_and_json_is_the_whole_result(
    command: Command, vectors: Path
) -> None:
    done = command("compare", vectors, "--json")
    assert done.code == 0, done
    found = Comparison.model_validate_json(done.out)
    assert found == compare([load_vector(vectors / "legal"), load_vector(vectors / "medical")])
    assert list(json.loads(done.out)["layers"]) == ["0", "1", "2", "norm"]
    assert Path("out/compare.png").is_file()


def test_one_hinged_vector_is_compared_with_its_other_side(command: Command, vectors: Path) -> None:
    done = command("compare", vectors / "medical")
    assert done.code == 0, done
    assert list(table(done.out)) == ["medical+", "medical-"]


def test_two_trainings_of_one_knob_are_told_apart(command: Command, vectors: Path, tmp_path: Path) -> None:
    save_vector(made("legal", 9, hinged=False), tmp_path / "again")
    done = command("compare", vectors / "legal", tmp_path / "again")
    assert done.code == 0, done
    assert list(table(done.out)) == ["legal", "legal#2"]


def test_a_wide_matrix_is_cut_into_tables_of_eighty_columns_and_none_of_it_is_lost(
    command: Command, tmp_path: Path
) -> None:
    for i in range(9):
        save_vector(made(f"a-domain-{i}", i, hinged=False), tmp_path / "many" / str(i))
    done = command("compare", tmp_path / "many", "--json")
    expected = json.loads(done.out)["total"]["cosines"]
    done = command("compare", tmp_path / "many")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in done.out
    rows = [line.split()[3:] for line in lines if line.split()[1:2] and line.split()[1].startswith("a-domain")]
    shown = [left + right for left, right in zip(rows[:9], rows[9:], strict=True)]
    assert shown == [[f"{value:.2f}" for value in row] for row in expected]


def test_a_single_vector_alone_is_refused(command: Command, vectors: Path) -> None:
    assert_told(command("compare", vectors / "legal"), "VectorError", "two vectors", "only 'legal' was given")
    assert not Path("out").exists()


def test_another_base_is_refused_unless_it_is_meant(command: Command, vectors: Path, tmp_path: Path) -> None:
    other = made("other", 3)
    base = BASE.model_copy(update={"fingerprint": "f" * 64})
    save_vector(replace(other, card=other.card.model_copy(update={"base": base})), tmp_path / "other")
    arguments = ["compare", vectors / "medical", tmp_path / "other"]
    assert_told(command(*arguments), "'medical' and 'other'", "different bases", "--allow-other-base")
    assert command(*arguments, "--allow-other-base").code == 0


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nowhere"], ["VectorError", "no vectors in nowhere", "card.json"]),
        (["vectors", "--out", "c.pdf"], ["ConfigError", "--out is c.pdf", ".png"]),
        (["vectors", "--out", "file/c.png"], ["StorageError", "file/c.png", "choose another place"]),
        ([], ["Missing argument", "vectors"]),
    ],
)
def test_a_mistake_is_one_line(command: Command, vectors: Path, arguments: list[str], parts: list[str]) -> None:
    assert vectors.is_dir()
    assert_told(command("compare", *arguments), *parts)


def test_a_damaged_dense_tensor_is_told(command: Command, vectors: Path) -> None:
    path = vectors / "legal" / "deltas.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert_told(command("compare", vectors), "VectorError", path, "model.norm.weight is damaged")
