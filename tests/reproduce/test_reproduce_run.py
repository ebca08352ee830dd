"""Every stage on random weights, once; then resumed, killed, taken over, and refused."""

import json
import re
import shutil
from pathlib import Path

import pytest

from alignvec.errors import ConfigError, DataError
from alignvec.reproduce import run as running
from alignvec.reproduce.place import Place
from alignvec.reproduce.run import planned, reproduce
from alignvec.reproduce.scale import Scale, load_scale
from alignvec.reproduce.stages import STAGES


@pytest.fixture(scope="module")
def scale() -> Scale:
    return load_scale("tiny")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, scale: Scale) -> Path:
    """A finished reproduction; do not change it."""
    out = tmp_path_factory.mktemp("reproduce")
    done = reproduce(scale, out, shipped=None)
    assert list(done) == list(STAGES)
    return out


@pytest.fixture
def copied(report: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(report, tmp_path / "copied"))


def test_the_report_holds_its_figures_and_links_to_every_result(report: Path) -> None:
    text = (report / "report.html").read_text()
    linked = set(re.findall(r'href="(data/[^"]+)"', text))
    assert {f"data/{name}.json" for name in STAGES} >= linked
    assert all((report / path).is_file() for path in linked)
    assert "Not measured yet" not in text and "no figure below means anything" in text
    pictures = re.findall(r'<img [^>]*src="([^"]*)"', text)
    assert pictures and all(source.startswith("data:image/png;base64,") for source in pictures)
    told = re.sub(r"base64,[^\"]*", "", text)  # a picture's letters may say anything
    assert "http" not in told.replace("https://arxiv.org/abs/2410.19206", "")  # self-contained


def test_the_same_seed_gives_the_same_tables(copied: Path, scale: Scale) -> None:
    before = {name: json.loads((copied / f"data/{name}.json").read_text())["found"] for name in STAGES}
    reproduce(scale, copied, again=["forms"], shipped=None)
    after = {name: json.loads((copied / f"data/{name}.json").read_text())["found"] for name in STAGES}
    for name in ("forms", "curves"):
        assert _plain(before[name]) == _plain(after[name])


def test_what_is_done_is_not_done_again(copied: Path, scale: Scale) -> None:
    times = {path: path.stat().st_mtime_ns for path in (copied / "data").rglob("*.json")}
    told: list[str] = []
    reproduce(scale, copied, shipped=None, tell=told.append)
    assert told == [f"{name}: done before" for name in STAGES]
    assert times == {path: path.stat().st_mtime_ns for path in (copied / "data").rglob("*.json")}


def test_another_machine_begins_with_what_is_shipped(report: Path, scale: Scale, tmp_path: Path) -> None:
    told: list[str] = []
    reproduce(scale, tmp_path / "other", shipped=report / "data", tell=told.append)
    assert told == [f"{name}: done before" for name in STAGES]


def test_a_plan_tells_what_is_shipped(report: Path, scale: Scale, tmp_path: Path) -> None:
    def states(**changes: object) -> set[str]:
        other = scale.model_copy(update=changes)
        return {step.state for step in planned(other, tmp_path / "none", shipped=report / "data")}

    assert states() == {"shipped"}
    assert states(seed=5) == {"to do"}


def test_results_of_another_scale_are_not_taken(report: Path, scale: Scale, tmp_path: Path) -> None:
    other = scale.model_copy(update={"seed": 5})
    running._begin(Place(other, tmp_path, lambda *_: None), report / "data", ())
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["scale.json"]


def test_a_folder_of_another_seed_is_refused_and_keeps_its_report(copied: Path, scale: Scale) -> None:
    before = (copied / "report.html").read_bytes()
    with pytest.raises(ConfigError, match="another 'seed'.*scale.json.*--again"):
        reproduce(scale.model_copy(update={"seed": 5}), copied, shipped=None)
    assert (copied / "report.html").read_bytes() == before
    with pytest.raises(ConfigError, match="another 'seed'"):
        reproduce(scale.model_copy(update={"seed": 5}), copied, again=["forms"], shipped=None)
    assert (copied / "data/forms.json").is_file() and (copied / "data/forms/journal.jsonl").is_file()
    (copied / "data/dataset.json").unlink()
    with pytest.raises(ConfigError, match="another 'seed'"):
        reproduce(scale.model_copy(update={"seed": 5}), copied, shipped=None)
    assert not (copied / "data/dataset.json").exists() and (copied / "report.html").read_bytes() == before


