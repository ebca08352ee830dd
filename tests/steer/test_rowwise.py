"""Knobs on norms, biases and embeddings: rows of a mixed batch against models with λΔ written into the weights."""

from functools import partial
from pathlib import Path

import pytest
import torch
from written import (
    IDS,
    KINDS,
    ROWS,
    SHORT,
    WriteModel,
    changes,
    check_rows_against_written,
    load,
    logits,
    rowwise_deltas,
    vector_of,
    write_kind,
    written,
)

from alignvec import models
from alignvec.errors import KnobError
from alignvec.logprobs import encode_replies
from alignvec.steer.model import KnobbedModel
from alignvec.steer.rowwise import split
from alignvec.vectors.delta import DenseDelta, LowRankDelta


@pytest.fixture(scope="session")
def write_model(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> WriteModel:
    """Saves a tiny model of a kind."""
    return partial(write_kind, tmp_path_factory.mktemp("kinds"), tiny_folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hinged", [False, True])
def test_every_row_of_a_mixed_batch_is_the_model_with_its_change_written_into_the_weights(
    write_model: WriteModel, kind: str, hinged: bool
) -> None:
    base = load(write_model(kind))
    sides = [rowwise_deltas(kind, base, seed) for seed in range(1 + hinged)]
    vector = vector_of(base, sides)
    assert split(base.model, vector) is not None
    names = " ".join(sides[0])
    wanted = {"gpt2": ["wpe.weight", "ln_f.bias"], "qwen2": ["q_proj.bias", "lm_head"], "qwen3": ["q_norm"]}
    assert all(part in names for part in ["norm" if kind != "gpt2" else "ln", *wanted.get(kind, [])])
    check_rows_against_written(base, [vector])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", ["norm ln_", "bias", "embed wte", "wpe", "lm_head"])
def test_each_kind_of_tensor_alone(write_model: WriteModel, kind: str, which: str) -> None:
    base = load(write_model(kind))
    deltas = {n: d for n, d in rowwise_deltas(kind, base).items() if any(part in n for part in which.split())}
    if deltas:
        check_rows_against_written(base, [vector_of(base, [deltas])])
    else:
        assert which not in ("norm ln_",)


@pytest.mark.parametrize("kind", KINDS)
def test_replies_with_a_cache_are_those_of_the_row_alone_and_of_the_written_model(
    write_model: WriteModel, kind: str
) -> None:
    base = load(write_model(kind))
    vector = vector_of(base, [rowwise_deltas(kind, base)])
    knobbed = KnobbedModel(base, [vector])
    queries = ["How?", "A longer question, why not?", "", "Again?", "And you"]
    together = knobbed.generate(queries, ROWS, SHORT)
    assert together == [knobbed.generate([q], row, SHORT)[0] for q, row in zip(queries, ROWS, strict=True)]
    for i, row in enumerate(ROWS):
        other = models.BaseModel("w", base.folder, written(base.model, [vector], row), base.tokenizer)
        assert KnobbedModel(other).generate([queries[i]], {}, SHORT)[0] == together[i]
    assert len({*together} - {*knobbed.generate(queries, {}, SHORT)}) >= 2


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_low_rank_deltas_of_an_embedding_change_input_and_tied_head(write_model: WriteModel, kind: str) -> None:
    base = load(write_model(kind))
    draw = torch.Generator().manual_seed(4)
    delta = LowRankDelta(torch.randn(2, 32, generator=draw) * 0.3, torch.randn(258, 2, generator=draw) * 0.3)
    vector = vector_of(base, [{"model.embed_tokens.weight": delta}])
    check_rows_against_written(base, [vector])
    hidden = torch.randn(5, 3, 32, generator=draw)
    with KnobbedModel(base, [vector]).knobs(ROWS) as model, torch.no_grad():
        head = model.lm_head(hidden)
    moved = [not torch.equal(head[i], base.model.lm_head(hidden)[i]) for i in range(5)]
    assert moved == ([True, False, True, False, True] if kind == "tied" else [False] * 5)


def test_low_rank_deltas_of_an_embedding_take_the_models_dtype(write_model: WriteModel) -> None:
    base = load(write_model("tied"), "bfloat16")
    vector = vector_of(base, [{"model.embed_tokens.weight": LowRankDelta(torch.ones(2, 32), torch.ones(258, 2))}])
    with KnobbedModel(base, [vector]).knobs(ROWS) as model:
        assert logits(model).dtype == torch.bfloat16


def test_several_vectors_at_once_one_of_them_hinged(write_model: WriteModel) -> None:
    base = load(write_model("qwen2"))
    vectors = [
        vector_of(base, [changes(base, 1)], "tone"),
        vector_of(base, [changes(base, 2, ["norm", "embed"]), changes(base, 3, ["bias", "mlp"])], "law"),
    ]
    rows = [{"tone": 0.5, "law": 1.0}, {"law": -1.0}, {}, {"tone": -0.3, "law": -0.4}, {"tone": 0.0, "law": 0.0}]
    check_rows_against_written(base, vectors, rows)


@pytest.mark.parametrize("kind", ["tied", "qwen2"])
def test_one_vector_in_place_beside_one_by_row(write_model: WriteModel, kind: str) -> None:
    base = load(write_model(kind))
    before = logits(base.model)
    inplace = {n: DenseDelta(d.dense()) for n, d in changes(base, 2).items()}  # dense on linear weights too
    vectors = [vector_of(base, [changes(base, 1)], "tone"), vector_of(base, [inplace], "law")]
    assert [split(base.model, vector) is None for vector in vectors] == [False, True]
    knobbed = KnobbedModel(base, vectors)
    rows = [{**row, "law": 0.6} for row in ROWS]
    with knobbed.knobs(rows) as model:
        found = logits(model)
    for i, row in enumerate(rows):
        expected = logits(written(base.model, vectors, row), IDS[i : i + 1])[0]
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=2e-4)
    assert torch.equal(logits(base.model), before)
    with pytest.raises(KnobError, match=r"differ in a dense vector \(law\)"), knobbed.knobs([{"law": 1.0}, {}]):
        pass


def test_rows_that_differ_in_a_dense_vector_are_run_in_groups_and_keep_their_order(
    write_model: WriteModel,
) -> None:
    base = load(write_model("qwen2"))
    inplace = {n: DenseDelta(d.dense()) for n, d in changes(base, 2).items()}
    vectors = [vector_of(base, [changes(base, 1)], "tone"), vector_of(base, [inplace], "law")]
    knobbed = KnobbedModel(base, vectors)
    rows = [{"law": 1.0}, {"tone": 1.0}, {"law": -0.5, "tone": 0.5}, {}, {"law": 1.0, "tone": -1.0}, {"law": -0.5}]
    queries = [f"{'Why ' * i}number {i}?" for i in range(6)]
    encoded = [encode_replies(base.tokenizer, q, [f"Yes {q}", "No."], max_length=128) for q in queries]
    scores = knobbed.score(encoded, rows)
    replies = knobbed.generate(queries, rows, SHORT)
    assert len(knobbed._groups(rows)) == 3
    for i, row in enumerate(rows):
        torch.testing.assert_close(scores[i : i + 1], knobbed.score([encoded[i]], row), rtol=1e-5, atol=1e-4)
        assert replies[i] == knobbed.generate([queries[i]], row, SHORT)[0]
        other = models.BaseModel("w", base.folder, written(base.model, vectors, row), base.tokenizer)
        expected = KnobbedModel(other).score([encoded[i]], {})
        torch.testing.assert_close(scores[i : i + 1], expected, rtol=1e-4, atol=1e-3)
    assert len({round(value, 2) for value in scores[:, 1].tolist()}) == 6
    torch.testing.assert_close(knobbed.score(encoded[:2], rows[:2]), scores[:2], rtol=1e-5, atol=1e-4)  # two groups
    assert torch.equal(knobbed.score(encoded, {}), KnobbedModel(base).score(encoded, {}))
