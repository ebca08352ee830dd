"""Every command on the tiny model: results on stdout, everything else on stderr."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from running import Command
from safetensors.torch import load_file, save_file

from alignvec import models
from alignvec.data.schema import LEVELS
from alignvec.errors import ModelError
from alignvec.steer.model import Continuation, KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.store import load_card, load_vector, save_card, save_vector
from alignvec.vectors.vector import AlignmentVector


@pytest.fixture
def vector(make_vector: Any, tmp_path: Path) -> AlignmentVector:
    made: AlignmentVector = save_vector(make_vector(scale=0.3), tmp_path / "medical")
    return made


@pytest.fixture
def place(vector: AlignmentVector, tmp_path: Path) -> Path:
    """Folder of the saved vector."""
    assert vector.name == "medical"
    return tmp_path / "medical"


def shifted(source: Path, target: Path, step: float) -> Path:
    """A full checkpoint whose MLP weights are the source's plus a step that float32 adds without rounding."""
    shutil.copytree(source, target)
    tensors = load_file(source / "model.safetensors")
    moved = {name: (value * 64).round() / 64 + step if "mlp" in name else value for name, value in tensors.items()}
    save_file(moved, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_ask_answers_under_each_setting_as_the_library_does(
    command: Command, tiny: models.BaseModel, vector: AlignmentVector, place: Path
) -> None:
    options = ["--knob", "base", "--knob", "medical=-0.5", "--knob", "medical=expert", "--max-new-tokens", 8]
    done = command("ask", "How do I sleep?", *options, "--model", tiny.folder, "--vectors", place, "--json")
    settings: list[dict[str, float]] = [{}, {"medical": -0.5}, {"medical": 1.0}]
    sampling = Sampling(max_new_tokens=8, temperature=0.7, seed=0)
    replies = KnobbedModel(tiny, [vector]).generate(["How do I sleep?"] * 3, settings, sampling)
    result = json.loads(done.out)
    assert done.code == 0
    assert result["replies"] == [{"asked": k, "knobs": k, "reply": r} for k, r in zip(settings, replies, strict=True)]
    assert result["sampling"] == sampling.model_dump()
    assert len(set(replies)) == 3


def test_ask_without_a_knob_is_the_base(command: Command, tiny: models.BaseModel, place: Path) -> None:
    done = command("ask", "Hi", "--max-new-tokens", 4, "--model", tiny.folder, "--vectors", place.parent)
    reply = KnobbedModel(tiny).generate(["Hi"], {}, Sampling(max_new_tokens=4))[0]
    assert (done.code, done.out) == (0, f"── base ──\n{reply}\n\n")


def test_chat_follows_its_script(command: Command, tiny_folder: Path, place: Path) -> None:
    script = (
        "/knobs\nhello\n/knob medical=0.5\n/knobs\n/knob legal=1\n/knob medical\n/knobs\n/reset\n/what\n/exit\nno\n"
    )
    done = command("chat", "--max-new-tokens", 3, "--model", tiny_folder, "--vectors", place, stdin=script)
    assert done.code == 0
    known = [line for line in done.out.splitlines() if line.endswith("(loaded: medical)")]
    assert known == ["base (loaded: medical)", *["medical=0.5 (loaded: medical)"] * 2]
    assert done.errors == [
        "error: no vector named 'legal' is loaded (have: medical); check --knob and --vectors",
        "error: cannot read knob 'medical'; write it like medical=0.5",
    ]
    assert done.err.count("/knob medical=0.8 turns a knob") == 2


def test_chat_turns_see_the_turns_before_until_reset(
    command: Command, tiny_folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[str], dict[str, float]]] = []

    def reply(self: KnobbedModel, chats: Any, knobs: Any, *_: Any, **__: Any) -> list[Continuation]:
        asked.append(([turn["content"] for turn in chats[0]], dict(knobs)))
        return [Continuation(f"reply {len(asked)}", True)]

    monkeypatch.setattr(KnobbedModel, "continuations", reply)
    script = "one\n/knob medical=-1\ntwo\n/reset\nthree\n"
    command("chat", "--knob", "medical=1", "--model", tiny_folder, "--vectors", place, stdin=script)
    assert asked == [
        (["one"], {"medical": 1.0}),
        (["one", "reply 1", "two"], {"medical": -1.0}),
        (["three"], {"medical": -1.0}),
    ]


