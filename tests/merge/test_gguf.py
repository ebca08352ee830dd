"""GGUF adapters: their content by llama.cpp's rules, the RoPE row order by rotating, and the way back."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from alignvec.errors import StorageError, VectorError
from alignvec.merge.export import Composition, composition
from alignvec.merge.gguf import export_gguf, read_gguf
from alignvec.vectors.delta import LowRankDelta
from tests.conftest import MakeVector, write_tiny_model

Q, K = (f"model.layers.1.self_attn.{name}_proj.weight" for name in "qk")
PLACES = {
    Q: "blk.1.attn_q.weight",
    K: "blk.1.attn_k.weight",
    "model.layers.0.self_attn.v_proj.weight": "blk.0.attn_v.weight",
    "model.layers.0.self_attn.o_proj.weight": "blk.0.attn_output.weight",
    "model.layers.1.mlp.gate_proj.weight": "blk.1.ffn_gate.weight",
    "model.layers.0.mlp.up_proj.weight": "blk.0.ffn_up.weight",
    "model.layers.1.mlp.down_proj.weight": "blk.1.ffn_down.weight",
}
HEADS, KV_HEADS, WIDTH = 4, 2, 8


@pytest.fixture
def composed(make_vector: MakeVector, tiny_folder: Path) -> Composition:
    """Tensors of rank 2 and, in the mlp, of rank 5."""
    legal = make_vector("legal", rank=3, seed=2)
    mlp = {name: delta for name, delta in legal.positive.items() if "mlp" in name}
    vectors = [make_vector("medical", seed=1), replace(legal, positive=mlp)]
    return composition(vectors, {"medical": -0.5, "legal": 0.3}, str(tiny_folder))


def added_by_llama(path: Path) -> dict[str, np.ndarray]:
    """What llama.cpp adds to each weight at scale 1: alpha / rank · b @ a, rank being the rows of a."""
    reader = gguf.GGUFReader(path)
    alpha = float(reader.get_field("adapter.lora.alpha").contents())  # type: ignore[union-attr]
    tensors = {tensor.name: tensor.data.astype(np.float64) for tensor in reader.tensors}
    names = {name.rpartition(".")[0] for name in tensors}
    assert len(tensors) == 2 * len(names)
    return {n: alpha / len(tensors[n + ".lora_a"]) * tensors[n + ".lora_b"] @ tensors[n + ".lora_a"] for n in names}


def scores(q: np.ndarray, k: np.ndarray, *, neighbours: bool) -> np.ndarray:
    """q·k of one head, [query position, key position], after RoPE on pairs (2i, 2i + 1), or (i, i + half)."""
    half = q.shape[1] // 2

    def rotated(x: np.ndarray) -> np.ndarray:
        pairs = x[:, 0::2] + 1j * x[:, 1::2] if neighbours else x[:, :half] + 1j * x[:, half:]
        angles = np.arange(len(x))[:, None] * 10000.0 ** (-np.arange(half) / half)
        turned: np.ndarray = pairs * np.exp(1j * angles)
        return turned

    products: np.ndarray = (rotated(q) @ rotated(k).conj().T).real
    return products


def test_attention_scores_are_the_same_in_both_rope_layouts(composed: Composition, tmp_path: Path) -> None:
    export_gguf(composed, tmp_path / "out.gguf")
    there = added_by_llama(tmp_path / "out.gguf")
    x = np.random.default_rng(0).normal(size=(6, 32))
    ours = {n: x @ composed.deltas[n].dense().double().numpy().T for n in (Q, K)}
    theirs = {n: x @ there[PLACES[n]].T for n in (Q, K)}
    for head in range(HEADS):
        shared = head // (HEADS // KV_HEADS)
        rows = slice(head * WIDTH, (head + 1) * WIDTH), slice(shared * WIDTH, (shared + 1) * WIDTH)
        q, k = ours[Q][:, rows[0]], ours[K][:, rows[1]]
        other_q, other_k = theirs[Q][:, rows[0]], theirs[K][:, rows[1]]
        expected = scores(q, k, neighbours=False)
        np.testing.assert_allclose(scores(other_q, other_k, neighbours=True), expected, rtol=0, atol=1e-6)
        assert np.abs(scores(q, k, neighbours=True) - expected).max() > 1e-3  # not reordered: another model


def test_rows_of_q_and_k_go_back_by_transformers_own_rule(composed: Composition, tmp_path: Path) -> None:
    from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

    export_gguf(composed, tmp_path / "out.gguf")
    there, back = added_by_llama(tmp_path / "out.gguf"), LlamaTensorProcessor()
    for name, heads in ((Q, HEADS), (K, KV_HEADS)):
        restored = back._reverse_permute_weights(there[PLACES[name]], HEADS, heads)
        np.testing.assert_allclose(restored, composed.deltas[name].dense().numpy(), rtol=0, atol=1e-7)


def test_the_file_says_what_llama_cpp_asks_for(composed: Composition, tmp_path: Path) -> None:
    assert composed.report.ranks == {2: 8, 5: 6}
    export_gguf(composed, tmp_path / "out.gguf")
    fields = gguf.GGUFReader(tmp_path / "out.gguf").fields
    wanted = {
        "general.type": "adapter",
        "general.architecture": "llama",
        "adapter.type": "lora",
        "adapter.lora.alpha": 5.0,
    }
    assert {key: fields[key].contents() for key in wanted} == wanted
    assert json.loads(fields["alignvec.json"].contents()) == composed.report.model_dump(mode="json")


def test_every_tensor_is_added_at_scale_one_whatever_its_rank(composed: Composition, tmp_path: Path) -> None:
    export_gguf(composed, tmp_path / "out.gguf")
    there = added_by_llama(tmp_path / "out.gguf")
    assert len(there) == 14
    for name, place in PLACES.items():
        if name not in (Q, K):
            expected = composed.deltas[name].dense().numpy()
            np.testing.assert_allclose(there[place], expected, rtol=0, atol=1e-7)


def test_only_b_is_reordered(composed: Composition, tmp_path: Path) -> None:
    export_gguf(composed, tmp_path / "out.gguf")
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    for name in (Q, K):
        a, b = composed.deltas[name].a.numpy(), composed.deltas[name].b.numpy()
        a, b = np.vstack([a, np.zeros((3, 32))]), np.hstack([b, np.zeros((len(b), 3))])  # up to the largest rank, 5
        assert np.array_equal(tensors[PLACES[name] + ".lora_a"], a)
        order = [head + i for head in range(0, len(b), WIDTH) for i in (0, 4, 1, 5, 2, 6, 3, 7)]
        assert np.array_equal(tensors[PLACES[name] + ".lora_b"], b[order])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-7), (torch.float16, 1e-3)])
def test_a_round_trip(make_vector: MakeVector, tiny_folder: Path, tmp_path: Path, dtype: Any, tolerance: float) -> None:
    vectors = [make_vector("medical", rank=3, seed=1)]
    composed = composition(vectors, {"medical": -0.8}, str(tiny_folder), dtype=dtype)
    export_gguf(composed, tmp_path / "out.gguf")
    found = read_gguf(tmp_path / "out.gguf", tiny_folder)
    assert set(found) == set(composed.deltas)
    for name, delta in found.items():
        assert delta.a.dtype == delta.b.dtype == torch.float32
        assert torch.equal(delta.a, composed.deltas[name].a.float())  # nothing is lost beyond the dtype
        assert torch.equal(delta.b, composed.deltas[name].b.float())
        assert vectors[0].negative is not None
        torch.testing.assert_close(delta.dense(), 0.8 * vectors[0].negative[name].dense(), rtol=0, atol=tolerance)


def test_a_round_trip_of_unequal_ranks(composed: Composition, tiny_folder: Path, tmp_path: Path) -> None:
    export_gguf(composed, tmp_path / "out.gguf")
    for name, delta in read_gguf(tmp_path / "out.gguf", tiny_folder).items():
        torch.testing.assert_close(delta.dense(), composed.deltas[name].dense(), rtol=0, atol=1e-7)


def unequal(make_vector: MakeVector, base: Path, size: float) -> tuple[Composition, dict[str, np.ndarray]]:
    """A float16 composition of rank 3, and 16 in the mlp; and its exact sum in float64."""
    medical, legal = (make_vector(name, hinged=False, rank=rank) for name, rank in (("medical", 3), ("legal", 13)))
    legal = replace(legal, positive={name: delta for name, delta in legal.positive.items() if "mlp" in name})
    exact = {name: np.zeros(tuple(delta.shape)) for name, delta in medical.positive.items()}
    for vector in (medical, legal):
        for name, delta in vector.positive.items():
            assert isinstance(delta, LowRankDelta)
            exact[name] += size * (delta.b.double().numpy() @ delta.a.double().numpy())
    knobs = {"medical": size, "legal": size}
    return composition([medical, legal], knobs, str(base), dtype=torch.float16), exact


@pytest.mark.parametrize("size", [0.3, 1e5])
def test_the_reported_error_is_that_of_the_file_whatever_the_ranks(
    make_vector: MakeVector, tiny_folder: Path, tmp_path: Path, size: float
) -> None:
    composed, exact = unequal(make_vector, tiny_folder, size)
    assert composed.report.ranks == {3: 8, 16: 6}
    export_gguf(composed, tmp_path / "out.gguf")
    alpha, error = 16.0, 0.0
    found = read_gguf(tmp_path / "out.gguf", tiny_folder)
    for name, delta in found.items():  # at 1e5 b is beyond half of float16's range: a ratio of ranks would overflow it
        error += float(((delta.b.double().numpy() @ delta.a.double().numpy() - exact[name]) ** 2).sum())
    whole = sum(float((value**2).sum()) for value in exact.values())
    assert composed.report.relative_error == pytest.approx((error / whole) ** 0.5, rel=1e-4)
    assert 1e-5 < composed.report.relative_error < 1e-3
    assert gguf.GGUFReader(tmp_path / "out.gguf").fields["adapter.lora.alpha"].contents() == alpha


def write_gguf(path: Path, tensors: dict[str, np.ndarray], *, alpha: float = 0.0, **texts: str) -> Path:
    values = {"architecture": "llama", "general.type": "adapter", "adapter.type": "lora", **texts}
    writer = gguf.GGUFWriter(path, values.pop("architecture"))
    for key, value in values.items():
        writer.add_string(key, value)
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def factors(place: str = "blk.0.ffn_up.weight", *, shape: tuple[int, int] = (64, 32)) -> dict[str, np.ndarray]:
    a = np.arange(3 * shape[1], dtype=np.float32).reshape(3, -1)
    return {f"{place}.lora_a": a, f"{place}.lora_b": np.ones((shape[0], 3), dtype=np.float32)}


@pytest.mark.parametrize(("alpha", "scale"), [(6.0, 2.0), (3.0, 1.0), (0.0, 1.0)])  # 0: llama.cpp does not scale
def test_alpha_is_read_as_llama_cpp_reads_it(tiny_folder: Path, tmp_path: Path, alpha: float, scale: float) -> None:
    path = write_gguf(tmp_path / "a.gguf", factors(), alpha=alpha)
    expected = scale * torch.arange(96.0).view(3, 32).sum(dim=0).expand(64, 32)
    found = read_gguf(path, tiny_folder)
    assert list(found) == ["model.layers.0.mlp.up_proj.weight"]
    torch.testing.assert_close(next(iter(found.values())).dense(), expected)


def poisoned() -> dict[str, np.ndarray]:
    tensors = factors()
    tensors["blk.0.ffn_up.weight.lora_b"][5, 1] = np.nan
    return tensors


@pytest.mark.parametrize(
    ("tensors", "texts", "message"),
    [
        (factors(), {"adapter.type": "control_vector"}, "no LoRA adapter"),
        (factors(), {"architecture": "qwen2"}, "is for qwen2, but .* is llama"),
        (factors("blk.7.ffn_up.weight"), {}, "blk.7.ffn_up.weight is not in"),
        ({"blk.0.ffn_up.weight.lora_a": np.ones((3, 32), dtype=np.float32)}, {}, "lacks .lora_b"),
        (
            {**factors(), "blk.0.ffn_up.bias": np.ones(64, dtype=np.float32)},
            {},
            r"no LoRA factors: \['blk.0.ffn_up.bias",
        ),
        (factors("blk.0.attn_q.weight", shape=(9, 32)), {}, r"q_proj.weight as \[9, 32\], but here it is \[32, 32\]"),
        (poisoned(), {}, "lora_b has values that are not finite"),
        ({}, {}, "holds tensors that are no LoRA factors"),
    ],
    ids=["type", "architecture", "layer", "half", "bias", "shape", "nan", "empty"],
)
def test_a_file_that_is_no_adapter_of_the_base_is_refused(
    tiny_folder: Path, tmp_path: Path, tensors: dict[str, np.ndarray], texts: dict[str, str], message: str
) -> None:
    path = write_gguf(tmp_path / "a.gguf", tensors, **texts)
    with pytest.raises(VectorError, match=message):
        read_gguf(path, tiny_folder)


def test_missing_and_damaged_files_are_named(composed: Composition, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VectorError, match="no GGUF file at"):
        read_gguf(tmp_path / "none.gguf", tiny_folder)
    export_gguf(composed, tmp_path / "out.gguf")
    raw = (tmp_path / "out.gguf").read_bytes()
    for size in (0, 3, 10, 100, 2000, len(raw) - 50):
        (tmp_path / "cut.gguf").write_bytes(raw[:size])
        with pytest.raises(VectorError, match=r"cut.gguf: .*truncated or damaged"):
            read_gguf(tmp_path / "cut.gguf", tiny_folder)


def changed_config(folder: Path, target: Path, **values: Any) -> Path:
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **values}))
    return target


@pytest.mark.parametrize("kind", ["falcon", "gpt_neox", "nonesuch", None])
def test_architectures_of_unknown_layout_are_refused(
    composed: Composition, tiny_folder: Path, tmp_path: Path, kind: str | None
) -> None:
    base = changed_config(tiny_folder, tmp_path / "base", model_type=kind)
    with pytest.raises(VectorError, match=f"'{kind}' models in GGUF is not known.*llama.*--format peft"):
        export_gguf(replace(composed, base=base), tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_architectures_that_rotate_halves_keep_their_rows(
    composed: Composition, tiny_folder: Path, tmp_path: Path
) -> None:
    base = changed_config(tiny_folder, tmp_path / "base", model_type="qwen2")
    export_gguf(replace(composed, base=base), tmp_path / "out.gguf")
    reader = gguf.GGUFReader(tmp_path / "out.gguf")
    assert reader.fields["general.architecture"].contents() == "qwen2"
    expected = composed.deltas[Q].dense().numpy()
    np.testing.assert_allclose(added_by_llama(tmp_path / "out.gguf")[PLACES[Q]], expected, rtol=0, atol=1e-7)
    found = read_gguf(tmp_path / "out.gguf", base)[Q]
    torch.testing.assert_close(found.dense(), composed.deltas[Q].dense())


def test_a_tensor_without_a_place_is_refused(composed: Composition, tmp_path: Path) -> None:
    extra = {**composed.deltas, "model.adapter.weight": LowRankDelta(torch.ones(1, 4), torch.ones(4, 1))}
    with pytest.raises(VectorError, match=r"no place for model\.adapter\.weight in llama"):
        export_gguf(replace(composed, deltas=extra), tmp_path / "out.gguf")


def test_only_an_adapter_is_replaced(composed: Composition, tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    write_gguf(tmp_path / "model.gguf", factors(), **{"general.type": "model"})
    for name in ("file", "folder", "model.gguf"):
        with pytest.raises(StorageError, match=f"{name}: something else .* --out"):
            export_gguf(composed, tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    write_gguf(tmp_path / "old.gguf", factors())
    export_gguf(composed, tmp_path / "old.gguf")
    assert len(read_gguf(tmp_path / "old.gguf", tiny_folder)) == 14
    with pytest.raises(StorageError, match="a file is in the way, here or above|a file is in the way"):
        export_gguf(composed, tmp_path / "file/out.gguf")


def test_a_failed_write_leaves_the_earlier_file(
    composed: Composition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_gguf(composed, tmp_path / "out.gguf")
    before = (tmp_path / "out.gguf").read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(StorageError, match="no space left"):
        export_gguf(composed, tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out.gguf"]


def test_an_adapter_of_another_size_is_refused(composed: Composition, tmp_path: Path) -> None:
    export_gguf(composed, tmp_path / "out.gguf")
    other = write_tiny_model(tmp_path / "other", hidden=64)
    with pytest.raises(VectorError, match=r"out.gguf' changes .* as \[\d+, \d+\], but here it is"):
        read_gguf(tmp_path / "out.gguf", other)
