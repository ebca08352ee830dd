"""Knobs on norms, biases and embeddings: every row of a mixed batch against a model with λΔ written into its weights."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MakeVector
from torch import nn

from alignvec import models
from alignvec.errors import KnobError, VectorError
from alignvec.logprobs import encode_replies
from alignvec.steer.model import KnobbedModel
from alignvec.steer.rowwise import split
from alignvec.steer.sampling import GREEDY
from alignvec.vectors.card import BaseReference, Card
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.fingerprint import fingerprint, template_hash
from alignvec.vectors.vector import AlignmentVector

ROWS: list[dict[str, float]] = [{"tone": 1.0}, {}, {"tone": -0.7}, {"tone": 0.0}, {"tone": 2.0}]
IDS = torch.randint(0, 250, (5, 12), generator=torch.Generator().manual_seed(0))
SHORT = GREEDY.model_copy(update={"max_new_tokens": 10})
SIZES = {"vocab_size": 258, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
MORE = {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.2}
KINDS = ["tied", "untied", "qwen2", "qwen3", "gpt2", "gemma"]


def config(kind: str) -> Any:
    from transformers import GemmaConfig, GPT2Config, LlamaConfig, Qwen2Config, Qwen3Config

    common = {**SIZES, **MORE, "eos_token_id": 257, "pad_token_id": 257, "bos_token_id": 257}
    if kind == "gpt2":
        return GPT2Config(
            vocab_size=258, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.2, eos_token_id=257
        )
    if kind == "gemma":
        return GemmaConfig(**{**common, "head_dim": 8})
    if kind == "qwen3":
        return Qwen3Config(**{**common, "head_dim": 8, "tie_word_embeddings": True})
    if kind == "qwen2":
        return Qwen2Config(**{**common, "tie_word_embeddings": False})
    return LlamaConfig(**{**common, "tie_word_embeddings": kind == "tied"})


@pytest.fixture(scope="session")
def write_model(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Saves a tiny model of a kind, whose norms and biases are not at their defaults."""
    root = tmp_path_factory.mktemp("kinds")

    def write(kind: str) -> Path:
        from transformers import AutoModelForCausalLM

        if not (root / kind).exists():
            torch.manual_seed(1)
            model = AutoModelForCausalLM.from_config(config(kind))
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.ndim == 1:
                        parameter.add_(torch.randn(parameter.shape) * 0.2)
            model.save_pretrained(root / kind)
            for path in tiny_folder.iterdir():
                if "token" in path.name or path.suffix == ".jinja":
                    shutil.copy(path, root / kind)
        return root / kind

    return write


def load(folder: Path, dtype: str = "float32") -> models.BaseModel:
    return models.load(str(folder), device="cpu", dtype=dtype)


def vector_of(base: models.BaseModel, deltas: Sequence[Mapping[str, Delta]], name: str = "tone") -> AlignmentVector:
    reference = BaseReference(name="tiny", fingerprint=fingerprint(base.folder), template=template_hash(base.tokenizer))
    form: Any = "single" if len(deltas) == 1 else "hinged"
    return AlignmentVector(Card(name=name, form=form, method="m", base=reference), *deltas)


def changes(base: models.BaseModel, seed: int = 0, only: Sequence[str] = ("",)) -> dict[str, Delta]:
    """Low-rank on linear layers' weights, dense on everything else that is carried per row."""
    draw = torch.Generator().manual_seed(seed)
    owners = dict(base.model.named_modules())
    found: dict[str, Delta] = {}
    for name, weight in base.model.named_parameters():
        owner = owners[name.rpartition(".")[0]]
        low = isinstance(owner, nn.Linear) and weight.ndim == 2
        rows = weight.shape[0]
        if not any(part in name for part in only):
            continue
        if low:
            a, b = torch.randn(2, weight.shape[1], generator=draw), torch.randn(rows, 2, generator=draw)
            found[name] = LowRankDelta(a * 0.15, b * 0.15)
        elif weight.ndim == 1 or type(owner) is nn.Embedding:
            found[name] = DenseDelta(torch.randn(weight.shape, generator=draw) * 0.1)
    return found


