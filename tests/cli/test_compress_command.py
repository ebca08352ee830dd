"""`alignvec compress`: the table, the JSON, the files, and one line for a user's mistake."""

import json
from pathlib import Path

import numpy as np
import pytest
from running import Command, assert_told, prepared

from alignvec.evaluate.compression import CompressionReport
from alignvec.vectors.store import load_vector, save_vector
from tests.conftest import MakeVector


@pytest.fixture
def place(make_vector: MakeVector, tmp_path: Path) -> Path:
    """Folder of a hinged vector of rank 4."""
    save_vector(make_vector(rank=4, scale=0.3), tmp_path / "medical")
    return tmp_path / "medical"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, place: Path) -> Command:
    assert place.is_dir()  # made before the capture begins
    monkeypatch.chdir(tmp_path)
    return prepared(monkeypatch, capfd, tmp_path)


def weight_error(place: Path, form: Path) -> float:
    error = total = 0.0
    for before, after in zip(load_vector(place).parts, load_vector(form).parts, strict=True):
        for name, delta in before.deltas.items():
            exact, found = (d.dense().double().numpy() for d in (delta, after.deltas[name]))
            error, total = error + float(((found - exact) ** 2).sum()), total + float((exact**2).sum())
    return float(np.sqrt(error / total))


