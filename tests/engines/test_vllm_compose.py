"""Settings as adapters: names, rounding, ranks, the bound."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alignvec.engines.vllm.compose import Composer, rounded
from alignvec.engines.vllm.gate import Gates
from alignvec.engines.vllm.plan import PLAN, current_plan
from alignvec.errors import ConfigError, KnobError
from alignvec.merge.export import compose
from alignvec.vectors.adapter import read_adapter
from alignvec.vectors.store import load_vector
from tests.engines.conftest import MakePlan


def composer_of(plan_for: MakePlan, **options: object) -> Composer:
    plan = plan_for("adapters", **options)
    return Composer(plan, [load_vector(place) for place in plan.vectors])


def test_a_setting_is_composed_exactly_and_once(plan_for: MakePlan) -> None:
    composer = composer_of(plan_for)
    name = composer.name({"legal": -0.3, "medical": 0.5})
    assert name == "demo:medical=0.5,legal=-0.3" and composer.name({"medical": 0.0}) == "demo"
    folder = composer.folder(name)
    assert folder is not None and composer.folder(name) == folder
    vectors = [load_vector(place) for place in plan_for("adapters").vectors]
    expected = compose(vectors, {"medical": 0.5, "legal": -0.3})
    found = read_adapter(folder)
    assert found.keys() == expected.keys()
    for key, delta in expected.items():
        torch.testing.assert_close(found[key].dense(), delta.dense())


def test_for_a_cpu_the_base_is_an_adapter_of_zeros(plan_for: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignvec.engines.vllm.prepare.on_cpu", lambda: True)
    composer = composer_of(plan_for)
    assert composer.name({"medical": 0.0}) == composer.name({}) == "demo:base"
    folder = composer.folder("demo:base")
    assert folder is not None
    found, turned = read_adapter(folder), read_adapter(composer.folder("demo:medical=1") or folder)
    assert found.keys() == turned.keys() and not any(delta.dense().any() for delta in found.values())
    assert not plan_for("gate").base_adapter


def test_other_models_names_are_none_of_its_business(plan_for: MakePlan) -> None:
    composer = composer_of(plan_for)
    assert composer.folder("demo") is None and composer.folder("other:medical=1") is None
    for bad in (
        "demo:medical=nan",
        "demo:dental=1",
        "demo:medical=",
        "demo:legal=-0.3,medical=0.5",
        "demo:medical=0.50",
    ):
        with pytest.raises(KnobError):
            composer.folder(bad)


def test_a_rank_over_the_servers_is_refused_with_both_numbers(plan_for: MakePlan) -> None:
    composer = composer_of(plan_for, rank=1)
    with pytest.raises(KnobError, match=r"needs rank 5, .*--max-lora-rank 1"):
        composer.check({"medical": 1.0, "legal": 1.0})


def test_the_least_recently_used_settings_go_unless_a_request_uses_them(plan_for: MakePlan) -> None:
    composer = composer_of(plan_for, settings=2)
    names = [f"demo:legal={value}" for value in (0.1, 0.2, 0.3, 0.4)]
    folders = {name: composer.folder(name) for name in names[:3]}
    with composer.running(names[0]):
        assert composer.is_running(names[0])
        assert composer.retire() == {names[1]: folders[names[1]]}
        composer.folder(names[3])
        assert list(composer.retire()) == [names[2]]
    assert not composer.is_running(names[0])
    with composer.running(names[0]):  # now used later than the other
        pass
    composer.folder(names[1])
    assert list(composer.retire()) == [names[3]]


def test_folders_that_nobody_holds_are_deleted_and_held_ones_kept(plan_for: MakePlan) -> None:
    cache = plan_for("adapters").cache
    first = composer_of(plan_for)
    living = first.folder("demo:medical=1")
    (cache / "adapters-dead" / "0").mkdir(parents=True)
    (cache / "adapters-dead.lock").touch()
    other = composer_of(plan_for)
    assert not (cache / "adapters-dead").exists() and not (cache / "adapters-dead.lock").exists()
    assert living is not None and living.is_dir() and other.folder("demo:medical=1") != living


def test_names_never_read_files(plan_for: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("{}")
    with pytest.raises(KnobError, match="name knobs"):
        composer_of(plan_for).folder(f"demo:@{tmp_path / 's.yaml'}#x")
    with pytest.raises(KnobError, match="names a file"):
        Gates(plan_for("gate").slots).read(f"@{tmp_path / 's.yaml'}#x")


@given(
    st.floats(-3, 3), st.sampled_from([0.01, 0.05, 0.1, 0.3]), st.tuples(st.floats(-3, 3), st.floats(-3, 3)).map(sorted)
)
def test_rounding_never_passes_a_limit(value: float, step: float, limits: list[float]) -> None:
    low, high = limits
    value = min(max(value, low), high)
    found = rounded(value, step, low, high)
    assert low <= found <= high and abs(found - value) <= step + 1e-9
    if found != value:
        assert abs(found / step - round(found / step)) < 1e-6


def test_rounding_goes_to_the_nearest_multiple() -> None:
    far = (float("-inf"), float("inf"))
    assert [rounded(x, 0.05, *far) for x in (0.5, 0.52, 0.53, -0.3, 0.01)] == [0.5, 0.5, 0.55, -0.3, 0.0]
    assert rounded(0.62, 0.05, -1, 0.62) == 0.6 and rounded(0.62, 0.05, 0.61, 0.64) == 0.62


def test_a_plan_is_read_back_and_a_bad_one_is_told(
    plan_for: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PLAN, raising=False)
    assert current_plan() is None
    path = tmp_path / "plan.json"
    path.write_text(plan_for("gate").model_dump_json())
    monkeypatch.setenv(PLAN, str(path))
    assert current_plan() == plan_for("gate")
    for content in ("{}", "", '{"way": "gate", "surprise": 1}'):
        path.write_text(content)
        with pytest.raises(ConfigError, match=PLAN):
            current_plan()
