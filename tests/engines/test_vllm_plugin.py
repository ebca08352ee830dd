"""The plugin where there is no vLLM, or one that it was not tested with."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from alignvec.engines.vllm import plugin
from alignvec.engines.vllm.plan import PLAN
from alignvec.engines.vllm.prepare import require_vllm
from alignvec.errors import ConfigError
from alignvec.serve.vllm.start import command, environment
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
    monkeypatch.setattr(plugin, "_installed", [])
    with pytest.raises(ConfigError, match=rf"not with {version.partition('+')[0]}; .*--knobs-by adapters"):
        plugin.register()


def test_a_missing_vllm_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignvec.engines.vllm.prepare.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="vllm is not installed here"):
        require_vllm()


def test_a_second_plan_in_one_process_is_refused(
    plan_for: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.json"
    monkeypatch.setenv(PLAN, str(path))
    monkeypatch.setattr(plugin, "_installed", [plan_for("gate")])
    path.write_text(plan_for("gate").model_dump_json())
    plugin.register()  # the same again is nothing new
    path.write_text(plan_for("adapters").model_dump_json())
    with pytest.raises(ConfigError, match="other vectors already"):
        plugin.register()


@pytest.mark.parametrize(
    "option", ["--host", "--port=1", "--lora-modules", "--middleware", "--grpc-port", "--served_model_name"]
)
def test_options_that_would_pass_the_policy_by_are_refused(option: str, plan_for: MakePlan) -> None:
    with pytest.raises(ConfigError, match="would pass policy or knobs by"):
        command(plan_for("gate"), host="::1", port=1, dtype="auto", batch=1, context=None, extra=[option, "x"])


def test_the_command_line_and_the_environment_say_what_the_plan_says(
    plan_for: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"host": "127.0.0.1", "port": 8, "dtype": "bfloat16", "batch": 3, "context": 512}
    gate = command(plan_for("gate"), **sizes, extra=["--tensor-parallel-size", "2"])
    assert gate[-2:] == ["--tensor-parallel-size", "2"] and "--enforce-eager" in gate
    assert gate[gate.index("--max-loras") + 1] == "1" and gate[gate.index("--max-lora-rank") + 1] == "8"
    targets = gate[gate.index("--lora-target-modules") + 1 :][:7]
    assert targets == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    stack = json.loads(gate[gate.index("--lora-modules") + 1])
    assert stack["name"] == "alignvec" and not Path(stack["path"]).exists() and Path(stack["path"]).parent.is_dir()
    monkeypatch.setattr("alignvec.serve.vllm.start.on_cpu", lambda: True)
    assert "--enforce-eager" not in command(plan_for("gate"), **sizes)
    assert "--lora-modules" not in command(plan_for("adapters"), **sizes)
    found = environment(plan_for("adapters"), Path("p"), {"VLLM_PLUGINS": "other"})
    assert found["VLLM_PLUGINS"] == "other,alignvec" and found[PLAN] == "p"
    assert found["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert environment(plan_for("gate"), Path("p"), {}).keys() == {
        PLAN, "VLLM_USE_RUST_FRONTEND", "VLLM_SKIP_MODEL_NAME_VALIDATION",
    }  # fmt: skip
