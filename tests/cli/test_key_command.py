"""`alignvec key`: what it prints is a policy file that lets the key in."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from alignvec.cli.key import key
from alignvec.errors import ConfigError
from alignvec.serve.policy.keys import key_hash
from alignvec.serve.policy.policy import load_policy

app = typer.Typer()
app.command()(key)


@pytest.mark.parametrize("name", ["public", "true", "1.5", "null", "a-b_c"])
def test_the_lines_are_a_policy_for_the_key(tmp_path: Path, name: str) -> None:
    done = CliRunner().invoke(app, ["--name", name])
    made, lines = done.stdout.split("\n\n")
    path = tmp_path / "policy.yaml"
    path.write_text(f"keys:\n{lines}")
    assert made not in lines
    assert load_policy(path).rules(made).name == name
    assert "not shown again" in done.stderr


def test_json_has_the_key_its_name_and_its_hash_and_each_key_is_new() -> None:
    first, second = (json.loads(CliRunner().invoke(app, ["--json"]).stdout) for _ in range(2))
    assert first == {"name": "public", "key": first["key"], "hash": key_hash(first["key"])}
    assert first["key"] != second["key"]


@pytest.mark.parametrize("name", ["", "two words", "a\n", "x" * 65, "é"])
def test_a_name_that_no_policy_takes_is_refused(name: str) -> None:
    done = CliRunner().invoke(app, ["--name", name])
    assert isinstance(done.exception, ConfigError)
    assert done.stdout == ""
