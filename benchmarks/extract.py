"""Is a low-rank vector extracted faster than by mergekit-extract-lora, at the same error?

Two models of 1.1 billion parameters in bfloat16; the linear layers of the first LAYERS layers differ by a sum of
directions of falling size and noise. Both tools extract rank 16 of those matrices; whole processes, in turn. The error
is ‖Δ' − Δ‖/‖Δ‖ over those matrices, computed here from the files each tool has written. Ends in one JSON line.
"""

import argparse
import json
import re
import shutil
import statistics
import sys
from pathlib import Path

import torch
from merge import measure, mergekit_environment, prepare

from alignvec.provenance import provenance
from alignvec.vectors.adapter import read_adapter
from alignvec.vectors.checkpoint import open_checkpoint
from alignvec.vectors.tensorfile import Entry, encode_header, tensor_bytes

RANK = 16
GOALS = {"mergekit/alignvec": 5.0, "error alignvec/mergekit": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=4, help="how many of the 22 layers differ")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("out/bench-merge"), help="scratch folder (25 GB)")
    parser.add_argument("--mergekit", type=Path, help="environment with mergekit 0.1.5")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    base = prepare("1b", work / "1b")
    tuned = write_tuned(base, work / f"extract-{arguments.layers}", arguments.layers)
    tool = arguments.mergekit or mergekit_environment(work / "mergekit")
    out = work / "extracted"
    pattern = rf"^model\.layers\.({'|'.join(map(str, range(arguments.layers)))})\."
    commands = {
        "alignvec": f"{sys.executable} -m alignvec.cli.app extract --base {base} --aligned {tuned} --name tuned "
        f"--compress rank={RANK} --out {out} --json",
        "mergekit": f"{tool}/bin/mergekit-extract-lora --model {tuned} --base-model {base} --out-path {out} "
        f"--max-rank {RANK} --include-regex '{pattern}' --skip-undecomposable --quiet",
    }
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    errors = {}
    for number in range(arguments.rounds):
        for name, command in commands.items():
            shutil.rmtree(out, ignore_errors=True)
            runs[name].append(measure(command))
            errors[name] = relative_error(base, tuned, out, arguments.layers)
            print(f"round {number} {name}: {runs[name][-1][0]:.1f} s, error {errors[name]:.4f}", file=sys.stderr)
    shutil.rmtree(out, ignore_errors=True)
    medians = {name: [statistics.median(run[i] for run in found) for i in range(2)] for name, found in runs.items()}
    print(
        json.dumps(
            {
                "benchmark": "extract",
                "layers": arguments.layers,
                "mergekit/alignvec": round(medians["mergekit"][0] / medians["alignvec"][0], 2),
                "error alignvec/mergekit": round(errors["alignvec"] / errors["mergekit"], 4),
                "goals": GOALS,
                "seconds": {name: round(values[0], 2) for name, values in medians.items()},
                "peak_rss_mb": {name: round(values[1]) for name, values in medians.items()},
                "errors": errors,
                "rounds": arguments.rounds,
                **provenance().model_dump(),
            }
        )
    )


def changes(entry: Entry, layers: int) -> bool:
    found = re.match(r"model\.layers\.(\d+)\..*_proj\.weight$", entry.name)
    return bool(found) and int(found[1]) < layers


def write_tuned(base: Path, folder: Path, layers: int) -> Path:
    """The base with other linear layers: 64 directions, the k-th of size 1/k, and noise."""
    if folder.is_dir():
        return folder
    checkpoint = open_checkpoint(base)
    staging = folder.with_suffix(".part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    for path in base.iterdir():
        if path.is_file() and path.suffix != ".safetensors":
            shutil.copyfile(path, staging / path.name)
    for path, (entries, metadata) in checkpoint.files.items():
        with (staging / path.name).open("wb") as stream:
            stream.write(encode_header(((e.name, e.code, e.shape, e.size) for e in entries), metadata))
            for number, entry in enumerate(entries):
                value = checkpoint.reader.rows(entry)
                if changes(entry, layers):
                    rows, columns = entry.shape
                    draw = torch.Generator().manual_seed(number)
                    left = torch.randn(rows, 64, generator=draw) / torch.arange(1, 65)
                    value = value.float() + 1e-3 * left @ torch.randn(64, columns, generator=draw)
                    value += 2e-4 * torch.randn(rows, columns, generator=draw)
                stream.write(tensor_bytes(value.to(entry.dtype)))
    staging.rename(folder)
    return folder


def relative_error(base: Path, tuned: Path, adapter: Path, layers: int) -> float:
    """Over all matrices that differ; one that the tool left out counts as zero."""
    before, after = open_checkpoint(base), open_checkpoint(tuned)
    found = read_adapter(adapter, base=before)
    off = total = 0.0
    for name, entry in before.entries.items():
        if changes(entry, layers):
            delta = after.rows(name).float() - before.rows(name).float()
            total += delta.square().sum().item()
            off += (delta - found[name].dense() if name in found else delta).square().sum().item()
    return float((off / total) ** 0.5)


if __name__ == "__main__":
    main()
