"""`alignvec disentangle`: vectors beside the originals, cosines before and after, one line for a mistake."""

import json
from pathlib import Path

import pytest
from running import Command, assert_told

from alignvec.vectors.compare import compare
from alignvec.vectors.disentangle import disentangle
from alignvec.vectors.store import load_vector, save_vector
from tests.conftest import MakeVector


@pytest.fixture
def vectors(make_vector: MakeVector, tmp_path: Path) -> Path:
    """A folder of two hinged vectors that share half of what they are."""
    common = make_vector(seed=9)
    for seed, name in enumerate(("medical", "legal")):
        save_vector(make_vector(name, seed=seed) + common, tmp_path / "vectors" / name)
    return tmp_path / "vectors"


def test_vectors_are_written_and_their_cosines_told(command: Command, vectors: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command("disentangle", vectors, "--out", out, "--strength", "1", "--by", "singular", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    given = [load_vector(vectors / name) for name in ("legal", "medical")]
    made = [load_vector(out / name) for name in ("legal", "medical")]
    assert told["vectors"] == [str(out / "legal"), str(out / "medical")]
    assert told["before"] == compare(given).model_dump(mode="json")
    assert told["after"]["total"]["norms"] == pytest.approx(compare(made).total.norms)
    expected = disentangle(given, 1.0, by="singular")
    assert told["rank_cut"] == {v.name: v.card.error["rank_cut"] for v in expected}
    assert [v.card.recipe["strength"] for v in made] == [1.0, 1.0]

    done = command("disentangle", vectors / "legal", vectors / "medical", "--out", out, "--rank", "16")
    assert done.code == 0, done.err
    assert all(len(line) <= 80 for line in done.out.splitlines() if str(tmp_path) not in line)
    cosines = compare(given).total.cosines
    (pair,) = [line.split() for line in done.out.splitlines() if line.startswith("legal+  medical+")]
    assert float(pair[2]) == pytest.approx(cosines[0][2] or 0, abs=0.006) and float(pair[3]) < float(pair[2]) - 0.1
    assert "cut to its rank" not in done.out


def test_the_originals_are_never_replaced(command: Command, vectors: Path, tmp_path: Path) -> None:
    before = (vectors / "legal/card.json").read_text()
    assert_told(command("disentangle", vectors, "--out", vectors), "the vector itself", "choose another --out")
    (tmp_path / "mine/legal").mkdir(parents=True)
    (tmp_path / "mine/legal/notes.txt").write_text("mine")
    done = command("disentangle", vectors, "--out", tmp_path / "mine")
    assert_told(done, "StorageError", tmp_path / "mine/legal", "something else than a vector")
    assert (vectors / "legal/card.json").read_text() == before


def test_a_mistake_is_one_line(command: Command, vectors: Path, make_vector: MakeVector, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "out"]
    assert_told(command("disentangle", vectors / "legal", *out), "VectorError", "two or more")
    assert_told(command("disentangle", vectors, *out, "--strength", "2"), "ConfigError", "from 0 to 1")
    assert_told(command("disentangle", tmp_path / "none", *out), "VectorError", "no vectors in")
    save_vector(make_vector("single", hinged=False), tmp_path / "single")
    done = command("disentangle", vectors, tmp_path / "single", *out)
    assert_told(done, "VectorError", "'single' is single", "one form")
    assert not (tmp_path / "out").exists()
