"""A file of solved settings where knobs are turned: whole settings, for a model with a router or for one without."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from running import Command, assert_told

from alignvec.steer.router import Router, RouterCard, save_router
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.store import save_vector

GOAL = "medical=expert,legal=generic"


@pytest.fixture
def vectors(make_vector: Any, tmp_path: Path) -> Path:
    """Folder of two vectors."""
    for seed, name in enumerate(("medical", "legal")):
        save_vector(make_vector(name, seed=seed), tmp_path / "vectors" / name)
    return tmp_path / "vectors"


@pytest.fixture
def router(tiny_folder: Path, tmp_path: Path) -> Path:
    """A router that takes every prompt for a medical one."""
    card = RouterCard(base=fingerprint(tiny_folder), domains=("medical", "legal"), layers=(1,))
    save_router(Router(card, np.zeros((2, 32)), np.array([60.0, -60.0])), tmp_path / "router")
    return tmp_path / "router"


def solved(place: Path, *, routed: bool) -> Path:
    """A file with one setting, as `alignvec solve` writes it."""
    content = {"routed": routed, "settings": {GOAL: {"knobs": {"medical": 0.5}, "reached": True}}}
    place.write_text(yaml.safe_dump(content))
    return place


def test_routed_settings_are_applied_with_a_router_only_and_others_without(
    command: Command, tiny_folder: Path, vectors: Path, router: Path, tmp_path: Path
) -> None:
    options = ["--model", tiny_folder, "--vectors", vectors]
    short = [*options, "--max-new-tokens", 2]
    for routed in (True, False):
        file = solved(tmp_path / "s.yaml", routed=routed)
        right, wrong = (["--router", router], []) if routed else ([], ["--router", router])
        told = ("KnobError", f"{file} was solved with{'' if routed else 'out'} a router", "--router")
        knob = ["--knob", f"@{file}#{GOAL}"]
        assert_told(command("ask", "Why?", *short, *knob, *wrong), *told)
        assert_told(command("chat", *short, *knob, *wrong), *told)
        assert_told(command("serve", *options, "--settings", file, *wrong), *told)
        done = command("ask", "Why?", *short, *knob, *right, "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out)["replies"][0]["knobs"]["medical"] == 0.5
        done = command("chat", *short, *wrong, stdin=f"/knob @{file}\n/knobs\n")
        assert done.out.startswith("base (") and told[1] in done.errors[0]
        done = command("chat", *short, *right, stdin=f"/knob @{file}\n/knobs\n")
        assert done.out.startswith("medical=0.5 (") and not done.errors


def test_vllm_which_cannot_route_refuses_routed_settings(
    command: Command, tiny_folder: Path, vectors: Path, tmp_path: Path
) -> None:
    line = ["serve", "--engine", "vllm", "--print-command", "--model", tiny_folder, "--vectors", vectors]
    file = solved(tmp_path / "s.yaml", routed=True)
    assert_told(command(*line, "--settings", file), "KnobError", "was solved with a router, and there is none here")
    solved(file, routed=False)
    done = command(*line, "--settings", file)
    assert done.code == 0 and "AlignmentMiddleware" in done.out, done.err
    assert_told(command(*line, "--router", tmp_path), "ConfigError", "--router is not for --engine vllm")


def test_what_cannot_route_refuses_routed_settings(
    command: Command, tiny_folder: Path, vectors: Path, tmp_path: Path
) -> None:
    knob = ["--knob", f"@{solved(tmp_path / 's.yaml', routed=True)}", "--vectors", vectors, "--out", tmp_path / "out"]
    for line in (["merge", "--base", tiny_folder], ["export", "--model", tiny_folder]):
        assert_told(command(*line, *knob), "KnobError", "was solved with a router, and there is none here")
    assert not (tmp_path / "out").exists()
    solved(tmp_path / "s.yaml", routed=False)
    done = command("export", "--model", tiny_folder, *knob)
    assert done.code == 0, done.err


def test_a_check_of_goals_compares_and_warns(
    command: Command, tiny_folder: Path, vectors: Path, router: Path, tmp_path: Path, data_file: Path
) -> None:
    file = tmp_path / "s.yaml"
    line = ["check-goals", file, "--model", tiny_folder, "--vectors", vectors, "--max-new-tokens", 2, "--limit", 2]
    line += ["--data", data_file, "--json"]
    for routed, given in ((True, []), (False, ["--router", router])):
        content = {"routed": routed, "settings": {"medical=expert": {"knobs": {"medical": 0.5}}}}
        file.write_text(yaml.safe_dump(content))
        done = command(*line, *given)
        assert done.code == 0 and json.loads(done.out)["routed"] != routed, done.err
        assert done.err.count(f"warning: {file} was solved with{'' if routed else 'out'} a router") == 1
    assert "warning" not in command(*line).err


def test_a_solved_setting_replaces_what_a_chat_has_turned(
    command: Command, tiny_folder: Path, vectors: Path, tmp_path: Path
) -> None:
    file = solved(tmp_path / "s.yaml", routed=False)
    line = ["chat", "--model", tiny_folder, "--vectors", vectors]
    done = command(*line, "--knob", "legal=1", stdin=f"/knob @{file}#{GOAL}\n/knobs\n/knob legal=-1\n/knobs\n")
    assert done.code == 0, done.err
    assert [told.partition(" (")[0] for told in done.out.splitlines()] == ["medical=0.5", "medical=0.5,legal=-1"]
    assert_told(command(*line, "--knob", "legal=1", "--knob", f"@{file}"), "KnobError", "only --knob")


def test_a_solved_setting_beside_a_recipe_with_knobs_is_refused(
    command: Command, tiny_folder: Path, vectors: Path, tmp_path: Path
) -> None:
    file, recipe = solved(tmp_path / "s.yaml", routed=False), tmp_path / "merge.yaml"
    line = ["merge", recipe, "--vectors", vectors, "--out", tmp_path / "out", "--knob", f"@{file}", "--json"]
    recipe.write_text(yaml.safe_dump({"base": str(tiny_folder), "knobs": {"legal": 1.0}}))
    assert_told(command(*line), "ConfigError", "whole setting", f"{recipe} has knobs of its own")
    recipe.write_text(yaml.safe_dump({"base": str(tiny_folder), "knobs": {}}))
    done = command(*line)
    assert done.code == 0, done.err
    assert {name: knob["coefficient"] for name, knob in json.loads(done.out)["knobs"].items()} == {"medical": 0.5}


def test_a_setting_that_did_not_reach_its_goal_is_used_with_a_warning(
    command: Command, tiny_folder: Path, vectors: Path, tmp_path: Path
) -> None:
    file = tmp_path / "s.yaml"
    content = {"settings": {GOAL: {"knobs": {"medical": 0.5}, "reached": False, "blocked_by": "spillover"}}}
    file.write_text(yaml.safe_dump(content))
    short = ["--model", tiny_folder, "--vectors", vectors, "--max-new-tokens", 2]
    for done in (
        command("ask", "Why?", *short, "--knob", f"@{file}"),
        command("chat", *short, stdin=f"/knob @{file}\n"),
        command("chat", *short, "--knob", f"@{file}", stdin="/exit\n"),
    ):
        assert done.code == 0, done.err
        assert f"warning: the goal {GOAL} was not reached where it was solved: spillover" in done.err
