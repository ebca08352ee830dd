"""Adapters with more than linear factors, against PEFT's own merge and logits."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignvec import models
from alignvec.errors import VectorError
from alignvec.models import BaseModel
from alignvec.vectors.adapter import read_adapter
from alignvec.vectors.checkpoint import open_checkpoint
from alignvec.vectors.delta import DenseDelta, LowRankDelta
from tests.conftest import write_tiny_model

EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
IDS = torch.arange(40).view(2, 20)
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def untied_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with an output head of its own; do not change it."""
    folder = write_tiny_model(tmp_path_factory.mktemp("untied") / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors[HEAD] = 0.2 * torch.randn(258, 32, generator=torch.Generator().manual_seed(1))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    return folder


@pytest.fixture
def untied(untied_folder: Path) -> BaseModel:
    return models.load(str(untied_folder), device="cpu")


def write_adapter(base: BaseModel, folder: Path, **config: Any) -> Any:
    """Save a LoRA adapter all of whose trained weights moved; returns the PEFT model."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    options: dict[str, Any] = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    adapted = get_peft_model(deepcopy(base.model), LoraConfig(**{**options, **config}))
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape))
    adapted.save_pretrained(folder)
    return adapted


def merged_difference(base: BaseModel, adapted: Any) -> Tensors:
    """What PEFT's merge adds to the base, in float64, where it adds anything."""
    before = dict(base.model.named_parameters())
    merged = dict(adapted.merge_and_unload().named_parameters())
    found = {name: (weight.double() - before[name].double()).detach() for name, weight in merged.items()}
    return {name: value for name, value in found.items() if value.any()}


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": ["embed_tokens", "lm_head", "up_proj"], "use_rslora": True},
        {
            "target_modules": ["embed_tokens", "q_proj"],
            "rank_pattern": {"embed_tokens": 7},
            "alpha_pattern": {"embed_tokens": 3},
        },
        {"modules_to_save": ["model.norm", "lm_head", "embed_tokens"]},
        {"target_modules": ["embed_tokens", "q_proj"], "modules_to_save": ["lm_head", "input_layernorm"]},
    ],
    ids=["embedding", "head-rslora", "patterns", "saved", "both"],
)
def test_what_peft_merges_is_what_is_read(
    untied: BaseModel, untied_folder: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    expected = merged_difference(untied, write_adapter(untied, tmp_path / "adapter", **config))
    found = read_adapter(tmp_path / "adapter", base=open_checkpoint(untied_folder))
    assert set(found) == set(expected)
    for name, delta in found.items():
        torch.testing.assert_close(delta.dense().double(), expected[name], rtol=0, atol=1e-6)
        saved = name.removesuffix(".weight").endswith(tuple(config.get("modules_to_save", ())))
        assert isinstance(delta, DenseDelta if saved else LowRankDelta)


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True},
        {"modules_to_save": ["embed_tokens", "model.norm"], "ensure_weight_tying": True},
    ],
    ids=["factors", "saved"],
)
def test_on_a_tied_base_one_delta_stands_for_both_ends(
    tiny: BaseModel, tiny_folder: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    adapted = write_adapter(tiny, tmp_path / "adapter", **config)
    found = read_adapter(tmp_path / "adapter", base=open_checkpoint(tiny_folder))
    assert EMBEDDING in found and HEAD not in found
    with torch.no_grad():
        expected = adapted(IDS).logits
        for name, weight in tiny.model.named_parameters():
            if name in found:
                weight += found[name].dense()
        torch.testing.assert_close(tiny.model(IDS).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "end"),
    [
        ({"target_modules": ["embed_tokens", "q_proj"]}, EMBEDDING),
        ({"target_modules": ["lm_head", "q_proj"]}, HEAD),
        ({"target_modules": ["embed_tokens", "lm_head"]}, f"{EMBEDDING}|{HEAD}"),  # both, but not the same
        ({"modules_to_save": ["embed_tokens"]}, EMBEDDING),
        ({"modules_to_save": ["lm_head"]}, HEAD),
    ],
    ids=["embedding", "head", "unlike", "saved-embedding", "saved-head"],
)
def test_one_end_of_a_tied_embedding_is_refused(
    tiny: BaseModel, tiny_folder: Path, tmp_path: Path, config: dict[str, Any], end: str
) -> None:
    write_adapter(tiny, tmp_path / "adapter", **config)
    with pytest.raises(VectorError, match=f"changes ({end}), but .* ties its output head"):
        read_adapter(tmp_path / "adapter", base=open_checkpoint(tiny_folder))


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"target_modules": ["embed_tokens", "q_proj"]}, "lora_embedding_A"),
        ({"modules_to_save": ["model.norm"]}, "model.norm.weight"),
    ],
)
def test_without_the_base_only_linear_layers_are_read(
    untied: BaseModel, tmp_path: Path, config: dict[str, Any], named: str
) -> None:
    write_adapter(untied, tmp_path / "adapter", **config)
    with pytest.raises(VectorError, match=f"no LoRA factors of linear layers.*{named}.*alignvec extract"):
        read_adapter(tmp_path / "adapter")


