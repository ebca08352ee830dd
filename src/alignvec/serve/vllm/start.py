"""Starting vLLM's own server with knobs."""

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from alignvec.cache import cache_dir
from alignvec.engines.vllm.gate import ADAPTER
from alignvec.engines.vllm.hooks import GATED
from alignvec.engines.vllm.plan import PLAN, Plan
from alignvec.engines.vllm.prepare import on_cpu
from alignvec.errors import ConfigError
from alignvec.files import write_text

PLUGIN = "alignvec"
OURS = (
    "--host", "--port", "--uds", "--config", "--middleware", "--served-model-name", "--lora-modules", "--grpc",
    "--api-server-count", "--enable-tower-connector-lora", "--fully-sharded-loras", "--lora-target-modules",
)  # fmt: skip
"""Options of vLLM that would take a request past the policy, or knobs out of it."""
SLOTS = 8
"""Composed adapters that are in one batch at most, if the operator does not say."""


def command(
    plan: Plan, *, host: str, port: int, dtype: str, batch: int, context: int | None, extra: Sequence[str] = ()
) -> list[str]:
    """vLLM's command line for a plan.

    Args:
        plan: see `Plan`.
        host: address to serve at.
        port: likewise.
        dtype: of the weights.
        batch: requests generated at the same time.
        context: tokens of prompt and reply; None for the model's.
        extra: further options of `vllm serve`; they come last, so they win.

    Raises:
        ConfigError: if one of them is `OURS`.
    """
    for option in extra:
        if (name := option.partition("=")[0].replace("_", "-")) in OURS or name.startswith("--grpc"):
            raise ConfigError(f"{name} cannot be given to vLLM here: it would pass policy or knobs by; leave it out")
    made = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(plan.base)]
    made += ["--served-model-name", plan.model, "--host", host, "--port", str(port), "--dtype", dtype]
    made += ["--max-num-seqs", str(batch), "--generation-config", "vllm", "--api-server-count", "1"]
    made += ["--middleware", "alignvec.serve.vllm.middleware.AlignmentMiddleware"]
    made += ["--max-model-len", str(context)] if context else []
    made += ["--enable-lora", "--max-lora-rank", str(plan.rank), "--lora-target-modules", *plan.targets]
    if plan.way == "gate":
        stack = {"name": ADAPTER, "path": str(plan.cache / GATED)}
        made += ["--max-loras", "1", "--lora-modules", json.dumps(stack)]
        made += [] if on_cpu() else ["--enforce-eager"]
    else:
        made += ["--max-loras", str(SLOTS), "--max-cpu-loras", str(max(plan.settings, SLOTS))]
    return [*made, *extra]


def environment(plan: Plan, path: Path, current: Mapping[str, str]) -> dict[str, str]:
    """What of the environment has to be so.

    Args:
        plan: see `Plan`.
        path: file that it is written to.
        current: the environment.
    """
    found = {PLAN: str(path), "VLLM_USE_RUST_FRONTEND": "0", "VLLM_SKIP_MODEL_NAME_VALIDATION": "0"}
    if plan.way == "adapters":
        found["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    plugins = current.get("VLLM_PLUGINS")
    if plugins is not None and PLUGIN not in plugins.split(","):
        found["VLLM_PLUGINS"] = ",".join(filter(None, [plugins, PLUGIN]))
    return found


def start(plan: Plan, line: Sequence[str], *, print_only: bool) -> None:
    """Become vLLM's server, or print how it is started.

    Raises:
        StorageError: if the plan cannot be written.
    """
    text = plan.model_dump_json(indent=1) + "\n"
    path = cache_dir() / "vllm" / "plans" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    write_text(path, text)
    extra = environment(plan, path, os.environ)
    shown = shlex.join([*(f"{name}={value}" for name, value in extra.items()), *line])
    if print_only:
        print(shown)
        return
    print(f"starting {shown}", file=sys.stderr, flush=True)
    os.execve(line[0], list(line), {**os.environ, **extra})
