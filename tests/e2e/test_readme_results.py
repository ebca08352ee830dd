"""The README's results: each command is a real one, each figure with an interval stands in the docs that report it."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from alignvec.cli.app import app
from alignvec.reproduce.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = README.split("## What was measured")[1].split("\n## ")[0]
REPORTED = "\n".join(
    (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("results/README.md", "vllm.md", "mutation.md")
)
COMMANDS = sorted(set(re.findall(r"`((?:alignvec|python|make) [^`]+)`", RESULTS)))
FIGURES = sorted(set(re.findall(r"[\d.]+(?: %)? \[[^\]]+\]", RESULTS)))


def test_the_table_has_commands_and_intervals() -> None:
    assert len(COMMANDS) > 8
    assert len(FIGURES) > 12


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_is_a_real_one(line: str) -> None:
    program, name, *arguments = line.split()
    options = [argument.split("=")[0] for argument in arguments if argument.startswith("--")]
    if program == "make":
        assert f"\n{name}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    elif program == "python":
        script = (ROOT / name).read_text(encoding="utf-8")
        for option in options:
            assert f'"{option}"' in script
    else:
        group = typer.main.get_command(app)
        assert isinstance(group, typer.core.TyperGroup)
        command = group.commands[name]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(options) <= known
        pairs = pairwise(arguments)
        assert {value for option, value in pairs if option in ("--stage", "--again")} <= set(STAGES)


@pytest.mark.parametrize("figure", FIGURES)
def test_each_figure_stands_in_the_docs(figure: str) -> None:
    assert figure in REPORTED
