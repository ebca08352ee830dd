"""A vector's folder: replaced whole or not at all, found by the vector's name, and its card written anew."""

import errno
import json
import resource
from pathlib import Path

import pytest
import torch

from alignvec.errors import StorageError, VectorError
from alignvec.vectors import store
from alignvec.vectors.store import find_vectors, load_card, load_vector, save_card, save_vector
from tests.conftest import MakeVector
from tests.vectors.stored import assert_identical


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(errno.ENOSPC, "No space left on device"), StorageError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_save_that_fails_leaves_the_old_vector(
    make_vector: MakeVector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    raised: type[BaseException],
) -> None:
    save_vector(make_vector(seed=0), tmp_path / "v")
    before = snapshot(tmp_path / "v")

    def write_half(tensors: dict[str, torch.Tensor], path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr(store, "save_file", write_half)
    with pytest.raises(raised) as failure:
        save_vector(make_vector(seed=1), tmp_path / "v")
    if raised is StorageError:
        assert str(failure.value) == f"cannot write {tmp_path / 'v'}: no space left on the device; free some space"
    assert snapshot(tmp_path / "v") == before
    assert [p.name for p in tmp_path.iterdir()] == ["v"]


def test_a_write_that_the_system_cuts_short_is_a_storage_error(make_vector: MakeVector, tmp_path: Path) -> None:
    save_vector(make_vector(seed=0), tmp_path / "v")
    before = snapshot(tmp_path / "v")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(StorageError, match=f"cannot write {tmp_path / 'v'}") as failure:
            save_vector(make_vector(seed=1), tmp_path / "v")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(failure.value)
    assert snapshot(tmp_path / "v") == before


def test_a_save_replaces_the_old_vector_whole(make_vector: MakeVector, tmp_path: Path) -> None:
    save_vector(make_vector(hinged=True), tmp_path / "v")
    single = make_vector(hinged=False, seed=5)
    save_vector(single, tmp_path / "v")
    assert not (tmp_path / "v/negative").exists()
    assert_identical(load_vector(tmp_path / "v").positive, single.positive)


def test_vectors_are_found_in_subfolders_or_in_the_folder_itself(make_vector: MakeVector, tmp_path: Path) -> None:
    save_vector(make_vector("medical"), tmp_path / "a")
    save_vector(make_vector("legal"), tmp_path / "b")
    (tmp_path / "notes").mkdir()
    assert find_vectors(tmp_path) == {"medical": tmp_path / "a", "legal": tmp_path / "b"}
    assert find_vectors(tmp_path / "b") == {"legal": tmp_path / "b"}
    assert find_vectors(tmp_path / "notes") == {}


def test_two_folders_with_one_vector_name_are_not_silently_one(make_vector: MakeVector, tmp_path: Path) -> None:
    save_vector(make_vector("medical", seed=0), tmp_path / "a")
    save_vector(make_vector("medical", seed=1), tmp_path / "b")
    with pytest.raises(VectorError, match="both named 'medical'"):
        find_vectors(tmp_path)


def test_a_card_is_read_again_before_it_keeps_what_was_measured(make_vector: MakeVector, tmp_path: Path) -> None:
    before = save_vector(make_vector(), tmp_path / "v").card
    store.save_card(tmp_path / "v", before.model_copy(update={"notes": "saved meanwhile"}))
    assert store.reload_card(tmp_path / "v", before).notes == "saved meanwhile"
    save_vector(make_vector(seed=1), tmp_path / "v")
    with pytest.raises(VectorError, match=f"vector in {tmp_path / 'v'} was replaced while it was measured"):
        store.reload_card(tmp_path / "v", before)


def test_a_card_is_written_for_people_too(make_vector: MakeVector, tmp_path: Path) -> None:
    """One field a line and a newline at the end, so that a change of it is read line by line."""
    card = save_vector(make_vector(), tmp_path / "v").card.model_copy(update={"notes": "λ"})
    saved = (tmp_path / "v/card.json").read_text(encoding="utf-8")
    save_card(tmp_path / "v", card)
    text = (tmp_path / "v/card.json").read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"
    assert saved == json.dumps(json.loads(saved), indent=1, ensure_ascii=False)
    assert load_card(tmp_path / "v").model_dump_json() == card.model_dump_json()
