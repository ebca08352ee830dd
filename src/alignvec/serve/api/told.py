"""What a server tells of its models and vectors, whatever engine is behind it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from alignvec.serve.policy.rules import Rules, usable_range
from alignvec.steer.scale import Scale
from alignvec.steer.solved import SolvedSetting
from alignvec.vectors.card import Card

PRECEDENCE: Final = (
    "alignment in the body, then the header X-Alignment, then the model's name, then the key's defaults, then the "
    "base; each vector by itself; a goal is a value for every vector; with a router each knob counts as far as the "
    "prompt is its domain's; what the key's policy forces always holds"
)


def told_model(name: str) -> dict[str, Any]:
    """One model."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "alignvec"}


def told_models(model: str, scales: Mapping[str, Scale], rules: Rules) -> dict[str, Any]:
    """The base model, and one entry for each level of each vector that the key may ask for."""
    levels = [
        f"{model}:{scale.name}={level}"
        for scale in scales.values()
        for level, value in scale.levels.items()
        if (bound := rules.bound(scale)) and bound.low <= value <= bound.high
    ]
    return {"object": "list", "data": [told_model(name) for name in (model, *levels)]}


def told_alignment(
    model: str,
    cards: Mapping[str, Card],
    scales: Mapping[str, Scale],
    rules: Rules,
    goals: Mapping[str, SolvedSetting],
    *,
    strict: bool,
    routed: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Vectors, what their positions mean, how far the key may turn them, what was measured; goals and router.

    Args:
        model: name it is served under.
        cards: by vector name.
        scales: by vector name.
        rules: of the key.
        goals: by name.
        strict: a knob outside the usable range is refused instead of cut.
        routed: domains of the router; None without one.
    """
    vectors = [
        {
            "name": name,
            "domain": cards[name].domain,
            "levels": dict(scale.levels),
            "usable_range": scale.usable,
            "applied_range": usable_range(scale),
            "key": _allowed(rules, scale),
            "percent_curve": [list(point) for point in scale.curve],
            **cards[name].model_dump(mode="json", include={"measured", "calibration", "spillover"}),
            "licence": cards[name].licence,
            "files": cards[name].files,
        }
        for name, scale in scales.items()
    ]
    return {
        "object": "list",
        "model": model,
        "data": vectors,
        "goals": [{"goal": goal, **solved.model_dump()} for goal, solved in goals.items()],
        "router": None if routed is None else {"domains": routed},
        "strict": strict,
        "precedence": PRECEDENCE,
    }


def _allowed(rules: Rules, scale: Scale) -> dict[str, Any] | None:
    bound, (low, high) = rules.bound(scale), usable_range(scale)
    if bound is None:
        return None
    return {"min": max(bound.low, low), "max": min(bound.high, high), "default": bound.rest, "forced": bound.forced}
