"""The wheel: what is in it, and that it does the main job where there is nothing else of the project."""

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from alignvec.shipped import CONTENTS
from alignvec.vectors.store import save_vector
from tests.package.bare import ROOT, Bare

LARGEST = 40_000_000
"""Bytes of a wheel: what is still pleasant to fetch."""


def tracked(*folders: str) -> set[str]:
    done = subprocess.run(["git", "-C", str(ROOT), "ls-files", *folders], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def test_the_wheel_holds_the_package_and_everything_shipped_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    code = {name.removeprefix("src/") for name in tracked("src")}
    shipped = {f"alignvec/_shipped/{name}" for name in tracked(*CONTENTS)}
    assert names == code | shipped
    assert "alignvec/py.typed" in names
    assert wheel.stat().st_size < LARGEST


def test_the_sdist_holds_what_is_tracked_but_the_workshop(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names - {"PKG-INFO"} == {name for name in tracked() if name == ".gitignore" or not name.startswith(".")}


def test_what_is_shipped_is_what_the_build_maps() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel["only-include"]) == {*CONTENTS, "src/alignvec"}
    tops = {Path(name).parts[0] for name in CONTENTS}
    assert wheel["sources"] == {"src/alignvec": "alignvec"} | {top: f"alignvec/_shipped/{top}" for top in tops}


def test_the_installed_package_is_the_wheels_own(bare: Bare) -> None:
    done = bare.alignvec("shipped", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert Path(told["root"]) == bare.site / "alignvec" / "_shipped"
    assert {part["name"]: part["files"] for part in told["parts"]} == {n: len(tracked(n)) for n in CONTENTS}
    assert bare.alignvec("--version").stdout == f"alignvec {version('alignvec')}\n"


def test_the_demo_runs_from_the_wheel_alone(bare: Bare) -> None:
    init = ["git", "-C", str(bare.folder.parent), "-c", "user.name=me", "-c", "user.email=me@here"]
    subprocess.run([*init, "init", "--quiet"], check=True)
    subprocess.run([*init, "commit", "--quiet", "--allow-empty", "--message", "mine"], check=True)
    done = bare.alignvec("demo", "--limit", 1, "--max-new-tokens", 8, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    said = {(answer["domain"], answer["level"]) for answer in found["answers"]}
    assert said == {(d, v) for d in ("medical", "legal", "financial") for v in ("avoidance", "generic", "expert")}
    for sweep in found["sweeps"]:
        first, last = (sweep["curve"][end]["margin"]["value"] for end in (0, -1))
        assert first < 0 < last, "the knob does not turn the preference"
        assert sweep["provenance"]["commit"] is None, "the repository around the environment is another's"
    assert (bare.work / found["picture"]).stat().st_size > 10_000


def test_a_copy_is_where_the_commands_of_the_docs_run(bare: Bare, tmp_path: Path) -> None:
    lost = bare.alignvec("inspect", "vectors/medical")
    assert lost.returncode == 2
    assert "alignvec shipped --copy" in lost.stderr
    copied = bare.alignvec("shipped", "--copy", tmp_path / "mine")
    assert copied.returncode == 0, copied.stderr
    for name in tracked(*CONTENTS):
        assert (tmp_path / "mine" / name).read_bytes() == (ROOT / name).read_bytes(), name
    done = bare.alignvec("inspect", "vectors/medical", at=tmp_path / "mine")
    assert (done.returncode, done.stderr) == (0, "")
    again = bare.alignvec("shipped", "--copy", tmp_path / "mine")
    assert (again.returncode, "is there already" in again.stderr) == (2, True)


IN_TURN = """
import json, sys
from alignvec.cli.app import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["alignvec", *arguments]
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    print("ended:", code, file=sys.stderr, flush=True)
"""
"""Runs commands one after the other in one process, which imports what is heavy once."""


def in_turn(bare: Bare, commands: list[list[object]]) -> list[tuple[int, str]]:
    """Exit code and stderr of each command."""
    done = bare.run(bare.python, "-c", IN_TURN, json.dumps([list(map(str, one)) for one in commands]))
    assert "Traceback" not in done.stderr, done.stderr
    parts = done.stderr.split("ended: ")
    said = [parts[0], *(part.partition("\n")[2] for part in parts[1:])]
    found = [(int(part.partition("\n")[0]), text) for part, text in zip(parts[1:], said, strict=False)]
    assert len(found) == len(commands), done.stderr
    return found


def test_a_command_without_its_extra_names_it_in_one_line(
    bare: Bare, tiny_folder: Path, data_file: Path, tmp_path: Path
) -> None:
    recipe = bare.site / "alignvec/_shipped/recipes/medical.yaml"
    teacher = ["--teacher-url", "http://127.0.0.1:1/v1", "--teacher-model", "none"]
    lacking: list[tuple[str, list[object]]] = [
        ("train", ["train", recipe, "--model", tiny_folder, "--limit", 4, "--out", tmp_path / "train"]),
        ("serve", ["serve", "--model", tiny_folder, "--no-vectors", "--port", 0]),
        ("eval", ["lm-eval", "ls", "tasks"]),
        ("data", ["data", "build", "--domain", "medical", *teacher, "--out", tmp_path / "build"]),
        ("data", ["data", "check", data_file]),
        ("data", ["data", "card", data_file, "--out", tmp_path / "card"]),
        ("data", ["data", "review", data_file, "--rater", "me"]),
    ]
    for (extra, command), (code, said) in zip(lacking, in_turn(bare, [one for _, one in lacking]), strict=True):
        errors = [line for line in said.splitlines() if line.startswith("error:")]
        assert (code, len(errors)) == (2, 1), (command, said)
        assert f"pip install 'alignvec[{extra}]'" in errors[0], command


def test_the_other_commands_need_no_extra(
    bare: Bare, tiny_folder: Path, make_vector: Any, data_file: Path, tmp_path: Path
) -> None:
    save_vector(make_vector(), tmp_path / "medical")
    used = ["--model", tiny_folder, "--vectors", tmp_path / "medical"]
    short, merged = ["--max-new-tokens", 2], tmp_path / "merged"
    commands: list[list[object]] = [
        ["ask", "Why?", "--knob", "medical=1", *used, *short],
        ["generate", "--prompts", data_file, "--limit", 1, "--knob", "base", *used, *short, "--out", tmp_path / "said"],
        ["sweep", tmp_path / "medical", "--model", tiny_folder, "--data", data_file, "--limit", 1, "--generate", 0],
        ["inspect", tmp_path / "medical"],
        ["verify", tmp_path / "medical"],
        ["merge", "--base", tiny_folder, "--knob", "medical=1", *used[2:], "--out", merged],
        [
            "extract",
            "--base",
            tiny_folder,
            "--aligned",
            tmp_path / "merged",
            "--name",
            "own",
            "--out",
            tmp_path / "own",
        ],
        ["estimate", "--model", tiny_folder],
    ]
    for command, (code, said) in zip(commands, in_turn(bare, commands), strict=True):
        assert code == 0, (command, said)


def test_a_users_script_is_checked_against_the_installed_types(bare: Bare, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from alignvec.shipped import Part, copy_shipped, shipped_parts\n"
        "parts: list[Part] = shipped_parts()\n"
        "copy_shipped(Path('here'))\n"
        "copy_shipped('here')\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(bare.python)]
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(
        [*command, "--config-file", "", "--cache-dir", str(tmp_path / "cache"), str(script)],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        'script.py:5: error: Argument 1 to "copy_shipped" has incompatible type "str"; expected "Path"  [arg-type]',
        "Found 1 error in 1 file (checked 1 source file)",
    ], done.stdout + done.stderr