def written(base: Any, vectors: Sequence[AlignmentVector], setting: Mapping[str, float]) -> Any:
    """A copy of the model with λΔ added to its weights in float64."""
    model = deepcopy(base)
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for vector in vectors:
            for part in vector.parts:
                value = setting.get(vector.name, 0.0)
                gate = value if part.sign == 0 else max(part.sign * value, 0.0)
                for name, delta in part.deltas.items():
                    step = delta.b.double() @ delta.a.double() if isinstance(delta, LowRankDelta) else delta.dense()
                    weights[name].copy_(weights[name].double() + gate * step.double())
    return model


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(ids).logits)


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def check_rows_against_written(
    base: models.BaseModel, vectors: Sequence[AlignmentVector], rows: Sequence[dict[str, float]] = ROWS
) -> None:
    """Mixed rows are the written models', rows at zero the base's bit for bit, and nothing is left behind."""
    before, weights = logits(base.model), {n: w.clone() for n, w in base.model.state_dict().items()}
    knobbed = KnobbedModel(base, vectors)
    with knobbed.knobs(rows) as model:
        found = logits(model)
    assert hooks(base.model) == 0
    assert torch.equal(logits(base.model), before)
    assert all(torch.equal(w, weights[n]) for n, w in base.model.state_dict().items())
    for i, row in enumerate(rows):
        expected = logits(written(base.model, vectors, row), IDS[i : i + 1])[0]
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=2e-4)
        if any(row.values()):
            assert (expected - before[i]).abs().max() > 0.05
        else:
            assert torch.equal(found[i], before[i])


