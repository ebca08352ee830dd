"""The plugin where there is no vLLM, or one that it was not tested with."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from alignvec.engines.vllm import plugin
from alignvec.engines.vllm.plan import PLAN
from alignvec.engines.vllm.prepare import require_vllm
from alignvec.errors import ConfigError
from tests.engines.conftest import MakePlan


def test_without_a_plan_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PLAN, raising=False)
    monkeypatch.setitem(sys.modules, "vllm", None)  # an import would raise
    plugin.register()


@pytest.mark.parametrize("version", ["0.31.9", "0.33.0+cu130"])
def test_the_gate_refuses_a_vllm_that_it_was_not_tested_with(
    version: str, plan_for: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(plan_for("gate").model_dump_json())
    fake = ModuleType("vllm")
    fake.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setenv(PLAN, str(path))
    monkeypatch.setitem(sys.modules, "vllm", fake)
    monkeypatch.setattr(plugin, "_done", set())
    with pytest.raises(ConfigError, match=rf"not with {version.partition('+')[0]}; .*--knobs-by adapters"):
        plugin.register()


def test_a_missing_vllm_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignvec.engines.vllm.prepare.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="vllm is not installed here"):
        require_vllm()