def test_chat_never_leaves_a_knob_command_without_effect_or_complaint(
    command: Command, tiny_folder: Path, place: Path
) -> None:
    script = "/knob base\n/knobs\n"
    done = command("chat", "--knob", "medical=1", "--model", tiny_folder, "--vectors", place, stdin=script)
    assert done.out == "base (loaded: medical)\n" or done.errors


def test_chat_goes_on_after_a_line_that_does_not_fit(command: Command, tiny_folder: Path, place: Path) -> None:
    script = f"{'long ' * 200}\n/knobs\n"
    done = command("chat", "--model", tiny_folder, "--vectors", place, stdin=script)
    assert (done.code, done.out) == (0, "base (loaded: medical)\n")
    assert len(done.errors) == 1
    assert "context of 512" in done.errors[0]


def test_sweep_prints_json_alone_and_the_same_as_it_stores(
    command: Command, tiny_folder: Path, place: Path, data_file: Path, tmp_path: Path
) -> None:
    options = [
        "--lambda",
        "-1,0,1",
        "--data",
        data_file,
        "--limit",
        2,
        "--max-new-tokens",
        4,
        "--out",
        tmp_path / "out",
    ]
    done = command("sweep", place, *options, "--model", tiny_folder, "--json")
    assert done.code == 0
    printed = json.loads(done.out)
    stored = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert {key: value for key, value in printed.items() if key != "replies"} == stored
    assert [point["coefficient"] for point in stored["curve"]] == [-1.0, 0.0, 1.0]
    assert (stored["queries"], stored["data"]) == (2, "medical.jsonl test")
    assert len(printed["replies"]) == 6
    assert "generating" in done.err


