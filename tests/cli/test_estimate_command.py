"""`alignvec estimate`: text, JSON, and what it refuses."""

import json

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
