"""Where a result comes from, against what the tools themselves say."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import alignvec
from alignvec import provenance as module
from alignvec.provenance import Provenance, provenance, versions


def test_the_command_is_the_program_with_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/alignvec", "sweep", "vectors/medical", "--limit", "3"])
    assert provenance().command == "alignvec sweep vectors/medical --limit 3"


def test_versions_are_those_installed() -> None:
    found = versions()
    assert {"alignvec", "torch", "transformers", "safetensors", "numpy"} <= found.keys()
    assert found == {name: version(name) for name in found}


def test_a_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("numpy", "no-such-package-at-all"))
    assert versions() == {"numpy": version("numpy")}


def test_the_machine_is_this_one() -> None:
    machine = provenance().machine
    assert f"{os.cpu_count()} cores" in machine
    assert f"Python {sys.version.split()[0]}" in machine


def test_the_commit_is_the_checkouts() -> None:
    folder = Path(alignvec.__file__).parent
    head = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    commit = provenance().commit
    assert commit is not None
    assert head.stdout.strip().startswith(commit.removesuffix("-dirty"))


@pytest.mark.parametrize(
    "failure", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 10), PermissionError("git")]
)
def test_without_git_the_commit_is_missing_not_wrong(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(subprocess, "run", fails)
    assert provenance().commit is None


def test_outside_a_checkout_the_commit_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 128, stdout="", stderr="fatal: not a git repository")

    monkeypatch.setattr(subprocess, "run", refused)
    assert provenance().commit is None


def test_it_reads_back_from_json_as_it_was() -> None:
    made = provenance()
    assert Provenance.model_validate_json(made.model_dump_json()) == made
