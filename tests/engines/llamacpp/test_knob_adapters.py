"""The knobs as GGUF adapters, and a setting as scales: at any setting they add up to what the vectors do."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

from alignvec.engines.llamacpp.adapters import export_knobs
from alignvec.engines.llamacpp.manifest import Manifest, load_manifest
from alignvec.engines.llamacpp.request import check_server, request_fields, server_options
from alignvec.errors import ConfigError, KnobError, StorageError, VectorError
from alignvec.merge.export import compose
from alignvec.merge.gguf import read_gguf
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector


@pytest.fixture
def vectors(make_vector: MakeVector) -> list[AlignmentVector]:
    return [make_vector("medical", seed=1), make_vector("legal", hinged=False, rank=3, seed=2)]


@pytest.fixture
def manifest(vectors: list[AlignmentVector], tiny_folder: Path, tmp_path: Path) -> Manifest:
    return export_knobs(vectors, str(tiny_folder), tmp_path / "knobs")


def added(manifest: Manifest, folder: Path, setting: str, base: Path) -> dict[str, torch.Tensor]:
    """Σ scale · adapter of a request's field, as llama-server adds it."""
    total: dict[str, torch.Tensor] = {}
    for entry in request_fields(manifest, setting)["lora"]:
        for name, delta in read_gguf(folder / manifest.adapters[entry["id"]].file, base).items():
            total[name] = total.get(name, torch.zeros(delta.shape)) + entry["scale"] * delta.dense()
    return total


@pytest.mark.parametrize(
    ("setting", "knobs"),
    [
        ("medical=0.7", {"medical": 0.7}),
        ("medical=-0.4,legal=0.5", {"medical": -0.4, "legal": 0.5}),
        ("medical=expert,legal=-2", {"medical": 1.0, "legal": -2.0}),
        ("legal=50%,medical=avoidance", {"legal": 0.5, "medical": -1.0}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_adapters_at_a_requests_scales_add_up_to_the_setting(
    vectors: list[AlignmentVector],
    manifest: Manifest,
    tiny_folder: Path,
    tmp_path: Path,
    setting: str,
    knobs: dict[str, float],
) -> None:
    found = added(manifest, tmp_path / "knobs", setting, tiny_folder)
    expected = compose(vectors, knobs)
    assert found.keys() == expected.keys()
    for name, delta in expected.items():
        torch.testing.assert_close(found[name], delta.dense(), rtol=0, atol=1e-6)


def test_every_adapter_is_named_and_no_prompt_is_reused(manifest: Manifest) -> None:
    assert [(a.knob, a.sign, a.ranks) for a in manifest.adapters] == [
        ("medical", 1, {2: 14}),
        ("medical", -1, {2: 14}),
        ("legal", 0, {3: 14}),
    ]
    off = [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 0.0}, {"id": 2, "scale": 0.0}]
    assert json.dumps(request_fields(manifest, "")) == json.dumps({"lora": off, "cache_prompt": False})
    turned = request_fields(manifest, {"medical": -0.25, "legal": -3.0}, reuse_prompt=True)
    assert turned == {"lora": [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 0.25}, {"id": 2, "scale": -3.0}]}


def test_scales_are_the_gates_of_the_parts(vectors: list[AlignmentVector], manifest: Manifest) -> None:
    parts = [part for vector in vectors for part in vector.parts]
    for value in (-2.0, -0.5, 0.0, 0.5, 2.0):
        assert [a.scale(value) for a in manifest.adapters] == [part.gate(value) for part in parts]


def test_a_coefficient_is_cut_to_the_usable_range(manifest: Manifest) -> None:
    narrow = {"medical": manifest.knobs["medical"].model_copy(update={"usable": (-0.5, 0.8)})}
    cut = manifest.model_copy(update={"knobs": {**manifest.knobs, **narrow}})
    assert request_fields(cut, "medical=expert")["lora"][0]["scale"] == 0.8
    assert request_fields(cut, "medical=-7")["lora"][1]["scale"] == 0.5


@pytest.mark.parametrize(
    ("setting", "part"),
    [("medcal=1", "medcal"), ("medical=loud", "loud"), ("medical=nan", "finite"), ("legal=1,legal=2", "twice")],
    ids=["unknown", "no-level", "nan", "twice"],
)
def test_bad_settings_are_refused(manifest: Manifest, setting: str, part: str) -> None:
    with pytest.raises(KnobError, match=part):
        request_fields(manifest, setting)


def test_the_folder_tells_everything_again(manifest: Manifest, tmp_path: Path) -> None:
    folder = tmp_path / "knobs"
    assert load_manifest(folder) == manifest
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [a.file for a in manifest.adapters] + ["knobs.json"]
    )
    options = server_options(manifest, folder)
    assert options[0] == "--lora-scaled"
    assert options[1] == ",".join(f"{folder}/{a.file}:0" for a in manifest.adapters)


