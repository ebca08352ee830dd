"""Files are the old content or the new, whatever fails in between."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from alignvec.errors import StorageError
from alignvec.files import atomic_folder, storage_errors, write_text


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with its content, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stream that is opened from a handle writes half and then finds no space."""
    fdopen = os.fdopen

    def opened(*args: Any, **kwargs: Any) -> Any:
        stream = fdopen(*args, **kwargs)
        write = stream.write

        def half(text: str) -> int:
            write(text[: len(text) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        stream.write = half
        return stream

    monkeypatch.setattr("alignvec.files.os.fdopen", opened)


def test_text_is_written_with_the_folders_above_it(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "card.json", "naïve λ\n")
    assert (tmp_path / "a" / "b" / "card.json").read_bytes() == "naïve λ\n".encode()
    assert (tmp_path / "a" / "b" / "card.json").stat().st_mode & 0o777 == 0o644


def test_new_text_takes_the_place_of_the_old_alone(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text("old")
    (tmp_path / "other").write_text("other")
    write_text(tmp_path / "card.json", "new")
    assert tree(tmp_path) == {"card.json": "new", "other": "other"}


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_keeps_the_old_text_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text("old")
    with pytest.raises(StorageError, match=r"cannot write .*/card\.json: no space left on the device; free some space"):
        write_text(tmp_path / "card.json", "something new")
    assert tree(tmp_path) == {"card.json": "old"}


def test_text_that_cannot_be_encoded_keeps_the_old_text_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "card.json", "half a \ud83d pair")
    assert tree(tmp_path) == {"card.json": "old"}


def test_a_folder_appears_when_its_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "vector"
    with atomic_folder(target) as staging:
        assert staging.parent == target.parent
        (staging / "card.json").write_text("new")
        assert not target.exists()
    assert tree(tmp_path) == {"deep/vector/card.json": "new"}
    assert target.stat().st_mode & 0o777 == 0o755


def test_a_replaced_folder_keeps_nothing_of_the_old(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "vector") as staging:
        (staging / "old.txt").write_text("old")
    with atomic_folder(tmp_path / "vector") as staging:
        (staging / "new.txt").write_text("new")
        assert tree(tmp_path / "vector") == {"old.txt": "old"}
    assert tree(tmp_path) == {"vector/new.txt": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["vector"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_keeps_the_old_folder_and_leaves_nothing_else(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    (tmp_path / "vector").mkdir()
    (tmp_path / "vector" / "card.json").write_text("old")
    with pytest.raises(failure), atomic_folder(tmp_path / "vector") as staging:
        (staging / "card.json").write_text("half")
        raise failure
    assert tree(tmp_path) == {"vector/card.json": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["vector"]


def test_a_full_disk_in_the_block_is_told_in_one_line(tmp_path: Path) -> None:
    said = r"^cannot write .*/vector: no space left on the device; free some space$"
    with pytest.raises(StorageError, match=said), atomic_folder(tmp_path / "vector"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_that_cannot_be_put_in_place_leaves_the_old_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vector").mkdir()
    (tmp_path / "vector" / "card.json").write_text("old")
    rename = Path.rename

    def fails_for_the_new_one(self: Path, target: Path) -> Path:
        if (self / "new.txt").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(self, target)

    with pytest.raises(StorageError, match="no space left"), atomic_folder(tmp_path / "vector") as staging:
        (staging / "new.txt").write_text("new")
        monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
    assert tree(tmp_path) == {"vector/card.json": "old"}


@pytest.mark.parametrize("place", [".", "", "../here"])
def test_the_current_folder_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with (
        pytest.raises(StorageError, match="it is the current folder; name a new one in it"),
        atomic_folder(Path(place)),
    ):
        pass
    assert list((tmp_path / "here").iterdir()) == [] and len(list(tmp_path.iterdir())) == 1


def test_a_place_that_cannot_be_moved_leaves_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vector").mkdir()
    (tmp_path / "vector" / "card.json").write_text("old")

    def fails(self: Path, target: Path) -> Path:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "rename", fails)
    told = "cannot write .*vector: device or resource busy; choose another place"
    with pytest.raises(StorageError, match=told), atomic_folder(tmp_path / "vector") as staging:
        (staging / "new.txt").write_text("new")
    assert tree(tmp_path) == {"vector/card.json": "old"} and len(list(tmp_path.iterdir())) == 1


def test_a_place_below_a_file_is_told_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="a file is in the way, here or above; choose another place"):
        write_text(tmp_path / "file" / "x" / "card.json", "new")
    with (
        pytest.raises(StorageError, match="a file is in the way, here or above; choose another place"),
        atomic_folder(tmp_path / "file" / "x" / "vector"),
    ):
        pass
    assert tree(tmp_path) == {"file": "mine"}


def test_a_file_in_place_of_the_folder_above_is_told_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match=r"cannot write .*; choose another place"):
        write_text(tmp_path / "file" / "card.json", "new")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "no space left on the device; free some space"),
        (errno.EDQUOT, "the disk quota is used up; free some space"),
        (errno.EROFS, "the file system is read-only; choose another place"),
        (errno.EACCES, "permission denied; choose another place"),
    ],
)
def test_the_cause_of_a_failed_write_is_named_with_the_next_step(number: int, said: str) -> None:
    with pytest.raises(StorageError, match=f"^cannot write out/x: {said}$"), storage_errors(Path("out/x")):
        raise OSError(number, os.strerror(number))


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(KeyError, match="medical"), storage_errors(Path("x")):
        raise KeyError("medical")


def test_a_full_disk_is_told_even_where_safetensors_hides_it(tmp_path: Path) -> None:
    hidden = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(StorageError, match="no space left on the device"), storage_errors(tmp_path):
        raise hidden
    with pytest.raises(SafetensorError, match="header"), storage_errors(tmp_path):
        raise SafetensorError("invalid header")
