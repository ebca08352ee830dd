"""The README.md of a vector on a Hugging Face hub, written from its card alone."""

import re
from pathlib import PurePath

from alignvec import demo_model
from alignvec.models import DEMO
from alignvec.vectors.adapter import ADAPTER
from alignvec.vectors.calibration import Calibration
from alignvec.vectors.card import METHODS, Card, Measurement
from alignvec.vectors.deltafile import DENSE
from alignvec.vectors.describe import error_lines, spillover_lines
from alignvec.vectors.strict import Interval

_HUB_ID = r"[A-Za-z0-9][\w.-]*/[\w.-]+"
_HUB_LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "mpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl-3.0", "unlicense"),
    *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
    *("openrail", "gemma", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3"),
)
"""Identifiers that the hub takes as they are; anything else is `other` with a name."""


def model_card(card: Card, *, repo_id: str | None = None) -> str:
    """Markdown with YAML front matter; the same card gives the same text.

    Args:
        card: of a stored vector.
        repo_id: the repository it goes to, for the commands in the text.
    """
    sections = [
        _front_matter(card),
        _introduction(card),
        _usage(card, repo_id or f"OWNER/{card.name}"),
        _settings(card),
        _measured(card.measured) if card.measured else "",
        _calibration(card.calibration) if card.calibration else "",
        "" if card.measured or card.calibration else "## Measured\n\nNothing was measured.",
        _recipe(card),
        _licences(card),
        _limits(card),
        _identity(card),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(card: Card) -> str:
    from huggingface_hub import ModelCardData

    licence = card.licence.lower()
    known, name = licence in _HUB_LICENCES, re.sub(r"[^a-z0-9.]+", "-", licence).strip("-")
    data = ModelCardData(
        license=None if licence == "unknown" else licence if known else "other",
        license_name=None if known or licence == "unknown" else name,
        base_model=_hub_id(card),
        library_name="alignvec",
        tags=[
            "alignvec",
            "alignment-vector",
            *([card.domain] if card.domain else []),
            *(["lora"] * _has_adapter(card)),
        ],
    )
    return f"---\n{data.to_yaml()}\n---"


def _introduction(card: Card) -> str:
    domain = f" for the domain {card.domain}" if card.domain else ""
    levels = f" Levels, from low to high: {' < '.join(card.levels)}." if card.levels else ""
    return (
        f"# {card.name}\n\nAn alignment vector{domain}: the change of weights that preference tuning makes to "
        f"{_base(card)}. Adding λ times this change at inference turns the preference up, down or past zero; "
        f"λ = 0 is the base model, bit for bit.{levels}\n\nMethod: {METHODS.get(card.method, card.method)}."
    )


def _usage(card: Card, repo_id: str) -> str:
    setting = next((v for v in reversed(card.settings.values()) if v), 1.0)
    model = DEMO if card.base.name == DEMO else _hub_id(card) or "FOLDER_OF_THE_BASE"
    text = f"""## Use

```sh
alignvec pull {repo_id} --out {card.name}
alignvec ask "A question" --model {model} --vectors {card.name} --knob {card.name}={setting:g}
```

```python
from pathlib import Path

from alignvec import models
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.store import load_vector

knobbed = KnobbedModel(models.load("{model}"), [load_vector(Path("{card.name}"))])
print(knobbed.generate(["A question"], {{"{card.name}": {setting:g}}}, Sampling())[0])
```"""
    if not _has_adapter(card):
        return text
    sides = ' (λ = 1; `subfolder="negative"` is λ = -1)' if card.form == "hinged" else " (λ = 1)"
    rest = f" `{DENSE}` holds deltas that PEFT does not read." if any(DENSE in name for name in card.files) else ""
    more, base = "", f'"{model}"'
    if card.base.name == DEMO:  # the hub's own weights are not those of the 4-bit file
        more, base = "\nfrom alignvec.demo_model import ensure_demo_model\n", "ensure_demo_model()"
    return f"""{text}

The low-rank part is a PEFT adapter of scale 1{sides}.{rest}

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM
{more}
base = AutoModelForCausalLM.from_pretrained({base})
model = PeftModel.from_pretrained(base, "{repo_id}")
```"""


def _settings(card: Card) -> str:
    if not card.settings:
        return ""
    rows = [[level, f"{value:g}"] for level, value in card.settings.items()]
    return "## Settings\n\n" + _table(["level", "λ"], rows)


def _measured(measured: Measurement) -> str:
    curve = sorted(measured.curve, key=lambda point: point.coefficient)
    generated = list(dict.fromkeys(level for point in curve for level in point.level_rate))
    scored = list(dict.fromkeys(level for point in curve for level in point.preference_rate.get("per_token", {})))
    columns = ["λ", "margin, nats a token", *(f"{level} preferred" for level in scored)]
    columns += [*(f"{level} replies" for level in generated), *(["degenerate"] if generated else [])]
    rows = [
        [
            f"{point.coefficient:g}",
            _interval(point.margin),
            *(_interval(point.preference_rate.get("per_token", {}).get(level)) for level in scored),
            *(_interval(point.level_rate.get(level)) for level in generated),
            *([_interval(point.degenerate)] if generated else []),
        ]
        for point in curve
    ]
    lines = [f"{measured.queries} held-out queries ({measured.data}), values with 95 % intervals."]
    lines.append("*preferred*: share of queries whose reference reply of that level is the likeliest, per token.")
    if generated:
        sampling = ", ".join(f"{key} {value}" for key, value in measured.generation.items())
        lines += [f"*replies*: share of generated replies judged to be of that level ({sampling}).", measured.judge]
    return "## Measured\n\n" + "  \n".join(lines) + "\n\n" + _table(columns, rows)


def _calibration(found: Calibration) -> str:
    low, high = found.usable
    lowest, highest = found.levels[0], found.levels[-1]
    fitted = {point.coefficient: point.level_rate for point in found.curve}
    rows = []
    for level, value in found.settings.items():
        at = fitted.get(value)
        rates = (at.highest, at.above_lowest) if at else (None, None)
        rows.append([level, f"{value:g}", *map(_interval, rates)])
    lines = [
        f"Usable from λ = {low:g} ({found.ends()['lowest']}) to {high:g} ({found.ends()['highest']}).",
        f"Recommended λ on {found.queries} queries ({found.data}), with rates of generated replies fitted over λ and "
        "their 95 % bands.",
        found.judge,
    ]
    columns = ["level", "λ", f"{highest} replies", f"replies above {lowest}"]
    return "## Calibration\n\n" + "  \n".join(lines) + "\n\n" + _table(columns, rows)


def _recipe(card: Card) -> str:
    rows = [[key, f"`{value}`"] for key, value in card.recipe.items() if value is not None]
    rows += [[f"version of {name}", f"`{version}`"] for name, version in sorted(card.versions.items())]
    return "## Recipe\n\n" + _table(["key", "value"], rows) if rows else ""


def _licences(card: Card) -> str:
    return f"## Licence\n\nVector: {card.licence}. Base model: {card.base.licence or 'not recorded'}."


def _limits(card: Card) -> str:
    lines = [
        "It fits one base model, told by its fingerprint below; on another it is refused unless that is asked for.",
        "It changes how the model answers, not what it knows: a reply that sounds expert can be wrong.",
    ]
    lines += [f"Spillover at {line}." for line in spillover_lines(card)] or [
        "What it does to other domains is not known."
    ]
    if card.calibration:
        low, high = card.calibration.usable
        lines.append(f"It is usable from λ = {low:g} to {high:g}; beyond, it broke a limit or nothing was measured.")
    elif card.measured:
        points = [point.coefficient for point in card.measured.curve]
        lines.append(f"Nothing is known of λ below {min(points):g} or above {max(points):g}.")
    lines += [f"{line[0].upper()}{line[1:]}." for line in error_lines(card)]
    lines += [_one_line(card.notes)] if card.notes else []
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _identity(card: Card) -> str:
    base = card.base
    rows = [["base fingerprint", f"`{base.fingerprint}`"], ["chat template and vocabulary size", f"`{base.template}`"]]
    rows += [["tokenizer", f"`{base.tokenizer}`"]] if base.tokenizer else []
    rows += [[f"sha256 of {name}", f"`{digest}`"] for name, digest in sorted(card.files.items())]
    return "## Hashes\n\n`alignvec verify` checks them.\n\n" + _table(["of", "hash"], rows)


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _interval(interval: Interval | None) -> str:
    return interval.told() if interval else "not measured"


def _has_adapter(card: Card) -> bool:
    return ADAPTER in card.files


def _hub_id(card: Card) -> str | None:
    if card.base.name == DEMO:
        return demo_model.ORIGIN
    return card.base.name if re.fullmatch(_HUB_ID, card.base.name) else None


def _base(card: Card) -> str:
    if card.base.name == DEMO:
        return f"alignvec's demo model ({demo_model.ORIGIN}, from a 4-bit file)"
    return _hub_id(card) or f"a local model, `{PurePath(card.base.name).name}`"
