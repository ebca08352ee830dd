"""Damage to a stored vector, and its card signed again as if nothing had happened."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file


def change_card(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    card = json.loads((folder / "card.json").read_text())
    change(card)
    (folder / "card.json").write_text(json.dumps(card))


def sign_again(folder: Path, *, tensors: bool = False) -> None:
    """Put present hashes into the card, as somebody would who alters a vector on purpose."""

    def change(card: dict[str, Any]) -> None:
        card["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in card["files"]}
        if tensors:
            card["tensors"] = {}

    change_card(folder, change)


def copies(path: Path) -> dict[str, torch.Tensor]:
    """A file's tensors, no longer mapped to it."""
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def rewrite(folder: Path, file: str, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change tensors of a file, metadata kept, and sign it again."""
    from safetensors import safe_open

    with safe_open(folder / file, "pt") as stream:
        metadata = stream.metadata()
    tensors = copies(folder / file)
    change(tensors)
    save_file(tensors, folder / file, metadata=metadata)
    sign_again(folder, tensors=True)


def flip(path: Path, place: int = -5) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def lora(tensors: dict[str, torch.Tensor], side: str) -> str:
    return next(name for name in sorted(tensors) if f"lora_{side}" in name)
