"""Files of solved settings."""

from pathlib import Path

import pytest

from alignvec.errors import KnobError
from alignvec.steer.solved import (
    SolvedSetting,
    find_goals,
    nearest_goals,
    read_setting,
    read_settings,
    routing_mismatch,
    solved_routed,
    unreached,
)

TEXT = """
settings:
  medical=expert,legal=avoidance: {knobs: {medical: 1, legal: -0.5}, reached: true, rates: {medical: 0.9}}
  medical=generic,legal=generic: {knobs: {}, reached: false, blocked_by: nothing}
  by-hand: {knobs: {medical: expert}}
"""


def test_settings_are_read_with_their_verdicts(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT)
    found = read_settings(tmp_path / "s.yaml")
    assert list(found.values()) == [
        SolvedSetting(knobs={"medical": 1.0, "legal": -0.5}, reached=True),
        SolvedSetting(knobs={}, reached=False, blocked_by="nothing"),
        SolvedSetting(knobs={"medical": "expert"}),
    ]
    assert find_goals(found, " legal=avoidance, medical=expert") == ["medical=expert,legal=avoidance"]
    assert find_goals(found, "medical=expert") == find_goals(found, "") == []
    assert read_setting(f"{tmp_path / 's.yaml'}#legal=avoidance,medical=expert") == {"medical": 1.0, "legal": -0.5}
    with pytest.raises(
        KnobError,
        match="goals are made of medical=expert, legal=avoidance, medical=generic, legal=generic, by-hand "
        ".nearest: medical=expert,legal=avoidance; ",
    ):
        read_setting(f"{tmp_path / 's.yaml'}#medical=expert")
    with pytest.raises(KnobError, match="has 3 settings; name one after #"):
        read_setting(str(tmp_path / "s.yaml"))


def test_a_setting_that_did_not_reach_its_goal_is_told(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(TEXT)
    told = "the goal medical=generic,legal=generic was not reached where it was solved: nothing"
    assert unreached(f" @{file}#legal=generic,medical=generic") == told
    file.write_text(TEXT.replace(", blocked_by: nothing", ""))
    assert unreached(f"@{file}#medical=generic,legal=generic") == told.removesuffix(": nothing")
    assert unreached(f"@{file}#medical=expert,legal=avoidance") is unreached(f"@{file}#by-hand") is None
    assert unreached("medical=1") is unreached("") is None


def test_of_many_goals_the_nearest_are_named() -> None:
    levels = ("avoidance", "generic", "expert")
    goals = [f"medical={a},legal={b}" for a in levels for b in levels]
    found = nearest_goals(goals, "legal=expert,tax=generic")
    assert (
        found
        == "medical=avoidance,legal=expert; medical=generic,legal=expert; medical=expert,legal=expert; and 6 others"
    )
    assert nearest_goals(["a=b", "c=d", "e=f"], "e=f") == "e=f; a=b; c=d"
    assert nearest_goals(["a=b"], "") == "a=b" and nearest_goals([], "") == ""


def test_a_file_without_settings_is_told(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("settings: {}")
    for goal in ("", "#medical=expert"):
        with pytest.raises(KnobError, match="has no settings"):
            read_setting(f"{tmp_path / 's.yaml'}{goal}")


@pytest.mark.parametrize("knobs", ["[1]", "{medical: [1]}", "{medical: true}", "{medical: null}", "3"])
def test_knobs_that_are_no_positions_are_refused(tmp_path: Path, knobs: str) -> None:
    (tmp_path / "s.yaml").write_text(f"settings: {{a=b: {{knobs: {knobs}}}}}")
    with pytest.raises(KnobError, match="holds no settings"):
        read_settings(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("settings:\n  a=b: {knobs: {medical: 1}}\n  a=b: {knobs: {medical: -1}}", "a=b", 3),
        ("settings:\n  a=b: {knobs: {medical: 1, medical: -1}}", "medical", 2),
    ],
    ids=["goal", "knob"],
)
def test_a_goal_or_knob_that_is_there_twice_is_told(tmp_path: Path, text: str, key: str, line: int) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(KnobError, match=f"s.yaml: the key '{key}' is there twice, again on line {line}; keep one"):
        read_settings(tmp_path / "s.yaml")


@pytest.mark.parametrize("routed", [True, False])
def test_settings_are_for_a_model_with_a_router_or_for_one_without(tmp_path: Path, routed: bool) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"routed: {str(routed).lower()}\nsettings: {{a=b: {{knobs: {{medical: 1.0}}}}}}")
    assert solved_routed(path) is routed
    for router in (routed, None):
        assert read_setting(str(path), router=router) == {"medical": 1.0}
    with pytest.raises(KnobError, match=f"{path} was solved with{'' if routed else 'out'} a router"):
        read_setting(f"{path}#a=b", router=not routed)
    assert routing_mismatch(path, router=routed) is None
    assert "--router" in (routing_mismatch(path, router=not routed) or "")


@pytest.mark.parametrize("router", [True, False])
def test_a_file_that_does_not_tell_is_for_both(tmp_path: Path, router: bool) -> None:
    (tmp_path / "s.yaml").write_text(TEXT)
    assert solved_routed(tmp_path / "s.yaml") is None
    assert routing_mismatch(tmp_path / "s.yaml", router=router) is None
    (tmp_path / "s.yaml").write_text("routed: 3" + TEXT)
    with pytest.raises(KnobError, match="holds no settings"):
        routing_mismatch(tmp_path / "s.yaml", router=router)
