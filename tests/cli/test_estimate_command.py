"""`alignvec estimate`: text, JSON, and what it refuses."""

import json

import pytest
from running import Command, assert_told

from alignvec.memory.shape import shape_of


def test_known_shapes_need_no_files(command: Command) -> None:
    done = command("estimate", "--model", "llama-3-8b", "--processes", 8, "--strategy", "fsdp", "--rank", 16)
    assert done.code == 0 and not done.err
    assert "in each of 8 processes (fsdp); 41,943,040 numbers are trained, the model has 8,030,261,248" in done.out
    assert "131,072 bytes a token" in done.out


def test_json_adds_up(command: Command) -> None:
    found = json.loads(command("estimate", "--model", "mistral-7b", "--vectors", 0, "--tokens", 0, "--json").out)
    training, serving = found["training"], found["serving"]
    parts = ("weights", "gradients", "optimizer", "communication", "activations", "logits")
    assert training["total"] == sum(training[part] for part in parts)
    assert serving["total"] == serving["weights"] == 2 * shape_of("mistral-7b").parameters


def test_an_unknown_model_is_refused(command: Command) -> None:
    assert_told(command("estimate", "--model", "./none"), "no model folder at ./none")


def test_many_settings_are_a_table_and_in_the_json(command: Command) -> None:
    done = command("estimate", "--model", "llama-3-70b", "--rank", 16, "--settings", "1,10000")
    assert done.code == 0 and max(map(len, done.out.splitlines()[3:])) <= 80
    assert [line.split()[:2] for line in done.out.splitlines()[-4:]] == [
        ["10,000", way] for way in ("gate", "adapters", "merged", "prompt")
    ]
    found = json.loads(command("estimate", "--model", "mistral-7b", "--settings", "3", "--json").out)["settings"]
    assert [one["way"] for one in found] == ["gate", "adapters", "merged", "prompt"] and found[0]["settings"] == 3


@pytest.mark.parametrize("text", ["0", "many", "1,", "-3"])
def test_numbers_of_settings_that_are_none_are_refused(command: Command, text: str) -> None:
    assert_told(command("estimate", f"--settings={text}"), "must be whole numbers above 0")
