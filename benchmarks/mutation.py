"""Do the tests of a room notice when its code is changed?

mutmut makes mutants (one small change in one function each) of the room's files and runs, for each, the tests that
reach the function. Here a random sample of them is drawn, a share of each file's and at least so many, and the score,
the share of mutants that some test fails on, is estimated for all, weighted by file. `benchmarks/mutation.toml` says
what the rooms are and which mutants are not counted. A mutant that runs into the time limit counts as noticed, one
that no test reaches as not. mutmut changes neither module-level code nor functions with a decorator (properties).

Works in a copy of the tracked files under `--work`. Progress goes to stderr; ends in one JSON line.
"""

import argparse
import ast
import difflib
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import textwrap
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import get_mutant_name, mangled_name_from_mutant_name

from alignvec.provenance import provenance

ROOT = Path(__file__).resolve().parents[1]
CONFIG = Path(__file__).with_suffix(".toml")
NOTICED = ("killed", "timeout", "segfault")
"""A test that crashes the process has noticed, too."""


@dataclass(frozen=True)
class Mutant:
    """One change: the file it is in, mutmut's name of it, and both texts of the function."""

    file: str
    name: str
    before: str
    after: str

    def change(self) -> list[str]:
        """Lines taken away (-) and added (+)."""
        lines = difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), lineterm="", n=0)
        return [re.sub(r"^([-+])\s*", r"\1 ", line) for line in list(lines)[2:] if not line.startswith("@@")]


def main() -> None:
    rooms = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--room", choices=sorted(rooms["rooms"]), required=True)
    parser.add_argument("--share", type=float, default=0.25, help="of each file's mutants, drawn at random")
    parser.add_argument("--least", type=int, default=15, help="mutants of each file, if it has so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", type=Path, help="run the survivors that this file (--out) has, instead of a sample")
    parser.add_argument("--work", type=Path, default=Path("out/mutation"), help="folder to work in; made anew")
    parser.add_argument("--out", type=Path, help="write score by file and all survivors (JSON)")
    chosen = parser.parse_args()
    room, origin = rooms["rooms"][chosen.room], provenance()  # the commit before the run, which takes a while
    work = (chosen.work / chosen.room).absolute()
    lay_out(work, room)
    os.chdir(work)  # mutmut reads its settings here
    found = [mutant for path in sorted(Path(room["source"]).rglob("*.py")) for mutant in mutants(path)]
    why = {mutant.name: next((r["reason"] for r in rooms["left_out"] if left_out(mutant, r)), None) for mutant in found}
    counted = [mutant for mutant in found if why[mutant.name] is None]
    if chosen.again:
        survivors = json.loads((ROOT / chosen.again).read_text(encoding="utf-8"))["survivors"]
        wanted = {(entry["file"], *entry["change"]) for entry in survivors}
        sample = [mutant for mutant in counted if (mutant.file, *mutant.change()) in wanted]
    else:
        sample = draw(counted, chosen.share, chosen.least, chosen.seed)
    print(f"{len(found)} mutants, {len(counted)} of them counted, {len(sample)} to run", file=sys.stderr)
    began = time.monotonic()
    verdicts = run(work, sample)
    estimated = [] if chosen.again else [round(x, 4) for x in estimate(counted, verdicts)]  # no sample, no score
    noticed = sum(verdicts[mutant.name] in NOTICED for mutant in sample)
    line = {
        "benchmark": "mutation",
        "room": chosen.room,
        "score": next(iter(estimated), None),
        "interval": estimated[1:] or None,
        "mutants": len(counted),
        "left_out": dict(Counter(filter(None, why.values())).most_common()),
        "sample": len(sample),
        "seed": chosen.seed,
        "killed": noticed,
        "survived": len(sample) - noticed,
        "verdicts": dict(Counter(verdicts.values()).most_common()),
        "seconds": round(time.monotonic() - began),
        "mutmut": version("mutmut"),
        **origin.model_dump(),
    }
    if chosen.out:
        os.chdir(ROOT)
        report = {**line, "files": by_file(counted, sample, verdicts), "survivors": surviving(sample, verdicts)}
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(line))


def lay_out(work: Path, room: Mapping[str, Any]) -> None:
    """Copy the tracked files: sources to where mutmut reads them, all else to where it lets the tests run."""
    if work.is_dir() and not (work / "mutants").is_dir():
        raise SystemExit(f"{work} is there and was not made by this script; choose another --work")
    shutil.rmtree(work, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listed.split("\0"):
        if name and (ROOT / name).is_file() and not name.startswith("docs/"):
            target = work / name if name.startswith("src/") else work / "mutants" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    settings = {
        "source_paths": ["src"],
        "only_mutate": [f"{room['source']}/*"],
        "pytest_add_cli_args_test_selection": room["tests"],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "no:xdist"],
        "use_git_change_detection": False,
        "timeout_constant": 3.0,  # seconds, which the tests' own time is added to
        "timeout_multiplier": 5.0,
    }
    table = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    own = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (work / "pyproject.toml").write_text(f"{own}\n[tool.mutmut]\n{table}", encoding="utf-8")


