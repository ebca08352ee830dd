"""Keep rows: which queries, whose replies, and what training makes of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from alignvec.errors import ConfigError, DataError, KnobError
from alignvec.logprobs import encode_replies
from alignvec.models import BaseModel
from alignvec.steer.model import Continuation, KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.train.config import TrainConfig
from alignvec.train.dpo import train_side
from alignvec.train.keep import KeepRow, Origin, encode_keep, keep_rows, load_keep, queries_outside, save_keep
from alignvec.train.vector import train_vector
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.store import load_card, load_vector, save_vector
from tests.conftest import MakeVector, preference_record, write_tiny_model

SAMPLING = Sampling(max_new_tokens=6, seed=3)
QUERIES = ["What is a lease?", "Name a bird.", "How do octopuses sleep?"]


@pytest.fixture
def config(tiny_folder: Path, data_file: Path) -> TrainConfig:
    return TrainConfig(
        name="medical",
        base=str(tiny_folder),
        data=data_file,
        limit=4,
        epochs=1,
        batch_size=2,
        accumulate=1,
        rank=2,
        learning_rate=1e-2,
        warmup_share=0,
    )


def write(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def kept(query: str, base: str, positive: str, negative: str) -> dict[str, Any]:
    return {"query": query, "base": base, "positive": positive, "negative": negative, "unfinished": []}


@pytest.fixture
def origin(tiny_folder: Path) -> dict[str, Any]:
    """First line of a file of keep rows for `config`."""
    return {"domain": "medical", "files": {"adapter_model.safetensors": "0"}, "base": fingerprint(tiny_folder)}


def test_training_queries_outside_the_domain_are_asked_once_each(tmp_path: Path) -> None:
    rows = [preference_record(i, "train", "legal") for i in range(3)] + [preference_record(3, "test", "legal")]
    prompts = [
        {"query": "Name a bird.", "split": "train", "topic": "birds"},
        {"query": "Name a fish.", "split": "validation"},
        {"query": "Name a bird.", "split": "train"},
        {"query": "Can my boss ask about my illness?", "domains": ["medical", "legal"]},
        {"query": "How do I sleep?", "domain": "medical"},
        {"query": "Name a cloud."},
    ]
    paths = [write(tmp_path / "legal.jsonl", rows), write(tmp_path / "outside.jsonl", prompts)]
    found = queries_outside(paths, "medical")
    assert found == [*(str(row["query"]) for row in rows[:3]), "Name a bird.", "Name a cloud."]
    assert queries_outside(paths, "medical", limit=1) == [rows[0]["query"], "Name a bird."]
    assert queries_outside(paths, "legal") == ["Name a bird.", "How do I sleep?", "Name a cloud."]
    with pytest.raises(DataError, match=r"legal\.jsonl: no training queries outside 'legal'.*--queries"):
        queries_outside(paths[:1], "legal")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty; check --queries"),
        ('{"query": "a"}\n{"query": ""}\n', "q.jsonl:2: query"),
        ('{"query": "a", "split": "dev"}\n', "q.jsonl:1: split"),
        ("no json\n", "q.jsonl:1"),
    ],
)
def test_a_file_of_queries_that_cannot_be_read_is_told(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "q.jsonl").write_text(content)
    with pytest.raises(DataError, match=told) as refusal:
        queries_outside([tmp_path / "q.jsonl"], "medical")
    assert "\n" not in str(refusal.value)
    with pytest.raises(DataError, match="no file at .*none.jsonl"):
        queries_outside([tmp_path / "none.jsonl"], "medical")


def test_replies_are_the_bases_and_those_of_both_ends(tiny: BaseModel, make_vector: MakeVector, tmp_path: Path) -> None:
    model = KnobbedModel(tiny, [make_vector(scale=0.4)])
    done: list[int] = []
    rows = keep_rows(model, "medical", QUERIES, SAMPLING, journal=tmp_path / "j.jsonl", advance=done.append)
    assert [row.query for row in rows] == QUERIES
    for knobs, side in (({}, "base"), ({"medical": 1.0}, "positive"), ({"medical": -1.0}, "negative")):
        alone = [model.generate([query], knobs, SAMPLING)[0] for query in QUERIES]
        assert [getattr(row, side) for row in rows] == alone
    assert sum(done) == 9 and {row.unfinished for row in rows} == {("base", "positive", "negative")}
    assert any(row.positive != row.base for row in rows) and any(row.negative != row.positive for row in rows)


def test_what_was_generated_is_not_generated_again_and_more_may_be_asked(
    tiny: BaseModel, make_vector: MakeVector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, journal = KnobbedModel(tiny, [make_vector(scale=0.4)]), tmp_path / "j.jsonl"
    first = keep_rows(model, "medical", QUERIES[1:], SAMPLING, journal=journal)
    asked: list[str] = []
    generate = KnobbedModel.continuations

    def watched(self: KnobbedModel, chats: Any, *rest: Any, **options: Any) -> list[Continuation]:
        asked.extend(chat[0]["content"] for chat in chats)
        return generate(self, chats, *rest, **options)

    monkeypatch.setattr(KnobbedModel, "continuations", watched)
    assert keep_rows(model, "medical", QUERIES, SAMPLING, journal=journal)[1:] == first
    assert asked == QUERIES[:1] * 3
    with pytest.raises(DataError, match="other vectors, data or settings"):
        keep_rows(model, "medical", QUERIES, Sampling(max_new_tokens=7, seed=3), journal=journal)
    with pytest.raises(KnobError, match="no vector named 'legal'"):
        keep_rows(model, "legal", QUERIES, SAMPLING)


def test_equal_replies_make_no_pair_and_a_reply_that_was_cut_off_does_not_end(tiny: BaseModel) -> None:
    rows = [
        KeepRow(query="q", base="same", positive="same", negative="other", unfinished=()),
        KeepRow(query="q", base="short", positive="nine char", negative="", unfinished=("positive",)),
        KeepRow(query="q", base="", positive="", negative="no token before", unfinished=("base",)),
    ]
    (pair,) = encode_keep(tiny, rows, "positive", max_length=100)
    end = tiny.tokenizer.eos_token_id
    whole = encode_replies(tiny.tokenizer, "q", ["short", "nine char"], max_length=100)
    assert pair.prompt == whole.prompt
    assert pair.replies == (whole.replies[0], whole.replies[1][:-1])
    assert pair.replies[0][-1] == end and len(pair.replies[0]) == 6
    assert end not in pair.replies[1] and len(pair.replies[1]) == 9  # one byte, one token
    both = encode_keep(tiny, rows, "negative", max_length=100)
    assert len(both) == 2 and both[1].replies[1] == (end,)
    with pytest.raises(DataError, match="more than the 5 allowed"):
        encode_keep(tiny, rows, "negative", max_length=5)


def test_a_row_says_which_of_its_replies_did_not_end(
    tiny: BaseModel, make_vector: MakeVector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = {0.0: Continuation("Cut off after", False), 1.0: Continuation("Whole.", True)}
    model = KnobbedModel(tiny, [make_vector()])

    def said(_: KnobbedModel, chats: Any, knobs: Any, *rest: Any) -> list[Continuation]:
        return [replies[max(setting.get("medical", 0.0), 0.0)] for setting in knobs]

    monkeypatch.setattr(KnobbedModel, "continuations", said)
    for _ in range(2):  # the second time from the journal
        (row,) = keep_rows(model, "medical", QUERIES[:1], SAMPLING, journal=tmp_path / "j.jsonl")
        assert (row.base, row.positive, row.unfinished) == ("Cut off after", "Whole.", ("base", "negative"))


def test_keep_rows_are_trained_beside_the_data_and_recorded(
    config: TrainConfig, origin: dict[str, Any], tmp_path: Path
) -> None:
    rows = [kept("Name a bird.", "A wren.", "A dose.", "A wren."), kept("Name a fish.", "A cod.", "A cod.", "Ask.")]
    path = write(tmp_path / "keep.jsonl", [origin, *rows, kept("Name a cloud.", "Cirrus.", "Pain.", "Sorry.")])
    config = config.model_copy(update={"keep": path})
    train_side(config, "positive", tmp_path / "positive")
    record = json.loads((tmp_path / "positive/run.json").read_text())
    assert (record["rows"], record["keep_rows"], record["keep_equal"]) == (4, 2, 1)
    assert [entry["step"] for entry in record["history"] if "loss" in entry] == [1, 2, 3]  # 6 rows by twos
    before = path.read_text()
    write(path, [origin, *rows])
    with pytest.raises(ConfigError, match="a finished run with another keep_sha256"):
        train_side(config, "positive", tmp_path / "positive")
    path.write_text(before)
    assert train_side(config, "positive", tmp_path / "positive").is_dir()


def test_a_file_of_keep_rows_that_cannot_be_used_is_told(
    config: TrainConfig, origin: dict[str, Any], tmp_path: Path
) -> None:
    missing = config.model_copy(update={"keep": tmp_path / "none.jsonl"})
    with pytest.raises(DataError, match=r"no file at .*none\.jsonl; make it with `alignvec keep`"):
        train_side(missing, "positive", tmp_path / "out")
    path = write(tmp_path / "k.jsonl", [origin, kept("q", "a", "b", "c"), {"query": "q", "base": "a"}])
    with pytest.raises(DataError, match=r"k\.jsonl:3: positive: Field required"):
        load_keep(path)
    write(path, [kept("q", "a", "b", "c")])
    with pytest.raises(DataError, match=r"k\.jsonl: its first line does not say which vector.*make it again with"):
        load_keep(path)
    write(path, [origin])
    with pytest.raises(DataError, match=r"k\.jsonl has no rows"):
        load_keep(path)


def test_keep_rows_of_another_domain_base_or_vector_are_refused(
    config: TrainConfig, make_vector: MakeVector, tmp_path: Path
) -> None:
    first, second = (save_vector(make_vector(seed=seed), tmp_path / str(seed)).card for seed in range(2))
    row = KeepRow(query="Name a bird.", base="A wren.", positive="A dose.", negative="Ask.", unfinished=("negative",))
    path = tmp_path / "keep.jsonl"
    save_keep(path, first, [row])
    assert load_keep(path) == (Origin(domain="medical", files=first.files, base=first.base.fingerprint), [row])

    def told(message: str, **update: Any) -> None:
        with pytest.raises(DataError, match=message) as refusal:
            train_side(config.model_copy(update={"keep": path, **update}), "positive", tmp_path / "out")
        assert "\n" not in str(refusal.value) and not (tmp_path / "out").exists()

    told("keep.jsonl has keep rows of domain 'medical', and the recipe's is 'legal'", name="legal")
    told("keep.jsonl has keep rows of domain 'medical', and the recipe's is 'legal'", domain="legal")
    told("another base model .* make it again", base=str(write_tiny_model(tmp_path / "other", seed=1)))
    told("another vector than the recipe's start, .*1; make it again with `alignvec keep", start=tmp_path / "1")
    assert first.files != second.files == load_card(tmp_path / "1").files
    update = {"keep": path, "name": "tone", "domain": "medical", "start": tmp_path / "0"}
    assert train_side(config.model_copy(update=update), "positive", tmp_path / "out").is_dir()


def test_going_on_with_keep_rows_turns_the_knob_back_outside_its_domain(
    config: TrainConfig, tiny: BaseModel, make_vector: MakeVector, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    vector = save_vector(make_vector(scale=0.4), first)
    model = KnobbedModel(tiny, [vector])
    rows = keep_rows(model, "medical", QUERIES, Sampling(max_new_tokens=12))
    path = tmp_path / "keep.jsonl"
    save_keep(path, vector.card, rows)
    update = {"keep": path, "start": first, "limit": 1, "epochs": 3}
    second = train_vector(config.model_copy(update=update), tmp_path / "second")
    card = load_vector(second).card
    assert {"keep_sha256", "start_files"} <= set(card.recipe) and not {"keep", "start", "data"} & set(card.recipe)

    for side, coefficient in (("positive", 1.0), ("negative", -1.0)):
        encoded = encode_keep(tiny, rows, side, max_length=200)
        assert len(encoded) == 3
        margins = []
        for folder in (first, second):
            scores = KnobbedModel(tiny, [load_vector(folder)]).score(encoded, {"medical": coefficient})
            margins.append((scores[:, 0] - scores[:, 1]).mean())
        assert margins[1] > margins[0] + 1.0
        assert torch.isfinite(margins[1])
