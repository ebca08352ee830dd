"""Contrasting personas, as repeng's data sets have them, become preference pairs for a vector.

Shows: what a model says to the same prompt as one persona and as its opposite, written as prompt, chosen and rejected.
Needs: alignvec; no vectors. The model must follow such instructions: read the pairs before you train on them.
Run:   python examples/pairs_from_personas.py PROMPTS --positive honest --negative untruthful --out pairs.jsonl

PROMPTS is a text file with one prompt a line, or JSON lines with `prompt`. What is written is the input of
`alignvec data import` and of preferences_to_knob.py. Pairs whose replies are equal or empty are left out and counted.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import alignvec
from alignvec.steer.loaded_model import LoadedModel
from alignvec.steer.sampling import Sampling

BATCH = 8


def read_prompts(path: Path) -> list[str]:
    """Prompts of a text file or of JSON lines, blank lines left out."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [json.loads(line)["prompt"] if path.suffix == ".jsonl" else line.strip() for line in lines]


def pairs(
    model: LoadedModel, prompts: list[str], system: tuple[str, str], sampling: Sampling
) -> Iterator[dict[str, str]]:
    """One record a prompt: the reply under the first system prompt is chosen, that under the second rejected."""
    for start in range(0, len(prompts), BATCH):
        some = prompts[start : start + BATCH]
        chats = [
            [{"role": "system", "content": persona}, {"role": "user", "content": prompt}]
            for prompt in some
            for persona in system
        ]
        replies = model.knobbed.continue_chats(chats, [{}] * len(chats), sampling)
        for prompt, chosen, rejected in zip(some, replies[::2], replies[1::2], strict=True):
            yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def main() -> None:
    """Read the command line, ask, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--positive", required=True)
    parser.add_argument("--negative", required=True)
    parser.add_argument("--template", default="Act as if you are extremely {persona}.", help="system prompt")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--max-new-tokens", type=int, default=80)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    system = tuple(options.template.format(persona=persona) for persona in (options.positive, options.negative))
    model = alignvec.load(options.model, [])
    found = list(pairs(model, read_prompts(options.prompts), system, Sampling(max_new_tokens=options.max_new_tokens)))
    useful = [pair for pair in found if pair["chosen"] and pair["rejected"] and pair["chosen"] != pair["rejected"]]
    options.out.write_text("".join(json.dumps(pair) + "\n" for pair in useful), encoding="utf-8")
    print(f"{len(useful)} pairs in {options.out}; {len(found) - len(useful)} left out, equal or empty")


if __name__ == "__main__":
    main()
