"""The generated parts of the reference are as they would be generated now, and say what the commands take."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from alignvec.cli.app import app
from docs.generate.commands import PAGES, anchor, groups
from docs.generate.openapi import schema
from docs.generate.pages import ROOT, filled, generated

HOW = "is stale; run python -m docs.generate"
FILES = dict(generated())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_is_as_it_would_be_generated_now(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == FILES[path], f"{path.name} {HOW}"


def test_a_block_is_filled_and_its_neighbours_are_left() -> None:
    metrics, errors = "<!-- generate: metrics -->\nold\n<!-- end -->", "<!-- generate: errors -->\n<!-- end -->"
    page = f"before\n{metrics}\nbetween\n{errors}\nafter\n"
    once = filled(page)
    assert once.startswith("before\n") and "\nbetween\n" in once and once.endswith("\nafter\n")
    assert "old" not in once and "alignvec_tokens_total" in once and "queue_full" in once
    assert filled(once) == once
    with pytest.raises(KeyError):
        filled("<!-- generate: nothing -->\n<!-- end -->")


def real_commands(group: Any, before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        found |= real_commands(command, f"{name} ") if hasattr(command, "commands") else {before + name: command}
    return found


COMMANDS = real_commands(typer.main.get_command(app))


def test_every_command_has_a_place() -> None:
    assert {name for commands in groups().values() for name in commands} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS, ids=anchor)
def test_a_command_is_described_with_all_it_takes(name: str) -> None:
    group = next(group for group, commands in groups().items() if name in commands)
    page = (ROOT / "reference" / "cli" / f"{PAGES[group]}.md").read_text(encoding="utf-8")
    part = page.partition(f"{{ #{anchor(name)} }}\n")[2].partition("\n## ")[0]
    assert part
    for one in COMMANDS[name].params:
        options = [text for text in (*one.opts, *one.secondary_opts) if text.startswith("-") and text != "--help"]
        for text in options or ([one.name.upper()] if one.param_type_name == "argument" else []):
            assert text in part, text


def test_the_schema_is_kept_as_the_server_tells_it_and_everything_in_it_is_described() -> None:
    kept = json.loads((ROOT / "reference" / "openapi.json").read_text(encoding="utf-8"))
    assert kept == schema(), f"openapi.json {HOW}"
    for name in ("ChatBody", "CompletionBody", "ChatReply", "Setting", "AlignmentInfo", "VectorInfo", "ErrorDetail"):
        for field, told in kept["components"]["schemas"][name]["properties"].items():
            assert told.get("description"), f"{name}.{field}"
    for path, methods in kept["paths"].items():
        for told in methods.values():
            assert told["description"] and told["responses"]["200"]["content"], path