def mutants(path: Path) -> list[Mutant]:
    """All mutants that mutmut makes of a file."""
    mutated = mutate_file_contents(str(path), path.read_text(encoding="utf-8"))
    lines = mutated.code.splitlines()

    def text(name: str) -> str:
        span = mutated.line_span_by_function_name[name]
        function = mangled_name_from_mutant_name(name)
        source = "\n".join(lines[span.start - 1 : span.end]).strip("\n")
        return textwrap.dedent(source).replace(name, function)

    return [
        Mutant(
            str(path),
            get_mutant_name(path, name),
            text(f"{mangled_name_from_mutant_name(name)}__mutmut_orig"),
            text(name),
        )
        for name in mutated.mutant_names
    ]


def left_out(mutant: Mutant, rule: Mapping[str, Any]) -> bool:
    """Whether all that differs lies inside what the rule names."""
    if "lines" in rule:
        return rule["file"] == mutant.file and all(re.search(rule["lines"], line) for line in mutant.change())
    if rule.get("keyword", "raise") not in mutant.before:
        return False
    blank = _Blank(rule.get("raise_text", False), rule.get("keyword"))
    before, after = (ast.dump(blank.visit(ast.parse(text))) for text in (mutant.before, mutant.after))
    return before == after


class _Blank(ast.NodeTransformer):
    """Takes out what a rule names."""

    def __init__(self, raise_text: bool, keyword: str | None) -> None:
        self.raise_text, self.keyword, self.inside = raise_text, keyword, False

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        outer, self.inside = self.inside, self.raise_text
        visited = self.generic_visit(node)
        self.inside = outer
        return visited

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if self.inside and isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("") if self.inside else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if self.keyword:
            node.keywords = [each for each in node.keywords if each.arg != self.keyword]
        return self.generic_visit(node)


def draw(counted: Iterable[Mutant], share: float, least: int, seed: int) -> list[Mutant]:
    """A random share of each file's mutants, and at least so many of them."""
    chance = random.Random(seed)
    sample = []
    for group in _grouped(counted).values():
        number = min(len(group), max(least, math.ceil(share * len(group))))
        sample += chance.sample(group, number)
    return sample


def run(work: Path, sample: Iterable[Mutant]) -> dict[str, str]:
    """mutmut's verdict on each mutant, one child at a time."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}  # forked with threads, torch hangs
    names = [mutant.name for mutant in sample]
    command = [sys.executable, "-c", "from mutmut.__main__ import cli; cli()", "run", "--max-children", "1", *names]
    with (work / "mutmut.log").open("w", encoding="utf-8") as log:
        if subprocess.run(command, cwd=work, env=environment, stdout=log, stderr=log).returncode:
            raise SystemExit(f"mutmut failed; see {log.name}")
    codes: dict[str, int | None] = {}
    for path in (work / "mutants").rglob("*.py.meta"):
        codes |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return {name: status_by_exit_code[codes[name]] for name in names}


def estimate(counted: Iterable[Mutant], verdicts: Mapping[str, str]) -> tuple[float, float, float]:
    """Score of all counted mutants from a sample stratified by file, with its 95 % interval.

    The variance is that of a stratified sample without replacement (Cochran, Sampling Techniques, 5.13); a file's
    share is taken as (killed + 1) / (n + 2) there, as a file of which all were killed is not thereby certain.
    """
    groups = [group for group in _grouped(counted).values() if any(mutant.name in verdicts for mutant in group)]
    total = sum(map(len, groups))
    score = variance = 0.0
    for group in groups:
        drawn = [verdicts[mutant.name] in NOTICED for mutant in group if mutant.name in verdicts]
        weight, n, killed = len(group) / total, len(drawn), sum(drawn)
        score += weight * killed / n
        share = (killed + 1) / (n + 2)
        variance += weight**2 * (1 - n / len(group)) * share * (1 - share) / max(n - 1, 1)
    half = 1.96 * math.sqrt(variance)
    return score, max(score - half, 0.0), min(score + half, 1.0)


def by_file(counted: Iterable[Mutant], sample: Iterable[Mutant], verdicts: Mapping[str, str]) -> dict[str, Any]:
    """Mutants, sample and killed of each file."""
    drawn = _grouped(sample)
    return {
        file: {
            "mutants": len(group),
            "sample": len(drawn.get(file, [])),
            "killed": sum(verdicts[mutant.name] in NOTICED for mutant in drawn.get(file, [])),
        }
        for file, group in _grouped(counted).items()
    }


def surviving(sample: Iterable[Mutant], verdicts: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every mutant that no test noticed, with its change."""
    return [
        {"file": mutant.file, "mutant": mutant.name, "verdict": verdicts[mutant.name], "change": mutant.change()}
        for mutant in sample
        if verdicts[mutant.name] not in NOTICED
    ]


def _grouped(mutants: Iterable[Mutant]) -> dict[str, list[Mutant]]:
    groups: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        groups.setdefault(mutant.file, []).append(mutant)
    return groups


if __name__ == "__main__":
    main()