def test_the_table_tells_size_and_error_of_the_folders_that_are_written(
    command: Command, place: Path, tmp_path: Path
) -> None:
    done = command("compress", place, "--form", "rank=2", "--form", "sign", "--form", "size=1/4", "--out", "out")
    assert done.code == 0, done
    assert "Error" not in done.err
    table = [line.split() for line in done.out.splitlines()]
    shapes = [tuple(d.shape) for part in load_vector(place).parts for d in part.deltas.values()]
    dense = sum(2 * rows * columns for rows, columns in shapes)
    sizes = {
        "rank=2": sum(4 * (rows + columns) for rows, columns in shapes),
        "sign": sum(rows * columns // 8 + 4 for rows, columns in shapes),
        "size=0.25": sum(2 * min(int(r * c / 4 / (r + c)), 4) * (r + c) for r, c in shapes),
    }
    assert table[0][0] == "form"
    for row, (form, size) in zip(table[1:], sizes.items(), strict=False):
        folder = tmp_path / "out" / form.replace("=", "-")
        error = weight_error(place, folder)
        assert row[:4] == [form, f"{size / 1e6:.2f}", f"{size / dense:.4f}", f"{error:.3f}"]
    assert "out" in table[-1][0]
    assert max(map(len, done.out.splitlines())) <= 80
    assert (tmp_path / "out" / "compression.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "compression.json",
        "compression.png",
        "rank-2",
        "sign",
        "size-0.25",
    ]


def test_json_is_what_is_stored(command: Command, place: Path) -> None:
    done = command(
        "compress", place, "--form", "topk=0.05", "--form", "dare=0.5", "--seed", 3, "--out", "out", "--json"
    )
    assert done.code == 0, done
    stored = CompressionReport.model_validate_json(Path("out/compression.json").read_text())
    assert CompressionReport.model_validate_json(done.out) == stored
    assert [form.form for form in stored.forms] == ["topk=0.05", "dare=0.5"]
    assert (stored.vector, stored.seed, stored.data, stored.queries) == ("medical", 3, None, 0)
    assert stored.provenance.command.startswith("alignvec compress")


def test_behaviour_is_measured_on_the_first_rows_of_a_split(
    command: Command, place: Path, tiny_folder: Path, data_file: Path
) -> None:
    options = ["--behaviour", "--model", tiny_folder, "--data", data_file, "--split", "test", "--limit", 3]
    arguments = ["compress", place, "--form", "rank=1", "--form", "dense", "--out", "out", *options]
    done = command(*arguments, "--json")
    assert done.code == 0, done
    report = CompressionReport.model_validate_json(done.out)
    assert (report.queries, report.data) == (3, "medical.jsonl test")
    for form in report.forms:
        assert [(end.coefficient, end.level) for end in form.behaviour] == [(1.0, "expert"), (-1.0, "avoidance")]
        for end in form.behaviour:
            assert (end.rate.value * 3) % 1 == pytest.approx(0, abs=1e-9)
            assert (end.change.value * 3) % 100 == pytest.approx(0, abs=1e-6)
    assert Path("out/journal.jsonl").is_file()
    shown = command(*arguments).out
    for form in report.forms:
        for end in form.behaviour:
            assert f"{end.change.value:+.1f} [{end.change.low:+.1f}, {end.change.high:+.1f}]" in shown
            assert f"{end.margin_kept:.2f}" in shown
    assert "3 queries of medical.jsonl test" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown


def test_a_form_that_is_asked_for_twice_is_made_once(command: Command, place: Path) -> None:
    forms = ["--form", "rank=2", "--form", "rank=2.0", "--form", "topk=1/50", "--form", "topk=0.02"]
    done = command("compress", place, *forms, "--out", "out", "--json")
    assert [form["form"] for form in json.loads(done.out)["forms"]] == ["rank=2", "topk=0.02"]


def test_exact_is_no_worse_than_randomised_on_a_dense_vector(command: Command, make_vector: MakeVector) -> None:
    vector = make_vector(hinged=False, rank=4, scale=0.3)
    dense = (vector + (-1e-3) * make_vector(hinged=False, rank=64, seed=5)).positive
    from dataclasses import replace

    from alignvec.vectors.delta import DenseDelta

    save_vector(replace(vector, positive={n: DenseDelta(d.dense()) for n, d in dense.items()}), Path("dense"))
    errors = []
    for option in ([], ["--exact"]):
        done = command("compress", "dense", "--form", "rank=2", *option, "--out", f"out{len(option)}", "--json")
        errors.append(json.loads(done.out)["forms"][0]["weight_error"])
    assert errors[1] <= errors[0] * (1 + 1e-6)
    assert errors[0] <= 1.02 * errors[1]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["medical", "--out", "out"], ["Missing option", "--form"]),
        (["medical", "--form", "rank=2"], ["Missing option", "--out"]),
        (["medical", "--form", "lora", "--out", "out"], ["ConfigError", "unknown form 'lora'", "rank: low rank"]),
        (["medical", "--form", "sign", "--form", "rank=0", "--out", "out"], ["ConfigError", "'0' is out of range"]),
        (["nowhere", "--form", "sign", "--out", "out"], ["VectorError", "no vector at nowhere", "card.json"]),
        (["medical", "--form", "sign", "--out", "file"], ["StorageError", "file"]),
        (["medical", "--form", "sign", "--out", "medical"], ["StorageError", "inside the vector", "--out"]),
        (["medical", "--form", "sign", "--out", "medical/forms"], ["StorageError", "inside the vector"]),
        (["medical", "--form", "sign", "--out", "out", "--limit", "3"], ["ConfigError", "--limit", "--behaviour"]),
        (["medical", "--form", "sign", "--out", "out", "--model", "none"], ["ConfigError", "--model", "--behaviour"]),
        (["medical", "--form", "sign", "--out", "out", "--limit", "0"], ["--limit", "greater than or equal to 1"]),
        (
            ["medical", "--form", "sign", "--out", "out", "--behaviour", "--data", "none.jsonl"],
            ["DataError", "no data file at none.jsonl"],
        ),
        (
            [
                "medical",
                "--form",
                "sign",
                "--out",
                "out",
                "--behaviour",
                "--data",
                "medical.jsonl",
                "--model",
                "none/x/y",
            ],
            ["ModelError", "no model folder at none/x/y"],
        ),
    ],
)
def test_a_mistake_is_one_line(command: Command, data_file: Path, arguments: list[str], parts: list[str]) -> None:
    assert data_file.is_file()
    assert_told(command("compress", *arguments), *parts)
    assert not Path("out").exists()


def test_behaviour_of_a_vector_on_another_base_is_refused(command: Command, place: Path, data_file: Path) -> None:
    from tests.conftest import write_tiny_model

    other = write_tiny_model(Path("other"), seed=4)
    options = ["--behaviour", "--model", other, "--data", data_file]
    assert_told(
        command("compress", place, "--form", "sign", "--out", "out", *options), "VectorError", "belongs to base"
    )


def test_of_a_launch_the_main_process_alone_compresses_where_nothing_is_scored(
    command: Command, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("compress", place, "--form", "rank=2", "--out", "out")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    done = command(*line)
    assert (done.code, done.out, (tmp_path / "out").exists()) == (0, "", False)
    monkeypatch.setenv("RANK", "0")
    assert command(*line).code == 0 and (tmp_path / "out/rank-2/card.json").is_file()
