"""`alignvec generate` and `alignvec level-rates`: from prompts to rates, and what is told when something is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.teacher import pace
from alignvec.vectors.store import save_vector
from tests.cli.running import Command, assert_told
from tests.conftest import preference_record
from tests.turning_endpoint import turning


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f'{{"id": "q{i}", "query": "How do I sleep, take {i}?"}}\n' for i in range(4)))
    return path


def test_the_model_here_and_a_server_of_it_give_level_rates(
    command: Command, tmp_path: Path, tiny_folder: Path, make_vector: Any, prompts: Path
) -> None:
    save_vector(make_vector("medical", scale=0.3), tmp_path / "vectors/medical")
    out = tmp_path / "out"
    asked: tuple[object, ...] = ("generate", "--prompts", prompts, "--out", out, "--model", tiny_folder, "--vectors")
    asked = (*asked, tmp_path / "vectors", "--knob", "medical=avoidance", "--knob", "base", "--knob", "medical=1")
    done = command(*asked, "--max-new-tokens", 4, "--shard-size", 3, "--batch-size", 5)
    assert done.code == 0, done.err
    assert "12 of 12 replies" in done.out
    assert "replies 12 of 12" in done.err
    replies = [json.loads(line) for path in sorted((out / "replies").iterdir()) for line in path.open()]
    assert [one["knobs"] for one in replies[:9:3]] == [{"medical": -1.0}, {}, {"medical": 1.0}]
    plan = json.loads((out / "run.json").read_text())["plan"]
    assert plan["answered_by"]["engine"] == "local"
    assert len(plan["answered_by"]["base"]) == 64

    again = command(*asked, "--max-new-tokens", 4, "--shard-size", 3, "--json")
    assert json.loads(again.out)["before"] == 12

    data = tmp_path / "rows.jsonl"
    splits = ["train"] * 8 + ["test"] * 4
    data.write_text("".join(json.dumps(preference_record(i, split)) + "\n" for i, split in enumerate(splits)))
    rated = command("level-rates", out, "--data", data)
    assert rated.code == 0, rated.err
    assert "all: level of 4 replies at each setting, % by the judge" in rated.out
    assert all(len(line) <= 80 for line in rated.out.splitlines() if line.startswith("medical="))
    assert (out / "rates.png").is_file()
    rates = json.loads(command("level-rates", out, "--data", data, "--json").out)
    assert [one["replies"] for one in rates["rates"]] == [4, 4, 4]
    assert all(sum(v["value"] for v in one["rate"].values()) <= 1 + 1e-9 for one in rates["rates"])


def test_missing_replies_end_with_exit_code_1_and_the_same_command_gets_them(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prompts: Path
) -> None:
    monkeypatch.setattr(pace, "FIRST_WAIT", 0.01)
    asked = ("generate", "--prompts", prompts, "--out", tmp_path / "out", "--knob", "medical=1", "--json")
    with turning(lambda _, body: "400" if "take 2?" in body["messages"][0]["content"] else None) as endpoint:
        done = command(*asked, "--endpoint", endpoint.url)
    assert done.code == 1
    assert json.loads(done.out)["missing"] == 1
    with turning() as endpoint:
        done = command(*asked, "--endpoint", endpoint.url)
    assert (done.code, json.loads(done.out)["answers"]) == (0, 1)


def test_what_cannot_work_is_told_in_one_line_before_anything_is_written(
    command: Command, tmp_path: Path, tiny_folder: Path, prompts: Path
) -> None:
    out = tmp_path / "out"
    asked = ("generate", "--prompts", prompts, "--out", out)
    with turning() as endpoint:
        for more, parts in (
            (("--endpoint", endpoint.url, "--knob", "medcal=1"), ("KnobError", "medcal", "legal, medical")),
            (("--endpoint", endpoint.url, "--engine", "local"), ("ConfigError", "leave out --endpoint-")),
            (("--endpoint", endpoint.url, "--model-template", "x"), ("ConfigError", "{model}:{knobs}")),
            (
                ("--endpoint", endpoint.url, "--model", "demo"),
                ("ConfigError", "--model: of an engine", "--endpoint-model"),
            ),
            (("--endpoint", endpoint.url, "--vectors", tmp_path), ("ConfigError", "--vectors: of an engine")),
            (
                ("--endpoint", endpoint.url, "--device", "cpu", "--dtype", "float32", "--batch-size", 4),
                ("ConfigError", "--batch-size, --dtype, --device: of an engine"),
            ),
            (("--engine", "openai"), ("ConfigError", "--endpoint-url")),
            (("--endpoint", "ftp://x"), ("ConfigError", "ftp://x")),
            (("--endpoint", "http://me:secret@127.0.0.1:9"), ("ConfigError", "--endpoint-url has a user's name")),
            (("--engine", "vllm", "--model", tiny_folder, "--device", "cpu"), ("ConfigError", "--device")),
            (("--model", tmp_path / "none"), ("ModelError", tmp_path / "none")),
            (("--vectors", tmp_path / "none"), ("VectorError", "none")),
        ):
            done = command(*asked, *more)
            assert_told(done, *parts)
            assert "secret" not in done.err
    assert_told(command("generate", "--prompts", tmp_path / "no", "--out", out), "DataError", "no prompts at")
    assert_told(command("level-rates", out), "DataError", "no run.json")
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        pytest.param((), ("--teacher-url",), id="neither"),
        pytest.param(("--teacher-engine", "vllm", "--teacher-url", "http://x"), ("leave out",), id="both"),
        pytest.param(("--teacher-engine", "vllm", "--judge-model", "m"), ("--judge-url",), id="second model"),
    ],
)
def test_a_build_has_one_teacher(command: Command, tmp_path: Path, options: tuple[str, ...], parts: tuple[str]) -> None:
    asked = ("data", "build", "--domain", "medical", "--teacher-model", "m", "--out", tmp_path / "out")
    assert_told(command(*asked, *options), "ConfigError", *parts)
    assert not (tmp_path / "out").exists()