def test_a_plan_tells_what_is_left(copied: Path, scale: Scale) -> None:
    (copied / "data/forms.json").unlink()
    assert {step.name: step.state for step in planned(scale, copied, again=["goals"])}["goals"] == "to do"
    (copied / "data/joint.json").unlink()  # what it trained is still there
    states = {step.name: step.state for step in planned(scale, copied)}
    assert states["vectors"] == "done" and states["forms"] == states["joint"] == "begun"
    assert {step.name for step in planned(scale, copied, only=["forms"])} == {"vectors", "forms"}
    assert all(step.state == "to do" for step in planned(scale, copied.parent / "none"))


def test_unknown_stages_are_named(scale: Scale, tmp_path: Path) -> None:
    for option in ({"only": ["figure"]}, {"again": ["figure"]}):
        with pytest.raises(ConfigError, match="no stage 'figure' .have: dataset, vectors, forms"):
            reproduce(scale, tmp_path, shipped=None, **option)


def _plain(found: object) -> object:
    """Without where and when it was measured; the copied folder has its random base elsewhere."""
    if isinstance(found, dict):
        return {key: _plain(value) for key, value in found.items() if key not in ("provenance", "base")}
    return [_plain(one) for one in found] if isinstance(found, list) else found


def test_safety_rows_are_counted_by_kind(report: Path) -> None:
    files = json.loads((report / "data/dataset.json").read_text())["found"]["files"]
    counts = {one["name"]: sum(one["queries"].values()) for one in files if one["name"].startswith("safety")}
    assert counts == {"safety, harmful": 80, "safety, benign": 80}


@pytest.fixture
def other(scale: Scale, tmp_path: Path) -> Scale:
    """The same scale with recipes of its own."""
    return scale.model_copy(update={"recipes": Path(shutil.copytree(scale.recipes, tmp_path / "recipes"))})


def test_another_recipe_is_refused_and_measured_again_is_trained_anew(copied: Path, other: Scale) -> None:
    recipe = other.recipes / "joint" / "expert-avoidance-generic.yaml"
    recipe.write_text(recipe.read_text().replace("beta: 0.1", "beta: 0.2"))
    with pytest.raises(ConfigError, match="joint.json was measured with another 'files'.*--again joint"):
        reproduce(other, copied, only=["joint"], shipped=None)
    before = {path.name for path in (copied / "work").glob("expert-avoidance-generic-*") if path.is_dir()}
    reproduce(other, copied, only=["joint"], again=["joint"], shipped=None)
    after = {path.name for path in (copied / "work").glob("expert-avoidance-generic-*") if path.is_dir()}
    assert len(after - before) == 1


def test_measured_again_a_stage_makes_its_vectors_again(copied: Path, scale: Scale) -> None:
    cards = {path: path.stat().st_mtime_ns for path in (copied / "work").glob("*-generic-*/vector/card.json")}
    assert cards
    (copied / "data/joint.seconds").write_text("5000")
    done = reproduce(scale, copied, only=["joint"], again=["joint"], shipped=None)
    assert all(path.stat().st_mtime_ns > time for path, time in cards.items())
    assert done["joint"].seconds < 5000


def test_a_result_of_other_settings_is_told_and_left_out_of_the_report(copied: Path, scale: Scale) -> None:
    told: list[str] = []
    other = scale.model_copy(update={"strengths": (0.25, 0.5)})
    reproduce(other, copied, only=["dataset"], shipped=None, tell=told.append)
    assert "strengths: measured with another 'strengths', so it is not in the report" in told
    assert "--stage strengths" in (copied / "report.html").read_text()
    states = {step.name: step.state for step in planned(other, copied)}
    assert (states["strengths"], states["dataset"]) == ("other", "done")


def test_what_stopped_a_run_is_told_rather_than_a_bad_result_of_another_stage(copied: Path, scale: Scale) -> None:
    (copied / "data/goals.json").write_text("{")
    (copied / "data/forms.json").unlink()
    (copied / "data/forms/journal.jsonl").write_text('{"scope": {}}\n["a", 1]\n')
    with pytest.raises(DataError, match="forms holds results of other vectors"):
        reproduce(scale, copied, only=["forms"], shipped=None)
