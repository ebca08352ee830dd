"""Commands under `accelerate launch`, as two processes over gloo: one voice, one set of files, and kills."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from running import Command

from alignvec.cli.app import app
from alignvec.cli.launched import SHARED
from alignvec.vectors.store import load_vector, save_vector

CONFIGS = Path(__file__).parents[2] / "configs/accelerate"
LAUNCH = ("-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / "cpu_2.yaml"), "-m")


@pytest.fixture
def sweep(make_vector: Any, tiny_folder: Path, data_file: Path, tmp_path: Path) -> list[str]:
    save_vector(make_vector("medical"), tmp_path / "medical")
    return [
        *("sweep", str(tmp_path / "medical"), "--model", str(tiny_folder), "--data", str(data_file)),
        *("--lambda", "-1,0,1", "--max-new-tokens", "6"),
    ]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def launched(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *LAUNCH, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **options,
    )


def test_a_sweep_of_two_processes_says_and_writes_once_what_one_does(
    command: Command, sweep: list[str], tmp_path: Path
) -> None:
    two = launched("alignvec", *sweep, "--out", str(tmp_path / "two"), "--json")
    out, err = two.communicate(timeout=180)
    assert two.returncode == 0, err
    one = command(*sweep, "--out", tmp_path / "one", "--json")
    told, alone = json.loads(out), json.loads(one.out)
    assert told["curve"] == alone["curve"] and told["queries"] == alone["queries"] == 4
    for name in ("sweep.csv", "replies.jsonl", "replies.md"):
        assert (tmp_path / "two" / name).read_text() == (tmp_path / "one" / name).read_text()
    assert names(tmp_path / "two") == names(tmp_path / "one")
    assert err.count("scoring 16 of 16") == err.count("generating 12 of 12") == 1


def test_a_mistake_is_told_once(tmp_path: Path) -> None:
    process = launched("alignvec", "sweep", str(tmp_path / "none"))
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) != (0, "") and not out
    assert err.count("error: VectorError: no vector at") == 1
    assert "exitcode  : 2" in err  # the launcher's own account of it


def test_what_cannot_be_split_the_main_process_does(tmp_path: Path) -> None:
    process = launched("alignvec", "estimate", "--model", "mistral-7b", "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["training"]["processes"] == 1


def test_two_processes_train_a_vector_and_say_so_once(tiny_folder: Path, data_file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    lines = [f"name: medical\nbase: {tiny_folder}\ndata: {data_file}\nlimit: 2\nform: one-sided", "rank: 2\nepochs: 1"]
    recipe.write_text("\n".join([*lines, "batch_size: 1\naccumulate: 2"]))
    process = launched("alignvec.train", str(recipe), "--out", str(tmp_path / "run"), "--json")
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    told = json.loads(out)
    assert (told["memory"]["strategy"], told["memory"]["processes"]) == ("ddp", 2)
    assert load_vector(Path(told["vector"])).card.levels
    run = json.loads((tmp_path / "run/positive/run.json").read_text())
    assert (run["processes"], run["steps"]) == (2, 1)


def test_a_killed_process_ends_the_others_and_any_number_goes_on(
    command: Command, sweep: list[str], tmp_path: Path
) -> None:
    slow = [*sweep, "--lambda", ",".join(str(i / 10) for i in range(-10, 11)), "--max-new-tokens", "100"]
    out = tmp_path / "killed"
    process = launched("alignvec", *slow, "--out", str(out))
    try:
        deadline = time.monotonic() + 120
        while not (out / "journal.jsonl.part1").is_file():
            assert time.monotonic() < deadline and process.poll() is None, process.communicate()
            time.sleep(0.01)
        workers = {child.environ()["RANK"]: child for child in psutil.Process(process.pid).children()}
        workers["1"].send_signal(signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0 and "exitcode  : -9" in err
    assert not any(psutil.pid_exists(worker.pid) for worker in workers.values())
    done = command(*slow, "--out", out)
    assert done.code == 0, done.err
    command(*slow, "--out", tmp_path / "whole")
    assert (out / "sweep.csv").read_text() == (tmp_path / "whole/sweep.csv").read_text()
    assert (out / "replies.jsonl").read_text() == (tmp_path / "whole/replies.jsonl").read_text()
    assert not (out / "journal.jsonl.part1").exists()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configs_are_what_accelerate_takes(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    config = load_config_from_file(str(path))
    arguments, *_ = _validate_launch_command(
        launch_command_parser().parse_args(["--config_file", str(path), "-m", "alignvec.train"])
    )
    assert arguments.num_processes == config.num_processes == (2 if path.stem == "cpu_2" else 8)
    assert arguments.use_fsdp == path.stem.startswith("fsdp")
    assert arguments.use_deepspeed == path.stem.startswith("deepspeed")
    assert arguments.mixed_precision == "no"  # as the trainer is told (bf16=False)
    if arguments.use_fsdp:
        assert arguments.fsdp_version == 2 and arguments.fsdp_activation_checkpointing
    if arguments.use_deepspeed:
        assert arguments.zero_stage == 3 and arguments.zero3_init_flag


def test_every_command_that_is_split_is_there() -> None:
    from typer.main import get_command

    assert set(get_command(app).commands) >= SHARED  # type: ignore[attr-defined]
