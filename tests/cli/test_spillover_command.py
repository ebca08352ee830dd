"""`alignvec spillover` and `alignvec check-goals` on the tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import Command

from alignvec.steer.model import KnobbedModel
from alignvec.steer.router import Router, RouterCard, save_router
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.store import load_card, save_card

DOMAINS = ("legal", "medical")


@pytest.fixture
def options(two_domains: list[Any]) -> list[Any]:
    return two_domains


@pytest.fixture
def router(tiny_folder: Path, tmp_path: Path) -> Path:
    """A router that takes every prompt for a legal one."""
    import numpy as np

    card = RouterCard(base=fingerprint(tiny_folder), domains=DOMAINS, layers=(1,))
    save_router(Router(card, np.zeros((2, 32)), np.array([60.0, -60.0])), tmp_path / "router")
    return tmp_path / "router"


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Two goals, as `alignvec solve` writes them."""
    goals = {
        "legal=expert,medical=avoidance": {"knobs": {"legal": 1.0, "medical": -0.5}, "reached": True},
        "legal=generic,medical=generic": {"knobs": {}, "reached": True},
    }
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({"settings": goals}))
    return tmp_path / "settings.yaml"


def test_spillover_is_measured_once_and_a_second_run_goes_on_from_it(
    command: Command, options: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [*options, "--lambda=-1,1", "--generate", "--out", tmp_path / "out"]
    done = command("spillover", *given, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["domains"] == list(DOMAINS) and len(found["cells"]) == 8 and not found["routed"]
    assert {(c["knob"], c["domain"]) for c in found["cells"] if c["own"]} == {(d, d) for d in DOMAINS}
    assert all(c["queries"] == 4 and c["level"] is not None for c in found["cells"])
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"spillover.json", "spillover.png", "journal.jsonl"}
    monkeypatch.setattr(KnobbedModel, "score", None)
    monkeypatch.setattr(KnobbedModel, "generate", None)
    again = command("spillover", *given)
    assert again.code == 0 and "mean: own domain" in again.out and "levels of generated replies" in again.out


def test_spillover_is_kept_in_the_cards(
    command: Command, options: list[Any], router: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = KnobbedModel.score

    def meanwhile(*arguments: Any, **given: Any) -> Any:
        for domain in DOMAINS:
            place = tmp_path / "vectors" / domain
            save_card(place, load_card(place).model_copy(update={"notes": "saved meanwhile"}))
        return score(*arguments, **given)

    monkeypatch.setattr(KnobbedModel, "score", meanwhile)
    done = command("spillover", *options, "--lambda=1,-1", "--card", "--json")
    assert done.code == 0, done.err
    cells = json.loads(done.out)["cells"]
    for domain in DOMAINS:
        kept = load_card(tmp_path / "vectors" / domain).spillover
        assert kept is not None and [p.coefficient for p in kept.points] == [-1.0, -1.0, 1.0, 1.0]
        sizes = {(c["coefficient"], c["domain"]): c["preference"]["size"] for c in cells if c["knob"] == domain}
        assert {(p.coefficient, p.domain): p.preference.model_dump() for p in kept.points} == sizes
    for domain in DOMAINS:
        assert load_card(tmp_path / "vectors" / domain).notes == "saved meanwhile"
    routed = command("spillover", *options, "--router", router, "--card")
    assert routed.code == 2 and "without a router" in routed.err


def test_routed_spillover_is_that_of_the_domain_the_router_finds(
    command: Command, options: list[Any], router: Path
) -> None:
    done = command("spillover", *options, "--lambda=1", "--router", router, "--json")
    assert done.code == 0, done.err
    cells = {(c["knob"], c["domain"]): c["perplexity"]["value"] for c in json.loads(done.out)["cells"]}
    assert cells["medical", "legal"] == cells["medical", "medical"] == 1.0
    assert cells["legal", "legal"] != 1.0


def test_goals_are_counted_on_held_out_queries(
    command: Command, options: list[Any], settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = command("check-goals", settings, *options, "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert "test" in found["data"] and found["replies"] == 16 and len(found["goals"]) == 2
    for goal in found["goals"]:
        wanted = [goal["measured"][d][level] for d, level in goal["goal"].items()]
        highest = all(
            goal["measured"][d][level]["value"] == max(rate["value"] for rate in goal["measured"][d].values())
            for d, level in goal["goal"].items()
        )
        assert goal["reached"]["0.6"] == (highest and all(rate["value"] >= 0.6 for rate in wanted))
    assert json.loads((tmp_path / "out" / "check.json").read_text()) == found
    monkeypatch.setattr(KnobbedModel, "generate", None)
    again = command("check-goals", settings, *options, "--out", tmp_path / "out")
    assert again.code == 0 and "reached of 2 goals" in again.out


def test_a_goal_is_reached_only_within_the_bounds_that_it_was_solved_under(
    command: Command, options: list[Any], settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alignvec.evaluate.judge import LevelJudge

    monkeypatch.setattr(LevelJudge, "verdicts", lambda _, replies: ["generic"] * len(replies))
    goal = "legal=generic,medical=generic"
    for bounds, kept in (
        ([], True),
        (["medical=generic<=0.5"], False),
        (["legal>=0.1"], False),
        (["perplexity<=1"], True),
    ):
        text = yaml.safe_dump({"settings": {goal: {"knobs": {}, "constraints": bounds}}})
        settings.write_text(text)
        done = command("check-goals", settings, *options, "--json")
        assert done.code == 0, done.err
        (found,) = json.loads(done.out)["goals"]
        assert found["reached"] == dict.fromkeys(("0.5", "0.6", "0.7"), kept)
        assert found["unchecked"] == [bound for bound in bounds if bound.startswith("perplexity")]


def test_goals_over_different_domains_stand_in_one_file(
    command: Command, options: list[Any], settings: Path, tmp_path: Path
) -> None:
    settings.write_text(yaml.safe_dump({"settings": {f"{d}=expert": {"knobs": {d: 1.0}} for d in DOMAINS}}))
    done = command("check-goals", settings, *options, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    first, second = (line.split() for line in done.out.splitlines()[2:4])
    assert [first[0], first[2:5]] == ["expert", ["-", "1.00", "0.00"]]
    assert [second[:2], second[3:5]] == [["-", "expert"], ["0.00", "1.00"]]
    assert (tmp_path / "out" / "goals.png").is_file()
    settings.write_text(yaml.safe_dump({"settings": {}}))
    empty = command("check-goals", settings, *options)
    assert empty.code == 2 and "no settings" in empty.err


def test_rows_of_one_id_in_two_files_are_not_taken_for_each_other(
    command: Command, options: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "medical.jsonl").write_text((tmp_path / "legal.jsonl").read_text())
    done = command("spillover", *options)
    assert done.code == 2 and "is also in" in done.err


def test_routed_goals_share_the_replies_that_are_the_same(
    command: Command, options: list[Any], settings: Path, router: Path
) -> None:
    done = command("check-goals", settings, *options, "--router", router, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["replies"] == 16  # legal=1 and the base, on all 8 queries


def test_what_cannot_be_checked_is_told(command: Command, options: list[Any], settings: Path, tmp_path: Path) -> None:
    missing = command("check-goals", tmp_path / "nowhere.yaml", *options)
    assert missing.code == 2 and "alignvec solve" in missing.err
    settings.write_text(settings.read_text().replace("legal: 1.0", "style: 1.0"))
    unknown = command("check-goals", settings, *options)
    assert unknown.code == 2 and "'style'" in unknown.err
    settings.write_text(yaml.safe_dump({"settings": {"tax=expert": {"knobs": {}}}}))
    domain = command("check-goals", settings, *options)
    assert domain.code == 2 and "no domain 'tax'" in domain.err
    zero = command("spillover", *options, "--lambda=0")
    assert zero.code == 2 and "no knob is turned" in zero.err
    bad = command("spillover", *options, "--lambda=x")
    assert bad.code == 2 and "x" in bad.err
