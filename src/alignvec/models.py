"""Base models: a local folder, a hub id, or `demo`, the small model that a package index carries."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignvec import processes
from alignvec.errors import ModelError

if TYPE_CHECKING:
    import torch

DEMO = "demo"
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class BaseModel:
    """A loaded causal language model with its tokenizer and the folder both came from.

    Attributes:
        name: what the user asked for (`demo`, a folder, a hub id).
        folder: local folder with config, safetensors and tokenizer.
        model: the `transformers` model, in evaluation mode.
        tokenizer: its tokenizer, with a chat template.
    """

    name: str
    folder: Path
    model: Any
    tokenizer: Any

    @property
    def device(self) -> "torch.device":
        """Device of the model's weights."""
        device: torch.device = self.model.device
        return device

    @property
    def context_length(self) -> int:
        """Longest sequence, in tokens, that the model's positions allow."""
        return int(self.model.config.max_position_embeddings)


def resolve(name: str) -> Path:
    """Local folder of a model, fetching it if it is not there yet.

    Raises:
        ModelError: if it cannot be found or fetched, or the folder holds no safetensors model.
    """
    if name == DEMO:
        from alignvec.demo_model import ensure_demo_model

        return ensure_demo_model()
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _from_hub(name)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} has no config.json, so it is no Hugging Face model folder; check the path (--model, --base or "
            "--aligned)"
        )
    if not list(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} has no *.safetensors weights; convert the model with save_pretrained first")
    return folder


def load(name: str = DEMO, *, dtype: str = "float32", device: str | None = None) -> BaseModel:
    """Load a model for inference.

    Args:
        name: a local folder, a hub id, or `demo`.
        dtype: one of `DTYPES`.
        device: a torch device; default CUDA where there is one (of several processes, each its own), else the CPU.

    Raises:
        ModelError: if the model cannot be found or loaded, or its tokenizer has no chat template.
    """
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r} (have: {', '.join(DTYPES)}); check --dtype")
    folder = resolve(name)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), attn_implementation="sdpa", output_loading_info=True
        )
        model, report = loaded
    except Exception as error:  # whatever a damaged folder makes the library raise
        cause = str(error).strip().split("\n")[0]
        raise ModelError(f"cannot load the model in {folder}: {cause}; is the folder complete?") from error
    for trouble in ("missing_keys", "mismatched_keys"):
        if found := sorted(map(str, report[trouble])):
            raise ModelError(
                f"the weights in {folder} do not fit its config.json ({trouble.replace('_', ' ')}: {found[0]} and "
                f"{len(found) - 1} more), so they would be random; copy the whole folder again"
            )
    if not tokenizer.chat_template:
        raise ModelError(f"the tokenizer in {folder} has no chat template; use an instruction-tuned model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    try:
        model.to(torch.device(device or processes.own_device()))
    except (RuntimeError, AssertionError, TypeError) as error:
        cause = str(error).strip().split("\n")[0]
        raise ModelError(f"cannot put the model on device {device!r}: {cause}; check --device") from error
    model.train(False)
    return BaseModel(name, folder, model, tokenizer)


def stated_licence(folder: Path) -> str | None:
    """Licence in the front matter of the model card in a model's folder; None if there is none to read."""
    import yaml
    from huggingface_hub.repocard import metadata_load

    try:
        data = metadata_load(folder / "README.md") or {}
    except (OSError, ValueError, yaml.YAMLError):
        return None
    licence = data.get("license")
    if licence == "other":
        licence = data.get("license_name", licence)
    if isinstance(licence, list):
        return " AND ".join(map(str, licence)) or None
    return None if licence is None else str(licence)


def _from_hub(name: str) -> Path:
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"no model folder at {name}; check the path (--model, --base or --aligned)")
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "README.md"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # the hub client raises many unrelated types for "not there" and "no network"
        raise ModelError(
            f"{name!r} is neither a folder nor a model that could be fetched from the hub "
            f"({type(error).__name__}); check the path, or the name and the network ('demo' needs neither)"
        ) from error
