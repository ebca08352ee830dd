"""Which extra brings a package that is not installed, so that a command can tell it in one line."""

import traceback
from importlib.util import find_spec
from pathlib import Path

from alignvec.errors import ConfigError

EXTRAS = {
    "train": ("datasets", "peft", "trl"),
    "data": (
        *("datasets", "datasketch", "gradio", "httpx2", "openai"),
        *("phonenumbers", "py3langid", "pyarrow", "stdnum"),
    ),
    "serve": ("fastapi", "gradio", "httpx2", "limits", "prometheus_client", "starlette", "uvicorn"),
    "eval": ("lm_eval", "peft"),
    "solve": ("optuna",),
    "vllm": ("fastapi", "limits", "starlette"),
}
"""Extra to the modules that the code imports from what it brings (`pyproject.toml`)."""
HERE = Path(__file__).resolve().parent


def missing_extra(error: ModuleNotFoundError) -> ConfigError | None:
    """What to tell a user when an import has failed; None if no extra brings the module.

    Several extras bring some modules: that of the room that wanted the module is told, else the first. A part that
    an installed package lacks is no missing package.
    """
    module = (error.name or "").partition(".")[0]
    found = [extra for extra, modules in EXTRAS.items() if module in modules]
    if not found or find_spec(module) is not None:
        return None
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    rooms = [_room(file.relative_to(HERE)) for file in files if file.is_relative_to(HERE)]
    extra = rooms[-1] if rooms and rooms[-1] in found else found[0]
    return ConfigError(f"this needs {module}, which is not installed; pip install 'alignvec[{extra}]'")


def _room(file: Path) -> str:
    """The extra that a file's imports come from, where it is not the name of its top folder."""
    if "vllm" in file.parts:
        return "vllm"
    return "eval" if file.name in ("harness.py", "lm_eval.py") else file.parts[0]
