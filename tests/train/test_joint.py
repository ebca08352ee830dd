"""One run over several domains: which rows it has, which reply it prefers in each, what it leaves behind."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from alignvec.data.pairs import preference_pairs
from alignvec.errors import ConfigError, DataError
from alignvec.models import BaseModel
from alignvec.steer.model import KnobbedModel
from alignvec.train import dpo
from alignvec.train.config import TrainConfig, load_recipe
from alignvec.train.dpo import train_side
from alignvec.train.progress import TrainingProgress, seconds_of
from alignvec.train.rows import data_files, ordered_rows
from alignvec.train.vector import train_vector
from alignvec.vectors.store import load_vector
from tests.conftest import preference_record

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
DOMAINS = ("medical", "legal", "financial")
IDS = torch.arange(40).view(2, 20)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, ...]:
    """A file of four training rows a domain; the financial ones have no generic replies."""
    found = []
    for domain in DOMAINS:
        records: list[dict[str, Any]] = [preference_record(i, "train", domain) for i in range(4)]
        if domain == "financial":
            for record in records:
                del record["responses"]["generic"]
        found.append(tmp_path / f"{domain}.jsonl")
        found[-1].write_text("".join(json.dumps(record) + "\n" for record in records))
    return tuple(found)


@pytest.fixture
def config(tiny_folder: Path, files: tuple[Path, ...]) -> TrainConfig:
    """Six steps of two rows each, a checkpoint at every step."""
    return TrainConfig(
        name="joint",
        base=str(tiny_folder),
        data=files,
        goal={"medical": "expert", "legal": "avoidance", "financial": "expert"},
        epochs=1,
        batch_size=2,
        accumulate=1,
        rank=2,
        learning_rate=1e-2,
        checkpoint_steps=1,
    )


def test_every_domain_has_its_own_order(config: TrainConfig) -> None:
    groups = ordered_rows(config, "positive")
    assert [str(group.order) for group in groups] == [
        "expert>generic=avoidance",
        "avoidance>expert=generic",
        "expert>avoidance",
    ]
    assert [{row.domain for row in group.rows} for group in groups] == [{domain} for domain in DOMAINS]
    assert [len(group.rows) for group in groups] == [4, 4, 4]


def test_the_pairs_of_the_dataset_are_those_of_each_rows_domain(
    config: TrainConfig, tiny: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoded, the chosen and rejected replies are those that the order of the row's domain makes of its texts."""
    seen: dict[str, Any] = {}

    def stop(_: Any, __: Any, columns: dict[str, Any], ___: Any) -> None:
        seen.update(columns)
        raise KeyboardInterrupt

    monkeypatch.setattr(dpo, "make_trainer", stop)
    with pytest.raises(KeyboardInterrupt):
        train_side(config, "positive", tmp_path / "out")
    expected = [
        (pair.query, pair.chosen, pair.rejected)
        for group in ordered_rows(config, "positive")
        for pair in preference_pairs(group.rows, group.order)
    ]
    found = []
    columns = zip(seen["prompt"], seen["replies"], seen["pairs"], seen["reference"], strict=True)
    for prompt, replies, pairs, reference in columns:
        query = tiny.tokenizer.decode(prompt).split("user\n")[1].split("<|im_end|>")[0]
        texts = [tiny.tokenizer.decode(reply).removesuffix("<|im_end|>") for reply in replies]
        assert len(reference) == len(replies) and all(score < 0 for score in reference)
        found += [(query, texts[chosen], texts[rejected]) for chosen, rejected in pairs]
    assert found == expected and len(found) == 4 * (2 + 2 + 1)


def test_the_vector_at_one_is_the_jointly_trained_model(config: TrainConfig, tiny: BaseModel, tmp_path: Path) -> None:
    vector = load_vector(train_vector(config, tmp_path / "out"))
    assert (vector.card.form, vector.card.domain, tuple(vector.card.levels)) == ("single", None, ())
    assert vector.card.settings == {} and vector.card.recipe["goal"] == config.goal
    assert not (tmp_path / "out/negative").exists()
    with torch.no_grad():
        base = tiny.model(IDS).logits
        with KnobbedModel(tiny, [vector]).knobs({"joint": 1.0}) as model:
            turned = model(IDS).logits
        expected = PeftModel.from_pretrained(tiny.model, tmp_path / "out/positive/model")(IDS).logits
    assert (expected - base).abs().max() > 0.01
    torch.testing.assert_close(turned, expected, rtol=1e-4, atol=1e-4)


def test_a_killed_joint_run_goes_on_and_times_each_step_once(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_side(config, "positive", tmp_path / "whole")

    class Killer(TrainingProgress):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 4:
                self.on_train_end(args, state, control)
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(dpo, "TrainingProgress", Killer)
        with pytest.raises(KeyboardInterrupt):
            train_side(config, "positive", tmp_path / "killed")
    train_side(config, "positive", tmp_path / "killed")
    whole, killed = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("whole", "killed"))
    steps = {name: [e for e in run["history"] if "loss" in e] for name, run in (("whole", whole), ("killed", killed))}
    assert [e["loss"] for e in steps["killed"]] == pytest.approx([e["loss"] for e in steps["whole"]], rel=1e-4)
    assert all(e["seconds"] > 0 for e in steps["killed"])
    assert killed["seconds"] == pytest.approx(sum(e["seconds"] for e in steps["killed"]), abs=0.06)
    for record in (whole, killed):
        assert (record["rows"], record["steps"]) == (12, 6)
        assert record["tokens"] == record["tokens_a_pass"]
        assert record["order"] == "medical=expert,legal=avoidance,financial=expert"
        assert len(record["data_sha256"]) == 3


