"""The model card: front matter that YAML reads, and every figure of the card where a reader looks for it."""

from typing import Any

import pytest
import yaml

from alignvec.vectors.card import BaseReference, Card, CurvePoint, Measurement
from alignvec.vectors.model_card import model_card
from alignvec.vectors.strict import Interval
from tests.solve.rule_knob import RuleKnob, calibrated

FINGERPRINT, TEMPLATE, TOKENIZER = "f" * 64, "a" * 64, "b" * 64


def point(coefficient: float, expert: float) -> CurvePoint:
    rates = {"expert": Interval(value=expert, low=expert - 0.125, high=expert + 0.125)}
    margin = Interval(value=2 * coefficient, low=2 * coefficient - 0.5, high=2 * coefficient + 0.5)
    return CurvePoint(
        coefficient=coefficient,
        preference_rate={"per_token": rates, "raw": rates},
        margin=margin,
        margin_sum=margin,
        level_rate=rates if coefficient else {},
    )


def make_card(**fields: Any) -> Card:
    base = BaseReference(
        name="owner/base-1B", fingerprint=FINGERPRINT, template=TEMPLATE, tokenizer=TOKENIZER, licence="llama3.2"
    )
    settled: dict[str, Any] = {
        "name": "medical",
        "domain": "medical",
        "levels": ("avoidance", "expert"),
        "form": "hinged",
        "method": "hinged",
        "base": base,
        "recipe": {"seed": 11, "order": "a|b", "limit": None},
        "versions": {"torch": "9.9"},
        "settings": {"avoidance": -1.0, "expert": 1.5},
        "licence": "Apache-2.0",
        "files": {"adapter_model.safetensors": "c" * 64, "negative/adapter_model.safetensors": "d" * 64},
    }
    return Card(**{**settled, **fields})


def front_matter(text: str) -> dict[str, Any]:
    head, front, _ = text.split("---\n", 2)
    assert head == ""
    found = yaml.safe_load(front)
    assert isinstance(found, dict)
    return found


def table(text: str, heading: str) -> list[list[str]]:
    """Cells of the table under a heading, its header row first."""
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if set(row[0].strip()) != {"-"}]


def test_front_matter() -> None:
    assert front_matter(model_card(make_card())) == {
        "license": "apache-2.0",
        "base_model": "owner/base-1B",
        "library_name": "alignvec",
        "tags": ["alignvec", "alignment-vector", "medical", "lora"],
    }


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("MIT", {"license": "mit"}),
        ("unknown", {}),
        ("Apache-2.0 AND My Own: v2", {"license": "other", "license_name": "apache-2.0-and-my-own-v2"}),
    ],
)
def test_a_licence_is_one_the_hub_knows_or_other_with_a_name(licence: str, fields: dict[str, str]) -> None:
    text = model_card(make_card(licence=licence))
    assert {k: v for k, v in front_matter(text).items() if k.startswith("license")} == fields
    assert f"Vector: {licence}. Base model: llama3.2." in text


@pytest.mark.parametrize(
    ("base", "expected"),
    [("demo", "HuggingFaceTB/SmolLM2-135M-Instruct"), ("/home/somebody/models/secret", None), ("./models", None)],
)
def test_the_base_is_a_hub_id_or_left_out(base: str, expected: str | None) -> None:
    reference = BaseReference(name=base, fingerprint=FINGERPRINT, template=TEMPLATE)
    text = model_card(make_card(base=reference))
    assert front_matter(text).get("base_model") == expected
    assert "/home/somebody" not in text
    assert "Base model: not recorded." in text


