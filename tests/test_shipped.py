"""What is shipped: listed, copied, and named where a path of the docs leads nowhere."""

from pathlib import Path

import pytest

from alignvec import shipped
from alignvec.errors import DataError, StorageError
from alignvec.shipped import CONTENTS, ROOT, copy_shipped, hint, shipped_parts


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small root with everything in it."""
    root = tmp_path / "root"
    for name in CONTENTS:
        file = root / name if Path(name).suffix else root / name / "inside" / "file.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (root / "docs" / "results" / "picture.png").write_text("not shipped")
    monkeypatch.setattr(shipped, "ROOT", root)
    return root


def test_a_checkout_has_everything_in_the_repositorys_own_folders() -> None:
    assert Path(__file__).parents[1] == ROOT
    for part in shipped_parts():
        files = [file for file in [ROOT / part.name, *(ROOT / part.name).rglob("*")] if file.is_file()]
        assert (part.files, part.bytes) == (len(files), sum(len(file.read_bytes()) for file in files))
        assert part.files


def test_a_copy_has_what_is_shipped_and_no_more(small: Path, tmp_path: Path) -> None:
    target = tmp_path / "some" / "where"
    target.mkdir(parents=True)
    (target / "mine").write_text("mine")
    copy_shipped(target)
    found = {file.relative_to(target): file.read_text() for file in target.rglob("*") if file.is_file()}
    expected = {file.relative_to(small): file.read_text() for file in small.rglob("*") if file.is_file()}
    del expected[Path("docs/results/picture.png")]
    assert found == {**expected, Path("mine"): "mine"}


def test_nothing_is_written_over_and_nothing_begun(small: Path, tmp_path: Path) -> None:
    (tmp_path / "recipes").write_text("mine")
    with pytest.raises(DataError, match=r"recipes is there already; choose another folder"):
        copy_shipped(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipes", "root"]
    assert (tmp_path / "recipes").read_text() == "mine"


def test_a_copy_that_fails_leaves_nothing(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path) -> None:
        if target.name == "blind_labels.jsonl":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", fail)
    with pytest.raises(StorageError, match="no space left"):
        copy_shipped(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_an_installation_that_lacks_something_says_so(small: Path, tmp_path: Path) -> None:
    (small / "docs/results/blind_labels.jsonl").unlink()
    with pytest.raises(DataError, match=r"blind_labels\.jsonl is missing here; install alignvec again"):
        copy_shipped(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["vectors/medical"], "vectors/medical"),
        (["vectors"], "vectors"),
        (["--router", "routers/demo"], "routers/demo"),
        (["--router=./routers/demo"], "./routers/demo"),
        (["--knob", "@recipes/goals/demo.yaml#medical=expert"], "recipes/goals/demo.yaml"),
    ],
)
def test_an_error_about_something_shipped_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    message = f"nothing at {Path(named)}; check it"
    assert (
        hint(message, arguments)
        == f" ({named} comes with alignvec: alignvec shipped --copy DIR, then this command in DIR)"
    )
    assert hint("another error", arguments) == ""
    monkeypatch.chdir(ROOT)
    assert hint(message, arguments) == ""


def test_a_copy_that_is_stopped_between_folders_can_be_made_again(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def stopped(source: Path, target: Path) -> Path:
        if source.name == "data" and target.parent == tmp_path / "new":
            raise KeyboardInterrupt
        return rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", stopped)
        copy_shipped(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    copy_shipped(tmp_path / "new")


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("no data file at nosuch.jsonl; check --data", ["nosuch.jsonl", "--out", "data"]),
        ("no vectors at nope; check --vectors", ["vectors", "--vectors", "nope"]),
        ("nothing at my/vectors/medical; check it", ["vectors/medical"]),
    ],
    ids=["word", "option", "longer path"],
)
def test_a_word_that_is_spelt_like_a_folder_is_not_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hint(message, arguments) == ""


@pytest.mark.parametrize(
    "arguments", [["vectors/none"], ["elsewhere/medical"], ["--out", "x"], ["../vectors"], [""], []]
)
def test_other_errors_are_told_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hint(" ".join(["nothing at", *arguments]), arguments) == ""
