"""`alignvec solve` on the tiny model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from running import Command

from alignvec.steer.router import Router, RouterCard, save_router
from alignvec.vectors.fingerprint import fingerprint
from tests.conftest import preference_record


@pytest.fixture
def options(two_domains: list[Any]) -> list[Any]:
    return [*two_domains, "--settings", 6, "--budget", 9]


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


def test_a_routed_model_is_solved_for_under_bounds(
    command: Command, options: list[Any], tiny_folder: Path, tmp_path: Path
) -> None:
    """The router takes every prompt for a legal one, so the medical knob cannot act."""
    card = RouterCard(base=fingerprint(tiny_folder), domains=("legal", "medical"), layers=(1,))
    save_router(Router(card, np.zeros((2, 32)), np.array([60.0, -60.0])), tmp_path / "router")
    texts = [preference_record(i, "test", "general") for i in range(3)]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    bounds = ["--constraint", "perplexity<=50", "--constraint", "medical=expert<=1", "--text", tmp_path / "text.jsonl"]
    out = tmp_path / "out"
    done = command("solve", "--all", *options, *bounds, "--router", tmp_path / "router", "--out", out, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["routed"] and found["judge"]["held_out"] > 0 and found["levels"] == ["avoidance", "generic", "expert"]
    for goal in found["goals"]:
        assert (
            goal["kept"] and goal["perplexity"] > 0 and goal["constraints"] == ["perplexity<=50", "medical=expert<=1"]
        )
        assert set(goal["spillover"].get("medical", {"legal": 0.0}).values()) == {0.0}
    stored = yaml.safe_load((out / "settings.yaml").read_text())
    assert stored["routed"] and all(len(one["constraints"]) == 2 for one in stored["settings"].values())


def test_what_a_run_costs_and_what_it_cannot_decide_is_told_on_stderr(
    command: Command, options: list[Any], tmp_path: Path
) -> None:
    """Two queries a domain are one persona's, so their rates have no intervals."""
    texts = [preference_record(i, "test", "general") for i in range(3)]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    line = ["solve", "--all", "--by", "preference", *options, "--text", tmp_path / "text.jsonl", "--json"]
    done = command(*line, "--constraint", "perplexity<=50", "--limit", 2, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert done.err.count("also measured on 2 texts, beside 4 queries") == 1
    assert done.err.count("warning: few queries (legal 2, medical 2): rates move in steps of 1/n") == 1
    found = json.loads(done.out)
    told = [one for one in done.err.splitlines() if one.startswith("scoring ")]
    assert told[0] == "scoring texts 16 of 16" and told[1] == "scoring 32 of 32"  # the base, as itself and as a setting
    rates = [rate for goal in found["goals"] for domain in goal["measured"].values() for rate in domain.values()]
    assert {(rate["low"], rate["high"]) for rate in rates} == {(None, None)}
    plain = command("solve", "--goal", "medical=expert", "--by", "preference", *options)
    assert plain.code == 0 and "texts" not in plain.err and "texts" not in plain.out
    assert "medical 4" in plain.err and "level, rate" in plain.out and "rate: likeliest replies" in plain.out


def test_enough_queries_raise_no_warning(command: Command, options: list[Any], tmp_path: Path) -> None:
    for domain in ("legal", "medical"):
        records = [preference_record(i, "validation", domain) for i in range(10)]
        (tmp_path / f"{domain}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert "few queries" not in command("solve", "--all", "--by", "preference", *options, "--rounds", 0).err
    limited = command("solve", "--all", "--by", "preference", *options, "--rounds", 0, "--limit", 9)
    assert "few queries (legal 9, medical 9)" in limited.err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--all", "--weight", "medical=2"], "--weight is for a --goal"),
        (["--all", "--constraint", "perplexity<=0"], "more than 0"),
        (["--all", "--constraint", "medical>=1.5"], "between 0 and 1"),
        (["--goal", "medical=expert", "--constraint", "medical=expert<=0.2"], "needs a rate of at least 0.6"),
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
        ("settings: {a=b: {knobs: {medical: 1}}, c=d: {knobs: {}}}", "has 2 settings; name one"),
        ("settings: {}", "has no settings"),
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