def rowwise_deltas(kind: str, base: models.BaseModel, seed: int = 0) -> dict[str, Delta]:
    """What of a kind of model can differ by row: not GPT-2's transposed layers, not a scaled embedding."""
    parts = {"gpt2": ("ln_", "wte", "wpe"), "gemma": ("norm", "proj")}.get(kind, ("",))
    return changes(base, seed, parts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hinged", [False, True])
def test_every_row_of_a_mixed_batch_is_the_model_with_its_change_written_into_the_weights(
    write_model: Callable[[str], Path], kind: str, hinged: bool
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
def test_each_kind_of_tensor_alone(write_model: Callable[[str], Path], kind: str, which: str) -> None:
    base = load(write_model(kind))
    deltas = {n: d for n, d in rowwise_deltas(kind, base).items() if any(part in n for part in which.split())}
    if deltas:
        check_rows_against_written(base, [vector_of(base, [deltas])])
    else:
        assert which not in ("norm ln_",)


@pytest.mark.parametrize("kind", KINDS)
def test_replies_with_a_cache_are_those_of_the_row_alone_and_of_the_written_model(
    write_model: Callable[[str], Path], kind: str
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
def test_low_rank_deltas_of_an_embedding_change_input_and_tied_head(
    write_model: Callable[[str], Path], kind: str
) -> None:
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


def test_several_vectors_at_once_one_of_them_hinged(write_model: Callable[[str], Path]) -> None:
    base = load(write_model("qwen2"))
    vectors = [
        vector_of(base, [changes(base, 1)], "tone"),
        vector_of(base, [changes(base, 2, ["norm", "embed"]), changes(base, 3, ["bias", "mlp"])], "law"),
    ]
    rows = [{"tone": 0.5, "law": 1.0}, {"law": -1.0}, {}, {"tone": -0.3, "law": -0.4}, {"tone": 0.0, "law": 0.0}]
    check_rows_against_written(base, vectors, rows)


@pytest.mark.parametrize("kind", ["tied", "qwen2"])
def test_one_vector_in_place_beside_one_by_row(write_model: Callable[[str], Path], kind: str) -> None:
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
    write_model: Callable[[str], Path],
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
    assert torch.equal(knobbed.score(encoded, {}), KnobbedModel(base).score(encoded, {}))


@pytest.mark.parametrize(
    ("kind", "name", "delta"),
    [
        ("tied", "model.layers.0.mlp.up_proj.weight", "dense"),
        ("gpt2", "transformer.h.0.attn.c_attn.weight", "low-rank"),  # a layer whose weight is transposed
        ("gpt2", "transformer.h.0.attn.c_attn.bias", "dense"),
        ("gemma", "model.embed_tokens.weight", "dense"),  # looked up and scaled
        ("gemma", "model.embed_tokens.weight", "low-rank"),
        ("untied", "lm_head.weight", "dense"),
    ],
)
def test_what_is_not_known_to_be_linear_is_rebuilt_in_place(
    write_model: Callable[[str], Path], kind: str, name: str, delta: str
) -> None:
    base = load(write_model(kind))
    shape = base.model.get_parameter(name).shape
    draw = torch.Generator().manual_seed(0)
    low = LowRankDelta(torch.randn(2, shape[-1], generator=draw) * 0.2, torch.randn(shape[0], 2, generator=draw))
    value: Delta = low if delta == "low-rank" else DenseDelta(torch.randn(shape, generator=draw) * 0.2)
    vector = vector_of(base, [{name: value}])
    assert split(base.model, vector) is None
    before = logits(base.model)
    knobbed = KnobbedModel(base, [vector])
    for row in ROWS:
        with knobbed.knobs(row) as model:
            expected = logits(written(base.model, [], {})) if not row else None
            found = logits(model)
        expected = logits(written(base.model, [vector], row)) if expected is None else expected
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)
        assert torch.equal(logits(base.model), before)


class GatedNorm(nn.Module):
    """A norm with a second argument, as state-space models have."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6))

    def forward(self, x: torch.Tensor, gate: torch.Tensor | None = None, *, power: float = 1.0) -> torch.Tensor:
        x = x if gate is None else x * torch.sigmoid(gate) ** power
        return self.weight * x / x.norm(dim=-1, keepdim=True)


class NormHead(nn.Module):
    """A head that normalises its weight: called a norm, and not linear in it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(9, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ nn.functional.normalize(self.weight).T


class ScaledNorm(nn.Module):
    """A norm with a parameter that it is not linear in."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.power = nn.Parameter(torch.ones(6)), nn.Parameter(torch.ones(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x.abs() ** self.power


def bare(deltas: dict[str, Delta]) -> AlignmentVector:
    base = BaseReference(name="tiny", fingerprint="a" * 64, template="b" * 64)
    return AlignmentVector(Card(name="tone", form="single", method="m", base=base), deltas)


def test_a_norm_is_run_again_with_all_its_arguments() -> None:
    from alignvec.steer.rowwise import RowwiseModules

    torch.manual_seed(0)
    model = nn.ModuleDict({"norm": GatedNorm()})
    step = torch.randn(6)
    found = split(model, bare({"norm.weight": DenseDelta(step)}))
    assert found is not None
    rowwise = RowwiseModules(model, [found[0].rowwise])
    x, gate = torch.randn(3, 4, 6), torch.randn(3, 4, 6)
    rowwise.turn(torch.tensor([[0.5], [0.0], [-2.0]]))
    with torch.no_grad():
        turned = model["norm"](x, gate, power=2.0)
        rowwise.close()
        for i, factor in enumerate((0.5, 0.0, -2.0)):
            other = GatedNorm()
            other.weight.copy_(model["norm"].weight + factor * step)
            torch.testing.assert_close(turned[i], other(x, gate, power=2.0)[i])


@pytest.mark.parametrize(
    ("module", "leaf"), [(NormHead(), "weight"), (ScaledNorm(), "power"), (nn.Embedding(9, 6, max_norm=1.0), "weight")]
)
def test_what_is_called_a_norm_but_is_not_linear_is_rebuilt_in_place(module: nn.Module, leaf: str) -> None:
    shape = module.get_parameter(leaf).shape
    assert split(nn.ModuleDict({"x": module}), bare({f"x.{leaf}": DenseDelta(torch.ones(shape))})) is None


def test_a_tensor_that_two_modules_share_is_rebuilt_in_place_and_changes_both(
    write_model: Callable[[str], Path],
) -> None:
    base = load(write_model("untied"))
    first, second = (layer.input_layernorm for layer in base.model.model.layers)
    second.weight = first.weight
    vector = vector_of(base, [{"model.layers.0.input_layernorm.weight": DenseDelta(torch.linspace(-0.5, 0.5, 32))}])
    knobbed = KnobbedModel(base, [vector])
    with knobbed.knobs({"tone": 1.0}) as model:
        found = logits(model)
    torch.testing.assert_close(found, logits(written(base.model, [vector], {"tone": 1.0})), rtol=1e-4, atol=2e-4)


def test_a_batch_of_other_rows_than_settings_is_refused_and_leaves_the_base(write_model: Callable[[str], Path]) -> None:
    for kind, only in (("tied", ["norm"]), ("tied", ["embed"]), ("qwen2", ["bias"])):
        base = load(write_model(kind))
        before = logits(base.model)
        knobbed = KnobbedModel(base, [vector_of(base, [changes(base, 0, only)])])
        for count in (1, 3):
            with pytest.raises(KnobError, match=f"5 knob settings for a batch of {count} rows"), knobbed.knobs(ROWS):
                logits(base.model, IDS[:count])
        assert hooks(base.model) == 0
        assert torch.equal(logits(base.model), before)


def test_a_tensor_that_is_missing_or_of_another_shape_is_refused(tiny: models.BaseModel) -> None:
    for name, shape, part in (
        ("model.layers.7.input_layernorm.weight", (32,), "changes model.layers.7"),
        ("model.norm.bias", (32,), "changes model.norm.bias, which this model does not have"),
        ("model.norm.weight", (31,), r"as \[31\], but here it is \[32\]"),
        ("model.embed_tokens.weight", (258, 31), r"as \[258, 31\], but here it is \[258, 32\]"),
    ):
        with pytest.raises(VectorError, match=part):
            KnobbedModel(tiny, [vector_of(tiny, [{name: DenseDelta(torch.ones(shape))}])])


def test_in_bfloat16_each_row_is_within_rounding_of_the_written_model(write_model: Callable[[str], Path]) -> None:
    exact, base = load(write_model("gemma")), load(write_model("gemma"), "bfloat16")
    vector = vector_of(base, [rowwise_deltas("gemma", base)])
    before = logits(base.model)
    with KnobbedModel(base, [vector]).knobs(ROWS) as model:
        found = logits(model)
    noise = (before.float() - logits(exact.model)).square().mean().sqrt()
    for i, row in enumerate(ROWS):
        if not any(row.values()):
            assert torch.equal(found[i], before[i])
        expected = logits(written(exact.model, [vector], row), IDS[i : i + 1])[0]
        assert (found[i].float() - expected).square().mean().sqrt() < 4 * noise


def test_a_gradient_flows_through_turned_norms(tiny: models.BaseModel, make_vector: MakeVector) -> None:
    deltas = {**make_vector(hinged=False).positive, **changes(tiny, 0, ["norm", "embed"])}
    knobbed = KnobbedModel(tiny, [vector_of(tiny, [deltas])])
    with knobbed.knobs(ROWS) as model:
        with_gradients = model(IDS).logits
        with_gradients.sum().backward()
        torch.testing.assert_close(with_gradients.detach(), logits(model), rtol=1e-5, atol=2e-5)
    assert tiny.model.model.norm.weight.grad.abs().sum() > 0