def test_half_precision_and_less_rank_are_told(
    vectors: list[AlignmentVector], tiny_folder: Path, tmp_path: Path
) -> None:
    smaller = export_knobs(vectors, str(tiny_folder), tmp_path / "small", rank=1, dtype=torch.float16)
    assert smaller.dtype == "float16"
    assert all(adapter.ranks == {1: 14} for adapter in smaller.adapters)
    assert 0.1 < smaller.relative_error < 1


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda path: path.unlink(), "cannot read"),
        (lambda path: path.write_text("{"), "knobs.json"),
        (lambda path: path.write_text(path.read_text().replace('"sign": -1', '"sign": 5')), "sign"),
        (lambda path: path.write_text(path.read_text().replace('"dtype"', '"dtyp"')), "dtype"),
    ],
    ids=["missing", "no-json", "bad-sign", "unknown-key"],
)
def test_a_damaged_manifest_is_refused(manifest: Manifest, tmp_path: Path, damage: object, part: str) -> None:
    damage(tmp_path / "knobs/knobs.json")  # type: ignore[operator]
    with pytest.raises(VectorError, match=part):
        load_manifest(tmp_path / "knobs")


def test_what_is_there_is_kept(
    vectors: list[AlignmentVector], manifest: Manifest, tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(VectorError, match="base"):  # fails in the middle of a new export
        export_knobs(
            [vectors[0], replace(vectors[1], card=_of_another_base(vectors[1]))], str(tiny_folder), tmp_path / "knobs"
        )
    assert load_manifest(tmp_path / "knobs") == manifest
    assert not list(tmp_path.glob(".knobs*"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    for place in (tmp_path / "mine", tmp_path / "mine/file", tmp_path / "a,b", tmp_path / "a:b"):
        with pytest.raises(StorageError, match="choose another"):
            export_knobs(vectors, str(tiny_folder), place)
    with pytest.raises(VectorError, match="same name"):
        export_knobs([vectors[0], vectors[0]], str(tiny_folder), tmp_path / "twice")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["knobs", "mine"]


def _of_another_base(vector: AlignmentVector) -> object:
    base = vector.card.base.model_copy(update={"fingerprint": "0" * 64})
    return vector.card.model_copy(update={"base": base})


@pytest.fixture
def answers() -> Iterator[tuple[str, dict[str, object]]]:
    """A server that answers `/lora-adapters` with what the test puts in, and its URL."""
    content: dict[str, object] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/lora-adapters" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(content["answer"]).encode())

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", content
    server.shutdown()
    server.server_close()


def test_a_server_with_other_ids_is_refused(manifest: Manifest, answers: tuple[str, dict[str, object]]) -> None:
    url, content = answers
    loaded = [{"id": i, "path": f"/elsewhere/{a.file}", "scale": 0.0} for i, a in enumerate(manifest.adapters)]
    content["answer"] = loaded
    check_server(manifest, url)
    check_server(manifest, f"{url}/v1")
    swapped = [{**loaded[0], "id": 1}, {**loaded[1], "id": 0}, loaded[2]]
    more = [*loaded, {"id": 3, "path": "other.gguf", "scale": 1.0}]
    for answer, part in (
        (swapped, "adapter 0"),
        (loaded[:2], "2 .* is missing"),
        (more, "here it is none"),
        (1, "ask"),
    ):
        content["answer"] = answer
        with pytest.raises(ConfigError, match=part):
            check_server(manifest, url)
    with pytest.raises(ConfigError, match="cannot ask"):
        check_server(manifest, "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="cannot ask"):
        check_server(manifest, "nonsense")
