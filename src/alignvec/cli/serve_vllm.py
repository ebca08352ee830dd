"""`alignvec serve --engine vllm`: vLLM's server with knobs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def serve_vllm(
    model: str,
    places: Sequence[Path],
    way: Any,
    *,
    address: tuple[str, int],
    dtype: str,
    batch: int,
    context: int | None,
    extra: Sequence[str],
    print_only: bool,
    **options: Any,
) -> None:
    """Check everything that can be checked, and become vLLM's server.

    Args:
        model: base model.
        places: of the vectors.
        way: `adapters` or `gate`.
        address: host and port.
        dtype: of the weights.
        batch: requests generated at the same time.
        context: tokens of prompt and reply.
        extra: options for vLLM.
        print_only: print its command line only.
        options: of `make_plan`.
    """
    from alignvec.engines.vllm.prepare import make_plan, require_vllm
    from alignvec.errors import KnobError
    from alignvec.serve.address import bind
    from alignvec.serve.api.knobs import served_name
    from alignvec.serve.goals import check_goals
    from alignvec.serve.policy.policy import load_policy
    from alignvec.serve.vllm.start import command, start
    from alignvec.steer.scale import scale_of
    from alignvec.steer.solved import read_settings, routing_mismatch
    from alignvec.vectors.store import load_card

    if options["goals"] and (wrong := routing_mismatch(options["goals"], router=False)):
        raise KnobError(wrong)
    if not print_only:
        require_vllm()
        bind(*address).close()
    plan = make_plan(model, places, way, name=served_name(model), **options)
    scales = {card.name: scale_of(card) for card in (load_card(place) for place in places)}
    if plan.policy:
        load_policy(plan.policy).check(scales)
    check_goals(read_settings(plan.goals) if plan.goals else {}, scales)
    line = command(plan, host=address[0], port=address[1], dtype=dtype, batch=batch, context=context, extra=extra)
    start(plan, line, print_only=print_only)
