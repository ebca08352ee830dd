"""`alignvec solve` on the tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import Command

from alignvec.vectors.store import save_vector
from tests.conftest import preference_record


@pytest.fixture
def options(make_vector: Any, tiny_folder: Path, tmp_path: Path) -> list[Any]:
    """Two vectors, and two files of data."""
    found: list[Any] = ["--model", tiny_folder, "--settings", 6, "--budget", 9, "--max-new-tokens", 4]
    for seed, domain in enumerate(("legal", "medical")):
        save_vector(make_vector(domain, seed=seed, scale=0.3), tmp_path / "vectors" / domain)
        splits = ["train"] * 6 + ["validation"] * 4 + ["test"] * 4
        records = [preference_record(i, split, domain) for i, split in enumerate(splits)]
        for record in records:
            record["persona"] = f"{record['persona']} of {domain}"
        (tmp_path / f"{domain}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        found += ["--data", tmp_path / f"{domain}.jsonl"]
    return [*found, "--vectors", tmp_path / "vectors"]


@pytest.mark.parametrize("by", ["level", "preference"])
def test_all_goals_come_from_one_set_of_settings_and_a_second_run_measures_nothing(
    command: Command, options: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    done = command("solve", "--all", "--by", by, *options, "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert len(found["goals"]) == 9 and 7 <= found["evaluations"] <= 9
    assert found["box"] == {"legal": [-1.0, 1.0], "medical": [-1.0, 1.0]}
    for solved in found["goals"]:
        for rates in solved["measured"].values():
            assert sum(rate["value"] for rate in rates.values()) == pytest.approx(1.0)
        assert (solved["blocked_by"] is None) == solved["reached"]["0.6"]
    stored = yaml.safe_load((tmp_path / "out" / "settings.yaml").read_text())["settings"]
    assert [entry["knobs"] for entry in stored.values()] == [solved["knobs"] for solved in found["goals"]]

    from alignvec.steer.model import KnobbedModel

    monkeypatch.setattr(KnobbedModel, "score", None)
    monkeypatch.setattr(KnobbedModel, "generate", None)
    again = command("solve", "--all", "--by", by, *options, "--out", tmp_path / "out")
    assert again.code == 0 and "of 9 goals" in again.out and "settings measured" in again.out


def test_a_solved_setting_is_named_wherever_a_knob_is(command: Command, options: list[Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    goals = ["--goal", "medical=expert", "--goal", "legal=avoidance"]
    assert command("solve", *goals, "--by", "preference", *options, "--out", out).code == 0
    knobs = next(iter(yaml.safe_load((out / "settings.yaml").read_text())["settings"].values()))["knobs"]
    rest = ["--model", options[1], "--vectors", tmp_path / "vectors", "--max-new-tokens", 4, "--json"]
    for name in ("", "#legal=avoidance,medical=expert"):
        done = command("ask", "Why?", "--knob", f"@{out / 'settings.yaml'}{name}", *rest)
        assert done.code == 0, done.err
        plain = command("ask", "Why?", "--knob", ",".join(f"{n}={v}" for n, v in knobs.items()) or "base", *rest)
        assert json.loads(done.out) == json.loads(plain.out)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "either --goal"),
        (["--all", "--goal", "medical=expert"], "either --goal"),
        (["--goal", "medical=superb"], "no level 'superb'"),
        (["--goal", "tax=expert"], "no domain 'tax'"),
        (["--all", "--settings", 50, "--budget", 50], "--budget 50 must be more"),
    ],
)
def test_what_cannot_be_solved_is_told_before_anything_is_measured(
    command: Command, options: list[Any], given: list[Any], told: str
) -> None:
    done = command("solve", *options, *given)
    assert done.code == 2 and told in done.err and done.out == ""


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file"),
        ("settings: 3", "holds no settings"),
        ("[", "holds no settings"),
        ("settings: {a=b: {knobs: {medical: 1}}, c=d: {knobs: {}}}", "2 settings for"),
        ("settings: {}", "no settings for"),
    ],
)
def test_a_file_of_settings_that_cannot_be_read_is_told(
    command: Command, options: list[Any], tmp_path: Path, content: str | None, told: str
) -> None:
    if content is not None:
        (tmp_path / "s.yaml").write_text(content)
    rest = ["--model", options[1], "--vectors", tmp_path / "vectors"]
    done = command("ask", "Why?", "--knob", f"@{tmp_path / 's.yaml'}", *rest)
    assert done.code == 2 and told in done.err