def test_a_saved_module_that_did_not_change_is_left_out(untied: BaseModel, untied_folder: Path, tmp_path: Path) -> None:
    write_adapter(untied, tmp_path / "adapter", modules_to_save=["model.norm", "lm_head"])
    change(tmp_path / "adapter", **{"base_model.model.model.norm.weight": untied.model.model.norm.weight.detach()})
    assert {NORM, HEAD} & set(read_adapter(tmp_path / "adapter", base=open_checkpoint(untied_folder))) == {HEAD}


def change(adapter: Path, **tensors: torch.Tensor) -> None:
    """Replace or add tensors of an adapter."""
    path = adapter / "adapter_model.safetensors"
    save_file({**load_file(path), **tensors}, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (f"base_model.model.{HEAD}", torch.ones(300, 32), r"as \[300, 32\], but in .* \[258, 32\]; the vocabulary was"),
        (
            "base_model.model.model.embed_tokens.base_layer.weight",
            torch.ones(258, 32),
            "trained on another model.embed",
        ),
        ("base_model.model.model.extra.weight", torch.ones(2), r"no LoRA factors: \['base_model.model.model.extra"),
        (f"base_model.model.{HEAD}", torch.full((258, 32), torch.nan), "lm_head.weight has values that are not finite"),
    ],
    ids=["resized", "another-base", "unknown", "nan"],
)
def test_tensors_that_do_not_fit_the_base_are_named(
    untied: BaseModel, untied_folder: Path, tmp_path: Path, key: str, value: torch.Tensor, message: str
) -> None:
    write_adapter(untied, tmp_path / "adapter", target_modules=["embed_tokens"], modules_to_save=["lm_head"])
    change(tmp_path / "adapter", **{key: value})
    with pytest.raises(VectorError, match=message):
        read_adapter(tmp_path / "adapter", base=open_checkpoint(untied_folder))