def test_the_tables_hold_the_settings_and_the_curve_in_order_of_lambda() -> None:
    measured = Measurement(
        data="medical.jsonl test",
        queries=40,
        generation={"temperature": 0.7},
        judge="judge: 0.99",
        curve=[point(1.0, 0.75), point(-1.0, 0.25), point(0.0, 0.5)],
    )
    text = model_card(make_card(measured=measured))
    assert table(text, "Settings") == [["level", "λ"], ["avoidance", "-1"], ["expert", "1.5"]]
    header, *rows = table(text, "Measured")
    assert header == ["λ", "margin, nats a token", "expert preferred", "expert replies", "degenerate"]
    assert rows == [
        ["-1", "-2.00 [-2.50, -1.50]", "0.25 [0.12, 0.38]", "0.25 [0.12, 0.38]", "not measured"],
        ["0", "0.00 [-0.50, 0.50]", "0.50 [0.38, 0.62]", "not measured", "not measured"],
        ["1", "2.00 [1.50, 2.50]", "0.75 [0.62, 0.88]", "0.75 [0.62, 0.88]", "not measured"],
    ]
    for part in ("40 held-out queries (medical.jsonl test)", "temperature 0.7", "judge: 0.99"):
        assert part in text
    assert "Nothing is known of λ below -1 or above 1." in text
    assert "Nothing was measured." in model_card(make_card())


def test_a_calibration_is_told_with_the_rates_at_its_positions() -> None:
    found = calibrated(RuleKnob(perplexity=lambda value: 1.0 if value < 1.2 else 2.0))
    settings = {**found.settings, "by hand": 0.123}
    text = model_card(make_card(calibration=found.model_copy(update={"settings": settings})))
    assert "Nothing was measured" not in text and "## Measured" not in text
    header, *rows = table(text, "Calibration")
    assert header == ["level", "λ", "expert replies", "replies above avoidance"]
    assert [row[:2] for row in rows] == [[level, f"{value:g}"] for level, value in settings.items()]
    at = next(point for point in found.curve if point.coefficient == found.settings["expert"]).level_rate.highest
    assert at.value > 0.9 and rows[2][2] == f"{at.value:.2f} [{at.low:.2f}, {at.high:.2f}]"
    assert rows[3][2:] == ["not measured"] * 2
    low, high = found.usable
    assert f"Usable from λ = {low:g} (nothing was measured beyond) to {high:g} (at λ = " in text
    assert found.judge in text


def test_recipe_hashes_errors_and_notes_are_there() -> None:
    text = model_card(make_card(error={"storage_rounding": 2e-4, "compression": 0.25}, notes="Made\nby hand."))
    assert ["seed", "`11`"] in table(text, "Recipe")
    assert ["version of torch", "`9.9`"] in table(text, "Recipe")
    assert "| order | `a\\|b` |" in text
    assert "limit" not in text.split("## Recipe")[1].split("##")[0]
    assert table(text, "Hashes")[1:] == [
        ["base fingerprint", f"`{FINGERPRINT}`"],
        ["chat template and vocabulary size", f"`{TEMPLATE}`"],
        ["tokenizer", f"`{TOKENIZER}`"],
        ["sha256 of adapter_model.safetensors", f"`{'c' * 64}`"],
        ["sha256 of negative/adapter_model.safetensors", f"`{'d' * 64}`"],
    ]
    assert "- Storage rounding: relative error of a tensor at most 2.0e-04." in text
    assert "- Compression: relative error over all tensors 2.5e-01." in text
    assert "- Made by hand." in text


def test_usage_names_repository_knob_and_what_peft_reads() -> None:
    text = model_card(make_card(), repo_id="me/mine")
    assert "alignvec pull me/mine --out medical" in text
    assert "--model owner/base-1B --vectors medical --knob medical=1.5" in text
    assert 'from_pretrained(base, "me/mine")' in text
    assert 'subfolder="negative"' in text
    dense = model_card(make_card(form="single", method="one-sided", files={"deltas.safetensors": "e" * 64}))
    assert "PeftModel" not in dense
    assert "lora" not in front_matter(dense)["tags"]
    assert "alignvec pull OWNER/medical" in dense


def test_python_in_the_card_is_python() -> None:
    blocks = model_card(make_card()).split("```python\n")[1:]
    assert len(blocks) == 2
    for block in blocks:
        compile(block.split("```")[0], "README.md", "exec")


def test_the_same_card_gives_the_same_text() -> None:
    card = make_card()
    assert model_card(card) == model_card(Card.model_validate_json(card.model_dump_json()))