def test_sweep_prints_every_number_of_its_table_and_keeps_the_curve_in_the_card(
    command: Command, tiny_folder: Path, place: Path, data_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_card(place).model_copy(update={"notes": "saved meanwhile"})
    score = KnobbedModel.score

    def meanwhile(*arguments: Any, **given: Any) -> Any:
        save_card(place, before)
        return score(*arguments, **given)

    monkeypatch.setattr(KnobbedModel, "score", meanwhile)
    options = ["--lambda", "0.5", "--data", data_file, "--generate", 4, "--max-new-tokens", 4, "--card"]
    done = command("sweep", place, *options, "--model", tiny_folder)
    card = load_card(place)
    assert done.code == 0
    assert card.measured is not None
    point = card.measured.curve[0]
    for shown in (point.margin, point.degenerate, *point.level_rate.values()):
        assert shown is not None
        assert f"{shown.value:.2f}" in done.out
        assert f"[{shown.low:.2f},{shown.high:.2f}]" in done.out
    assert "judge: " in done.out
    assert card.model_copy(update={"measured": None}) == before
    assert load_vector(place).card == card


def test_inspect_says_it_in_words_and_in_json(command: Command, vector: AlignmentVector, place: Path) -> None:
    words, data = command("inspect", place), command("inspect", place, "--json")
    assert json.loads(data.out) == json.loads(vector.card.model_dump_json())
    assert words.out.startswith("medical: an alignment vector for the domain medical\n")
    assert "14 low-rank (rank 2) for λ > 0; 14 low-rank (rank 2) for λ < 0" in words.out
    assert "avoidance < generic < expert" in words.out
    assert (words.err, data.err) == ("", "")


def test_extract_subtracts_the_base_exactly(command: Command, tiny_folder: Path, tmp_path: Path) -> None:
    base = shifted(tiny_folder, tmp_path / "base", 0.0)
    up, down = shifted(base, tmp_path / "up", 0.25), shifted(base, tmp_path / "down", -0.5)
    options = ["--aligned", up, "--negative", down, "--name", "tone", "--out", tmp_path / "tone"]
    done = command("extract", "--base", base, *options, "--json")
    card = json.loads(done.out)
    assert (card["name"], card["form"], card["base"]["name"]) == ("tone", "hinged", str(base))
    vector = load_vector(tmp_path / "tone")
    assert vector.negative is not None
    assert len(vector.positive) == len(vector.negative) == 6
    assert all(torch.equal(d.dense(), torch.full(d.shape, 0.25)) for d in vector.positive.values())
    assert all(torch.equal(d.dense(), torch.full(d.shape, -0.5)) for d in vector.negative.values())


def test_an_extracted_vector_at_one_is_the_aligned_model(command: Command, tiny_folder: Path, tmp_path: Path) -> None:
    base = shifted(tiny_folder, tmp_path / "base", 0.0)
    up = shifted(base, tmp_path / "up", 0.25)
    command("extract", "--base", base, "--aligned", up, "--name", "tone", "--out", tmp_path / "tone")
    common = ["--vectors", tmp_path / "tone", "--max-new-tokens", 8, "--json"]
    done = command("ask", "Hello?", "--model", base, *common, "--knob", "tone=1")
    aligned = models.load(str(up), device="cpu")
    assert (
        json.loads(done.out)["replies"][0]["reply"]
        == (KnobbedModel(aligned).generate(["Hello?"], {}, Sampling(max_new_tokens=8))[0])
    )


def test_train_makes_a_vector_that_turns_and_a_second_call_finds_it_made(
    command: Command, tiny_folder: Path, data_file: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    lines = [f"name: medical\nbase: {tiny_folder}\ndata: {data_file.name}", "rank: 2\nlearning_rate: 0.01", "epochs: 1"]
    recipe.write_text("\n".join([*lines, "accumulate: 1\nform: one-sided"]))
    train = ["train", recipe, "--out", tmp_path / "run", "--limit", 2, "--json"]
    done = command(*train)
    assert done.code == 0
    result = json.loads(done.out)
    assert result["vector"] == str(tmp_path / "run" / "vector")
    assert result["config"]["limit"] == 2
    history = json.loads((tmp_path / "run" / "positive" / "run.json").read_text())["history"]
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 2]
    vector = load_vector(tmp_path / "run" / "vector")
    assert tuple(vector.card.levels) == LEVELS
    assert any(delta.dense().any() for delta in vector.positive.values())
    hashes = vector.card.files
    again = command(*train)
    assert json.loads(again.out) == result
    assert load_card(tmp_path / "run" / "vector").files == hashes
    told = command(*train[:-1]).out.splitlines()[1]
    question, *options = shlex.split(told.removeprefix("try it: alignvec "))[1:]
    assert command("ask", question, *options, "--max-new-tokens", 2).code == 0, told


def test_train_goes_on_where_its_memory_is_not_known(
    command: Command, tiny_folder: Path, data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(model: str) -> None:
        raise ModelError(f"cannot tell the shape of {model!r}")

    monkeypatch.setattr("alignvec.train.memory.shape_of", unknown)
    recipe = tmp_path / "recipe.yaml"
    lines = [f"name: medical\nbase: {tiny_folder}\ndata: {data_file.name}\nform: one-sided", "rank: 2\nepochs: 1"]
    recipe.write_text("\n".join([*lines, "limit: 1\naccumulate: 1"]))
    done = command("train", recipe, "--out", tmp_path / "run", "--json")
    assert done.code == 0 and json.loads(done.out)["memory"] is None
    assert "memory: not known (cannot tell the shape of" in done.err
    assert load_vector(tmp_path / "run" / "vector").name == "medical"
