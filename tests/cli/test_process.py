"""The command as a process of its own: what it imports, where it prints, how it ends."""

import subprocess
import sys
from pathlib import Path

COMMANDS = (
    *(
        "demo",
        "ask",
        "chat",
        "sweep",
        "judge",
        "calibrate",
        "spillover",
        "capability",
        "transfer",
        "reproduce",
        "safety",
        "lm-eval",
        "solve",
        "check-goals",
        "route",
        "inspect",
        "compare",
        "verify",
        "shipped",
        "pull",
        "push",
    ),
    *("train", "estimate", "keep", "extract", "disentangle", "compress", "merge", "export", "convert"),
    *("data build", "data personas", "data queries", "data replies", "data check", "data review", "data agreement"),
    *("data review-export", "data review-import", "data split", "data card", "data import"),
)
HELP = """
import sys
from alignvec.cli.app import app
for command in ([], *(name.split() for name in sys.argv[1:])):
    try:
        app([*command, "--help"], prog_name="alignvec")
    except SystemExit as stop:
        assert stop.code == 0, command
heavy = ("torch", "transformers", "gradio", "openai", "pyarrow", "trl", "peft", "datasets", "sklearn", "numpy",
         "lm_eval")
print(sorted(set(heavy) & sys.modules.keys()), file=sys.stderr)
"""
LOADED = """
import sys
before = set(sys.modules)
import alignvec
package = set(sys.modules) - before
from alignvec.cli.app import app
try:
    app(["--help"], prog_name="alignvec")
except SystemExit:
    pass
print(*sorted(package), file=sys.stderr)
print(*sorted(set(sys.modules) - before), file=sys.stderr)
"""
LIGHT = {"alignvec", "typer", "shellingham", "annotated_doc", "click"}
"""What the command line may load besides Python's own: typer, and what typer loads for its help."""
MOST = 220
"""Modules that `alignvec --help` may load; 173 with typer 0.29, most of them files of `cli/` and of Python's own."""


def test_help_and_import_load_little() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    package, modules = (line.split() for line in done.stderr.splitlines())
    assert {name for name in package if name.partition(".")[0] not in sys.stdlib_module_names} == {"alignvec"}
    foreign = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    assert foreign <= LIGHT
    assert len(modules) < MOST


def test_help_loads_no_heavy_library_and_lists_every_command() -> None:
    done = subprocess.run([sys.executable, "-c", HELP, *COMMANDS], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    for command in COMMANDS:
        assert f"Usage: alignvec {command} " in done.stdout


def test_a_users_mistake_is_one_line_on_stderr_and_exit_code_two(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "alignvec.cli.app", "inspect", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == f"error: VectorError: no vector at {tmp_path / 'none'} (it has no card.json); check the path\n"
    )


def test_no_command_shows_the_help_and_an_unknown_one_is_refused() -> None:
    program = [sys.executable, "-m", "alignvec.cli.app"]
    bare = subprocess.run(program, capture_output=True, text=True, check=False)
    assert bare.returncode == 2
    assert "Alignment as a knob" in bare.stdout + bare.stderr
    unknown = subprocess.run([*program, "tune"], capture_output=True, text=True, check=False)
    assert unknown.returncode == 2
    assert "'tune'" in unknown.stderr
    assert "Traceback" not in unknown.stderr
