"""What cannot differ by row is rebuilt in place or refused; norms of other kinds, half precision and gradients."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from written import IDS, ROWS, WriteModel, changes, hooks, load, logits, rowwise_deltas, vector_of, write_kind, written

from alignvec import models
from alignvec.errors import KnobError, VectorError
from alignvec.steer.model import KnobbedModel
from alignvec.steer.rowwise import split
from alignvec.vectors.card import BaseReference, Card
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector


@pytest.fixture(scope="session")
def write_model(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> WriteModel:
    """Saves a tiny model of a kind."""
    return partial(write_kind, tmp_path_factory.mktemp("kinds"), tiny_folder)


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
    write_model: WriteModel, kind: str, name: str, delta: str
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
            found = logits(model)
        expected = logits(written(base.model, [vector], row))
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


@pytest.mark.parametrize(("module", "leaf"), [(NormHead(), "weight"), (ScaledNorm(), "power")])
def test_what_is_called_a_norm_but_is_not_linear_is_rebuilt_in_place(module: nn.Module, leaf: str) -> None:
    shape = module.get_parameter(leaf).shape
    assert split(nn.ModuleDict({"x": module}), bare({f"x.{leaf}": DenseDelta(torch.ones(shape))})) is None


@pytest.mark.parametrize("kind", ["untied", "tied"])
def test_a_tensor_that_two_modules_share_is_rebuilt_in_place_and_changes_both(
    write_model: WriteModel, kind: str
) -> None:
    base = load(write_model(kind))
    first, second = (layer.input_layernorm for layer in base.model.model.layers)
    second.weight = first.weight
    vector = vector_of(base, [{"model.layers.0.input_layernorm.weight": DenseDelta(torch.linspace(-0.5, 0.5, 32))}])
    assert split(base.model, vector) is None
    knobbed = KnobbedModel(base, [vector])
    with knobbed.knobs({"tone": 1.0}) as model:
        found = logits(model)
    torch.testing.assert_close(found, logits(written(base.model, [vector], {"tone": 1.0})), rtol=1e-4, atol=2e-4)


def test_a_batch_of_other_rows_than_settings_is_refused_and_leaves_the_base(write_model: WriteModel) -> None:
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


def test_in_bfloat16_each_row_is_within_rounding_of_the_written_model(write_model: WriteModel) -> None:
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
