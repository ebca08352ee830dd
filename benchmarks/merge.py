"""Is a merge as fast as the disk allows, and leaner than mergekit on the same work?

Three dense vectors (or three low-rank ones) are merged into a model by `alignvec merge`, and by mergekit's
`task_arithmetic` (its inputs are the three fine-tuned models), beside `cp` of the same bytes: the base is copied, and
the other inputs are read. Whole processes, in turn, with peak memory from the system; ends in one JSON line.

mergekit (LGPL) lives in an environment of its own, made on first use; `--mergekit VENV` names an existing one.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from alignvec.models import resolve
from alignvec.provenance import provenance
from alignvec.vectors.card import BaseReference, Card
from alignvec.vectors.checkpoint import Checkpoint, open_checkpoint
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.store import save_vector
from alignvec.vectors.tensorfile import DTYPES, encode_header, tensor_bytes
from alignvec.vectors.vector import AlignmentVector

WEIGHTS = {"one": 0.5, "two": -0.3, "three": 0.8}
RANK, SCALE = 16, 1e-3
GOALS = {"mergekit/dense": 2.5, "mergekit/dense memory": 3.0, "dense/cp": 1.3, "lowrank/cp": 1.15, "anonymous_mb": 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("demo", "1b"), default="demo")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("out/bench-merge"), help="scratch folder (1b: 25 GB)")
    parser.add_argument(
        "--cold", action="store_true", help="from disk to disk: empty the page cache first (root), sync"
    )
    parser.add_argument("--mergekit", type=Path, help="environment with mergekit 0.1.5")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    place = work / arguments.model
    base = prepare(arguments.model, place)
    tool = arguments.mergekit or mergekit_environment(work / "mergekit")
    out = place / "result"
    commands = {
        "cp dense": f"cp -r {shlex.quote(str(base))} {out} && cat {place}/dense/*/*.safetensors > /dev/null",
        "dense": ours(base, place / "dense", out),
        "mergekit": f"{tool}/bin/mergekit-yaml {mergekit_config(base, place)} {out} --quiet",
        "cp lowrank": f"cp -r {shlex.quote(str(base))} {out} && cat {place}/lowrank/*/*.safetensors > /dev/null",
        "lowrank": ours(base, place / "lowrank", out),
        "nothing": f"{sys.executable} -c 'import alignvec.merge.run, alignvec.cli.merge'",
    }
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for number in range(arguments.rounds + 1):
        for name, command in commands.items():
            shutil.rmtree(out, ignore_errors=True)
            if arguments.cold:
                os.sync()
                Path("/proc/sys/vm/drop_caches").write_text("3")
            measured = measure(command, out if arguments.cold else None)
            if number:  # the first round fills the page cache
                runs[name].append(measured)
            print(f"round {number} {name}: {measured[0]:.2f} s, {measured[1]:.0f} MB", file=sys.stderr)
    shutil.rmtree(out, ignore_errors=True)
    print(json.dumps({"cold": arguments.cold, **report(arguments.model, runs)}))


def report(model: str, runs: dict[str, list[tuple[float, float, float]]]) -> dict[str, object]:
    """Ratios of medians, with the range of the rounds' own ratios."""

    def ratio(first: str, second: str, column: int = 0) -> dict[str, float]:
        rounds = [a[column] / b[column] for a, b in zip(runs[first], runs[second], strict=True)]
        middle = [statistics.median(run[column] for run in runs[name]) for name in (first, second)]
        return {"ratio": round(middle[0] / middle[1], 3), "low": round(min(rounds), 3), "high": round(max(rounds), 3)}

    def without_start(name: str) -> float:
        """Ratio to `cp` of what is left when Python and torch are up."""
        seconds = {key: statistics.median(run[0] for run in found) for key, found in runs.items()}
        return round((seconds[name] - seconds["nothing"]) / seconds[f"cp {name}"], 3)

    keys = ("seconds", "peak_rss_mb", "peak_anonymous_mb")
    return {
        "benchmark": "merge",
        "model": model,
        "mergekit/dense": ratio("mergekit", "dense"),
        "mergekit/dense memory": ratio("mergekit", "dense", 1),
        "dense/cp": ratio("dense", "cp dense"),
        "lowrank/cp": ratio("lowrank", "cp lowrank"),
        "without start": {name: without_start(name) for name in ("dense", "lowrank")},
        "goals": GOALS,
        "medians": {
            name: {key: round(statistics.median(run[i] for run in found), 3) for i, key in enumerate(keys)}
            for name, found in runs.items()
        },
        "rounds": len(runs["dense"]),
        **provenance().model_dump(),
    }