def test_seconds_are_unknown_where_a_step_was_not_timed() -> None:
    timed = [{"loss": 1.0, "seconds": 1.25}, {"loss": 1.0, "seconds": 2.5}, {"train_runtime": 9.0}]
    assert seconds_of(timed) == pytest.approx(3.75, abs=0.06)
    assert seconds_of([*timed, {"loss": 0.5}]) is None


def test_supervised_fine_tuning_sees_the_replies_at_the_top_alone(
    config: TrainConfig, tiny: BaseModel, tmp_path: Path
) -> None:
    """The first step's loss is the base's own mean over the tokens of the wanted replies of two rows."""
    config = config.model_copy(update={"loss": "sft", "batch_size": 12, "learning_rate": 1e-4, "epochs": 2})
    train_side(config, "positive", tmp_path / "out")
    record = json.loads((tmp_path / "out/run.json").read_text())
    first = next(entry for entry in record["history"] if "loss" in entry)
    total, tokens = 0.0, 0
    for group in ordered_rows(config, "positive"):
        assert group.replies("sft") == ((group.order.levels[0],), [(0, 0)])
        for row in group.rows:
            chat = [{"role": "user", "content": row.query}]
            prompt = tiny.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            reply = row.responses[config.goal[row.domain]] + "<|im_end|>"  # type: ignore[index]
            ids = tiny.tokenizer(prompt + reply, return_tensors="pt")["input_ids"]
            start = len(tiny.tokenizer(prompt)["input_ids"])
            with torch.no_grad():
                logprobs = tiny.model(ids).logits.double().log_softmax(-1)[0, start - 1 : -1]
            total -= logprobs.gather(1, ids[0, start:, None]).sum().item()
            tokens += ids.shape[1] - start
    assert first["loss"] == pytest.approx(total / tokens, rel=1e-3)
    assert record["tokens_a_pass"] < ordinary_tokens(config, tmp_path)
    assert (tmp_path / "out/training.png").read_bytes().startswith(b"\x89PNG")


def ordinary_tokens(config: TrainConfig, tmp_path: Path) -> int:
    other = config.model_copy(update={"loss": "sigmoid", "epochs": 0.5})
    train_side(other, "positive", tmp_path / "ordinary")
    return int(json.loads((tmp_path / "ordinary/run.json").read_text())["tokens_a_pass"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"goal": {"medical": "expert"}}, "row legal-0 is of domain 'legal'"),
        ({"goal": {**dict.fromkeys(DOMAINS, "expert"), "tax": "expert"}}, "no rows of domain 'tax'"),
        ({"goal": {**dict.fromkeys(DOMAINS, "expert"), "financial": "generic"}}, "wants financial=generic"),
    ],
)
def test_a_goal_that_does_not_fit_the_rows_is_refused(
    config: TrainConfig, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        ordered_rows(config.model_copy(update=values), "positive")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("goal: {}\n", "goal: Dictionary should have at least 1"),
        ("goal: {medical: expert}\nform: hinged\n", "no other side"),
        ("goal: {medical: expert}\norder: generic>expert\n", "order must be left out"),
        ("goal: {medical: expert}\ndomain: legal\n", "domain must be left out"),
        ("goal: {medical: expert}\nkeep: rows.jsonl\n", "keep must be left out"),
        ("goal: medical\n", "goal: Input should be a valid dictionary"),
        ("data: []\n", "data"),
    ],
)
def test_a_bad_goal_is_refused_with_its_recipe(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.yaml").write_text(f"name: a\n{text}")
    with pytest.raises(ConfigError, match=message) as refusal:
        load_recipe(tmp_path / "r.yaml")
    assert "\n" not in str(refusal.value)


def test_several_files_are_looked_for_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: a\ndata: [one.jsonl, sub/two.jsonl]\n")
    assert load_recipe(tmp_path / "r.yaml").data == (tmp_path / "one.jsonl", tmp_path / "sub/two.jsonl")


def test_the_joint_recipes_are_a_latin_square_over_the_shipped_data() -> None:
    recipes = [load_recipe(path) for path in sorted((RECIPES / "joint").glob("*.yaml"))]
    single = load_recipe(RECIPES / "medical.yaml")
    assert len(recipes) == 3
    for recipe in recipes:
        assert recipe.goal and recipe.name == "-".join(recipe.goal.values())
        assert tuple(recipe.goal) == DOMAINS and sorted(recipe.goal.values()) == ["avoidance", "expert", "generic"]
        changed = {"name", "goal", "form", "order", "negative_order", "epochs"}
        assert recipe.model_dump(exclude=changed) == single.model_dump(exclude=changed)
        assert recipe.epochs == 1 and [path.stem for path in data_files(recipe)] == list(DOMAINS)
    for domain in DOMAINS:
        assert sorted(r.goal[domain] for r in recipes if r.goal) == ["avoidance", "expert", "generic"]


@pytest.mark.parametrize("path", sorted((RECIPES / "joint").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_joint_recipe_runs(path: Path, tiny_folder: Path, tmp_path: Path) -> None:
    data = [tmp_path / f"{domain}.jsonl" for domain in DOMAINS]
    for domain, file in zip(DOMAINS, data, strict=True):
        file.write_text("".join(json.dumps(preference_record(i, "train", domain)) + "\n" for i in range(3)))
    recipe = load_recipe(path, base=str(tiny_folder), data=data, limit=2, dtype="float32")
    card = load_vector(train_vector(recipe, tmp_path / "out")).card
    assert (card.name, card.recipe["goal"]) == (path.stem, recipe.goal)
    record = json.loads((tmp_path / "out/positive/run.json").read_text())
    assert (record["rows"], record["steps"]) == (6, 2) and record["seconds"] > 0
