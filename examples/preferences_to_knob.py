"""Your own preference file becomes a knob: import, train, measure over λ, ask.

Shows: the whole way from prompt, chosen and rejected to "does the knob do it?", on held-out prompts.
Needs: the extra `train` (`make install` has it), 2 GB of memory; about six minutes of one core for the default.
Run:   python examples/preferences_to_knob.py [FILE] [--model MODEL] [--epochs N] [--out FOLDER]

FILE is JSON lines with prompt, chosen and rejected; or what else `alignvec data import` reads. The default is
`brief.jsonl`: sixty household questions whose rejected reply is the chosen one wrapped in pleasantries.
"""

import argparse
import sys
from pathlib import Path

import alignvec
from alignvec.data.load import load_rows
from alignvec.data.preference_sets import ORDER, import_pairs
from alignvec.errors import AlignvecError
from alignvec.evaluate.sweep import sweep
from alignvec.train.config import make_config
from alignvec.train.vector import train_vector

LAMBDAS = (-1.0, -0.5, 0.0, 0.5, 1.0)

parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
parser.add_argument("file", nargs="?", type=Path, default=Path(__file__).with_name("brief.jsonl"))
parser.add_argument("--model", default="demo")
parser.add_argument("--epochs", type=float, default=2.0)
parser.add_argument("--out", type=Path, default=Path("out/brief"))
options = parser.parse_args()


def main() -> None:
    """Import, train, measure, ask."""
    name, data = options.file.stem, options.out / "rows.jsonl"
    done = import_pairs(options.file, data, options.out / "unusable.jsonl", domain=name)
    print(f"{done.rows} of {done.read} records are rows: {dict(done.splits)}")

    recipe = make_config(
        "options", {"name": name, "base": options.model, "data": data, "order": ORDER, "epochs": options.epochs}
    )
    folder = train_vector(recipe, options.out)  # both sides: what the file prefers, and the reverse

    model = alignvec.load(options.model, folder)
    held_out = load_rows(data, split="test")
    curve = sweep(model.knobbed, name, held_out, data="test", coefficients=LAMBDAS).curve
    prompts = [row.query for row in held_out]
    print(f"\non {len(held_out)} held-out prompts:\n   λ  margin, nats a token     prefers chosen     words a reply")
    for point in curve:
        replies = model.generate(prompts, {name: point.coefficient}, max_new_tokens=120)
        words = sum(len(reply.split()) for reply in replies) / len(replies)
        prefers = point.preference_rate["per_token"]["chosen"]
        print(f"{point.coefficient:4g}  {point.margin.told():>20}  {prefers.told():>17}  {words:16.1f}")

    for knob in (-1, 0, 1):
        print(f"\n── {prompts[0]} [{name}={knob}] ──\n{model.generate(prompts[0], {name: knob})[0]}")


if __name__ == "__main__":
    try:
        main()
    except AlignvecError as error:
        sys.exit(f"error: {error}")