def test_weights_saved_without_being_asked_for_are_refused(
    untied: BaseModel, untied_folder: Path, tmp_path: Path
) -> None:
    write_adapter(untied, tmp_path / "adapter")
    change(tmp_path / "adapter", **{"base_model.model.model.norm.weight": torch.ones(32)})
    with pytest.raises(VectorError, match="no LoRA factors: .*norm.weight"):
        read_adapter(tmp_path / "adapter", base=open_checkpoint(untied_folder))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"bias": "all"}, "bias='all'"),
        ({"lora_bias": True}, "no LoRA factors.*lora_B.bias"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"trainable_token_indices": [3, 4]}, "trainable_token_indices"),
    ],
)
def test_what_no_delta_can_hold_stays_refused_beside_the_base(
    untied: BaseModel, untied_folder: Path, tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    write_adapter(untied, tmp_path / "adapter", **config)
    with pytest.raises(VectorError, match=message):
        read_adapter(tmp_path / "adapter", base=open_checkpoint(untied_folder))


def rank_three(shape: tuple[int, int], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(shape[0], 3, generator=generator) @ torch.randn(3, shape[1], generator=generator)


@pytest.mark.parametrize("tied", [True, False])
def test_the_layout_that_mergekit_extracts_is_read(
    tiny_folder: Path, untied_folder: Path, tmp_path: Path, tied: bool
) -> None:
    """Factors for embedding and head even where they are tied, and every norm saved whole."""
    folder = tiny_folder if tied else untied_folder
    change_of = {EMBEDDING: rank_three((258, 32), 1), HEAD: rank_three((258, 32), 1 if tied else 2)}
    tensors = {}
    for name, value in change_of.items():
        u, s, v = torch.linalg.svd(value.double(), full_matrices=False)
        a, b = (s[:3, None] * v[:3]).float().contiguous(), u[:, :3].float().contiguous()
        module = f"base_model.model.{name.removesuffix('.weight')}"
        if name == EMBEDDING:
            tensors |= {f"{module}.lora_embedding_A": b.T.contiguous(), f"{module}.lora_embedding_B": a.T.contiguous()}
        else:
            tensors |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    before = load_file(folder / "model.safetensors")
    tensors |= {f"base_model.model.{name}": t + (name == NORM) for name, t in before.items() if "norm" in name}
    config = {
        "peft_type": "LORA",
        "use_rslora": False,
        "target_modules": ["lm_head", "embed_tokens"],
        "modules_to_save": ["input_layernorm", "post_attention_layernorm", "norm"],
        "r": 3,
        "lora_alpha": 3,
        "fan_in_fan_out": False,
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    expected = {**change_of, NORM: torch.ones(32)}
    if tied:
        del expected[HEAD]
    found = read_adapter(tmp_path, base=open_checkpoint(folder))
    assert set(found) == set(expected)
    for name, delta in found.items():
        torch.testing.assert_close(delta.dense(), expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lora_alpha": None}, "adapter_config.json gives .*q_proj no usable alpha"),
        ({"lora_alpha": "a"}, "no usable alpha: .*'a'"),
        ({"lora_alpha": []}, "no usable alpha"),
        ({"lora_alpha": 10**400}, "no usable alpha"),
        ({"alpha_pattern": {"[": 3}}, "no usable alpha"),
        ({"alpha_pattern": {"q_proj": None}}, "no usable alpha"),
        ({"lora_alpha": float("nan")}, r"not finite in torch.float32 at scale nan \(alpha / rank\)"),
        ({"lora_alpha": float("inf")}, "not finite in torch.float32 at scale inf"),
    ],
)
def test_settings_that_give_no_scale_are_refused_in_one_line(
    untied: BaseModel, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    write_adapter(untied, tmp_path / "adapter")
    path = tmp_path / "adapter/adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(VectorError, match=message) as caught:
        read_adapter(tmp_path / "adapter")
    assert "\n" not in str(caught.value)


def test_factors_that_only_their_scale_makes_infinite_are_refused(untied: BaseModel, tmp_path: Path) -> None:
    write_adapter(untied, tmp_path / "adapter", lora_alpha=4_000_000)  # scale 1e6
    assert read_adapter(tmp_path / "adapter")
    with pytest.raises(VectorError, match=r"not finite in torch.float16 at scale 1e\+06"):
        read_adapter(tmp_path / "adapter", torch.float16)


@pytest.mark.parametrize("shape", [(0, 32), ()])
def test_factors_of_rank_zero_are_refused(untied: BaseModel, tmp_path: Path, shape: tuple[int, ...]) -> None:
    write_adapter(untied, tmp_path / "adapter")
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    b = torch.zeros(32, 0)
    change(tmp_path / "adapter", **{f"{module}.lora_A.weight": torch.zeros(shape), f"{module}.lora_B.weight": b})
    with pytest.raises(VectorError, match=f"{module}.lora_A.weight has rank 0"):
        read_adapter(tmp_path / "adapter")


@pytest.mark.parametrize("scale", [0.0, 1.0, 1 + 1e-4])
def test_ends_of_a_tied_embedding_are_one_delta_only_if_both_add_the_same(
    tiny: BaseModel, tiny_folder: Path, tmp_path: Path, scale: float
) -> None:
    """Factors that were not trained yet add nothing to either end, which is the same."""
    write_adapter(tiny, tmp_path / "adapter", target_modules=["embed_tokens", "q_proj"], ensure_weight_tying=True)
    tensors = load_file(tmp_path / "adapter/adapter_model.safetensors")
    head = next(name for name in tensors if "lm_head" in name and "B" in name.rpartition("lora_")[2])
    ends = [
        name for name in tensors if name.endswith((".lora_embedding_A", ".lora_embedding_B", "lm_head.lora_B.weight"))
    ]
    assert head in tensors and ends
    change(
        tmp_path / "adapter",
        **({name: 0 * tensors[name] for name in ends} if not scale else {head: tensors[head] * scale}),
    )
    if scale > 1:
        with pytest.raises(VectorError, match="ties its output head"):
            read_adapter(tmp_path / "adapter", base=open_checkpoint(tiny_folder))
    else:
        assert bool(
            read_adapter(tmp_path / "adapter", base=open_checkpoint(tiny_folder))[EMBEDDING].dense().any()
        ) == bool(scale)


def test_a_tied_embedding_of_an_unknown_name_is_refused_as_one_end(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    save_file(
        {"x.tok_embeddings.weight": torch.ones(6, 4), "x.up.weight": torch.ones(4, 4)},
        tmp_path / "base/model.safetensors",
    )
    (tmp_path / "base/config.json").write_text('{"tie_word_embeddings": true}')
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 1}')
    factors = {"x.up.lora_A.weight": torch.ones(1, 4), "x.up.lora_B.weight": torch.ones(4, 1)}
    base = open_checkpoint(tmp_path / "base")
    save_file(factors, tmp_path / "adapter_model.safetensors")
    assert list(read_adapter(tmp_path, base=base)) == ["x.up.weight"]
    ends = {
        "x.tok_embeddings.lora_embedding_A": torch.ones(1, 6),
        "x.tok_embeddings.lora_embedding_B": torch.ones(4, 1),
    }
    save_file(factors | ends, tmp_path / "adapter_model.safetensors")
    with pytest.raises(VectorError, match=r"changes x.tok_embeddings.weight, but .* ties its output head"):
        read_adapter(tmp_path, base=base)


@pytest.mark.parametrize("change", [0.0, 0.01])
def test_the_bases_own_copy_beside_the_factors_may_be_rounded_but_not_changed(tmp_path: Path, change: float) -> None:
    (tmp_path / "base").mkdir()
    weight = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    save_file({EMBEDDING: weight}, tmp_path / "base/model.safetensors")
    (tmp_path / "base/config.json").write_text('{"tie_word_embeddings": false}')
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 1}')
    module = "base_model.model.model.embed_tokens"
    tensors = {f"{module}.lora_embedding_A": torch.ones(1, 6), f"{module}.lora_embedding_B": torch.ones(4, 1)}
    tensors[f"{module}.base_layer.weight"] = (weight + change).bfloat16()
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    if change:
        with pytest.raises(VectorError, match=f"trained on another {EMBEDDING}"):
            read_adapter(tmp_path, base=open_checkpoint(tmp_path / "base"))
    else:
        assert torch.equal(
            read_adapter(tmp_path, base=open_checkpoint(tmp_path / "base"))[EMBEDDING].dense(), torch.ones(6, 4)
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_saved_whole_are_read_in_the_dtype_that_is_asked_for(
    untied: BaseModel, untied_folder: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    write_adapter(untied, tmp_path / "adapter", modules_to_save=["model.norm"])
    found = read_adapter(tmp_path / "adapter", dtype, open_checkpoint(untied_folder))
    norm, factors = found[NORM], found["model.layers.0.self_attn.q_proj.weight"]
    assert isinstance(norm, DenseDelta) and isinstance(factors, LowRankDelta)
    assert norm.value.dtype == factors.a.dtype == factors.b.dtype == dtype
