"""All GPU benchmarks with one command: each in a process of its own, one JSON file each, in a folder.

    python benchmarks/gpu/run.py --out out/gpu

What is in the folder already is not measured again, and none is started that `--limit` seconds would cut short by the
time the last one took, so the command can be given again until it says that all is there. Where there is no GPU,
`--shape tiny` tries every script.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from alignvec.files import write_text

HERE = Path(__file__).parent
SHAPES = ("8b", "1b", "mistral-7b", "demo")
SCRIPTS = ("decode_mixed", "knob_turn_dense", "profile_gate", "scoring_tokens", "dpo_tokens", "solve_27")
SMALL = {
    "decode_mixed": ["--batches", "1", "3", "--ranks", "16", "--prompt", "8", "--new-tokens", "4"],
    "profile_gate": ["--batch", "3", "--rank", "16", "--prompt", "8", "--steps", "3"],
    "scoring_tokens": ["--rank", "16", "--batch-tokens", "1000"],
    "dpo_tokens": ["--rank", "2", "--batch", "1"],
    "solve_27": ["--rank", "1", "--queries", "1", "--settings", "22"],
}
"""What the tiny shape is tried with."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    parser.add_argument("--shapes", nargs="+", default=SHAPES, choices=(*SHAPES, "tiny"))
    parser.add_argument("--only", nargs="+", default=SCRIPTS, choices=SCRIPTS, metavar="SCRIPT")
    parser.add_argument("--limit", type=float, default=570, help="seconds")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    start = time.monotonic()
    failed, left, longest = [], [], 0.0
    for shape in chosen.shapes:
        for script in chosen.only:
            name, target = f"{script} {shape}", chosen.out / f"{script}-{shape}.json"
            if target.is_file():
                continue
            if time.monotonic() - start + longest > chosen.limit:
                left.append(name)
                continue
            print(f"{time.monotonic() - start:.0f} s: {name}", file=sys.stderr, flush=True)
            command = [sys.executable, str(HERE / f"{script}.py"), "--shape", shape, "--rounds", str(chosen.rounds)]
            command += SMALL.get(script, []) if shape == "tiny" else []
            began = time.monotonic()
            remaining = max(chosen.limit - (began - start), 1.0)
            try:
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=remaining)
            except subprocess.TimeoutExpired:
                left.append(name)
                continue
            longest = max(longest, time.monotonic() - began)
            if done.returncode:
                failed.append(name)
                continue
            line = done.stdout.strip().splitlines()[-1]
            write_text(target, line + "\n")
            print(line, flush=True)
    print(json.dumps({"failed": failed, "left": left, "out": str(chosen.out)}), file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