def measure(command: str, synced: Path | None = None) -> tuple[float, float, float]:
    """Seconds, peak resident MB and peak anonymous MB of a shell command, read every few milliseconds while it runs.

    The peak that `wait4` reports is no use: it counts this process before the other program begins.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        ["bash", "-c", command if "&&" in command else f"exec {command}"], stdout=subprocess.DEVNULL
    )
    resident = anonymous = 0
    while process.poll() is None:
        try:
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
            resident = max(resident, int(fields["VmHWM"].split()[0]))
            anonymous = max(anonymous, int(fields["RssAnon"].split()[0]))
        except (OSError, KeyError, ProcessLookupError):
            pass
        time.sleep(0.004)
    if synced is not None and synced.is_dir():
        subprocess.run(["sync", *synced.iterdir()], check=True)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"failed: {command}")
    return seconds, resident / 1e3, anonymous / 1e3


def ours(base: Path, vectors: Path, out: Path) -> str:
    knobs = " ".join(f"--knob {name}={weight}" for name, weight in WEIGHTS.items())
    return f"{sys.executable} -m alignvec.cli.app merge --base {base} --vectors {vectors} {knobs} --out {out} --json"


def prepare(model: str, place: Path) -> Path:
    """Base, fine-tuned models and vectors of the benchmark, written once; returns the base."""
    base = resolve("demo") if model == "demo" else place / "base"
    if (place / "ready").is_file():
        return base
    print("writing models and vectors, once", file=sys.stderr)
    if model == "1b":
        write_random_model(base)
    checkpoint = open_checkpoint(base)
    reference = BaseReference(name=str(base), fingerprint=fingerprint(base), template="")
    for number, name in enumerate(WEIGHTS):
        card = Card(name=name, form="single", method="random", base=reference)
        low: dict[str, Delta] = {}
        dense: dict[str, Delta] = {}
        for entry in checkpoint.entries.values():
            generator = torch.Generator().manual_seed(number * 1000 + len(dense))
            dense[entry.name] = _Random(entry.shape, number * 1000 + len(dense))
            if len(entry.shape) == 2 and "embed" not in entry.name and "lm_head" not in entry.name:
                low[entry.name] = LowRankDelta(
                    torch.randn(RANK, entry.shape[1], generator=generator),
                    torch.randn(entry.shape[0], RANK, generator=generator) * SCALE / RANK**0.5,
                )
        kind = next(iter(checkpoint.entries.values())).dtype
        save_vector(AlignmentVector(card, dense), place / "dense" / name, dtype=kind)
        save_vector(AlignmentVector(card, low), place / "lowrank" / name, dtype=torch.float16)
        write_finetuned(checkpoint, dense, place / "finetuned" / name)
    (place / "ready").touch()
    return base


class _Random(DenseDelta):
    """A random delta taken from one pool of draws, so that gigabytes of them are never in memory."""

    pool = torch.randn((1 << 24) + 43, generator=torch.Generator().manual_seed(0)) * SCALE

    def __init__(self, shape: tuple[int, ...], seed: int) -> None:
        object.__setattr__(self, "value", torch.empty(shape, device="meta"))
        object.__setattr__(self, "seed", seed)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        width = self.shape[1:].numel()
        place = torch.arange(start * width, stop * width).add_(self.seed * 1_000_003).remainder_(len(self.pool))
        return self.pool[place].view(stop - start, *self.shape[1:])


def write_random_model(folder: Path) -> None:
    """A Llama of 1.1 billion random bfloat16 parameters in two shards."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        tie_word_embeddings=False,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="1200MB")
    torch.set_default_dtype(torch.float32)
    AutoTokenizer.from_pretrained(resolve("demo")).save_pretrained(folder)


def write_finetuned(base: Checkpoint, deltas: dict[str, Delta], folder: Path) -> None:
    """base + Δ as a model folder, for mergekit."""
    folder.mkdir(parents=True)
    for path in base.folder.iterdir():
        if path.is_file() and path.suffix != ".safetensors":
            shutil.copyfile(path, folder / path.name)
    for path, (entries, metadata) in base.files.items():
        with (folder / path.name).open("wb") as stream:
            stream.write(encode_header(((e.name, e.code, e.shape, e.size) for e in entries), metadata))
            for entry in entries:
                total = base.reader.rows(entry).float() + deltas[entry.name].dense()
                stream.write(tensor_bytes(total.to(DTYPES[entry.code])))


def mergekit_config(base: Path, place: Path) -> Path:
    path = place / "mergekit.yaml"
    kind = "float32" if place.name == "demo" else "bfloat16"
    models = "".join(
        f"  - model: {place}/finetuned/{name}\n    parameters: {{weight: {weight}}}\n"
        for name, weight in WEIGHTS.items()
    )
    path.write_text(f"merge_method: task_arithmetic\nbase_model: {base}\ndtype: {kind}\nmodels:\n{models}")
    return path


def mergekit_environment(folder: Path) -> Path:
    if not (folder / "bin" / "mergekit-yaml").is_file():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet"]
        subprocess.run([*pip, f"torch=={torch.__version__.partition('+')[0]}"], check=True)
        subprocess.run([*pip, "mergekit==0.1.5", "transformers>=5,<6"], check=True)
    return folder


if __name__ == "__main__":
    main()
