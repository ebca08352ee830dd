"""Where the definitions of levels come from: a domain that is named, the build of the rows, or the project."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.built import built_domain
from alignvec.data.domain import load_domain
from alignvec.data.review.definitions import definition_lines, definitions
from alignvec.data.schema import LEVELS, PreferenceRow
from alignvec.data.synthesis.plan import keep_plan
from alignvec.data.synthesis.prompts import load_prompts
from alignvec.data.synthesis.settings import BuildSettings
from alignvec.errors import DataError

SHIPPED = {level: known.instruction for level, known in load_domain("medical").levels.items()}


def built(folder: Path, levels: Any, name: str = "medical") -> Path:
    """A rows file's path in the folder of a build with these levels."""
    (folder / "build.json").write_text(json.dumps({"rows": {"domain.name": name, "domain.levels": levels}}))
    return folder / "rows.jsonl"


def own(prefix: str = "Own") -> dict[str, Any]:
    return {level: {"instruction": f"{prefix}\n {level}.", "words": [5, 50], "answers": True} for level in LEVELS}


def test_levels_are_those_that_a_build_keeps(tmp_path: Path) -> None:
    domain = load_domain("legal")
    settings = BuildSettings(domain=domain, prompts=load_prompts(), teacher="t", judge=None)
    keep_plan(tmp_path, settings, ["personas"], None)
    assert built_domain(tmp_path) is None
    keep_plan(tmp_path, settings, ["rows"], None)
    found = built_domain(tmp_path)
    assert found and found.levels == domain.levels and list(found.levels) == list(domain.levels)


def test_a_named_domain_goes_before_the_build_and_the_build_before_the_project(
    tmp_path: Path, rows: list[PreferenceRow]
) -> None:
    file = tmp_path / "rows.jsonl"
    assert definitions(file, rows) == {"medical": SHIPPED}
    built(tmp_path, own())
    assert definitions(file, rows) == {"medical": {level: f"Own {level}." for level in LEVELS}}
    assert definitions(file, rows, "medical") == {"medical": SHIPPED}


def test_what_defines_other_domains_or_levels_defines_nothing(tmp_path: Path, rows: list[PreferenceRow]) -> None:
    file = built(tmp_path, own(), name="gardening")
    assert definitions(file, rows) == {"medical": SHIPPED}
    others = [row.model_copy(update={"domain": "../domains/medical"}) for row in rows]
    assert definitions(file, others) == {"../domains/medical": {}}
    renamed = [row.model_copy(update={"responses": {"terse": "a", "expert": "b"}}) for row in rows]
    assert definitions(file, renamed) == {"medical": {}}
    with pytest.raises(DataError, match=r"domain 'medical' has levels avoidance, generic, expert, and no 'terse'"):
        definitions(file, renamed, "medical")


@pytest.mark.parametrize("content", ["{", '{"rows": 1}', '{"rows": {"domain.name": "medical"}}'])
def test_a_spoilt_build_is_told_and_need_not_be_read(tmp_path: Path, rows: list[PreferenceRow], content: str) -> None:
    (tmp_path / "build.json").write_text(content)
    with pytest.raises(DataError, match=r"build\.json does not say what the rows were made for .*--domain") as told:
        definitions(tmp_path / "rows.jsonl", rows)
    assert "\n" not in str(told.value)
    assert definitions(tmp_path / "rows.jsonl", rows, "medical") == {"medical": SHIPPED}


def test_a_foreign_build_file_is_none(tmp_path: Path, rows: list[PreferenceRow]) -> None:
    (tmp_path / "build.json").write_text('{"scripts": {"rows": 1}}')
    assert definitions(tmp_path / "rows.jsonl", rows) == {"medical": SHIPPED}


def test_lines_name_the_domain_where_domains_differ() -> None:
    assert definition_lines({"a": {"low": "x"}, "b": {"low": "x"}}) == ["low: x"]
    assert definition_lines({"a": {"low": "x"}, "b": {"low": "y"}}) == ["low (a): x", "low (b): y"]
    assert definition_lines({"a": {"low": "x"}, "b": {}}) == ["low (a): x"]
    assert definition_lines({"a": {}}) == []
