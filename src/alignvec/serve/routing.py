"""A router beside the batch: it reads prompts on a twin of the base, whose knobs are always at 0."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from alignvec.models import BaseModel
from alignvec.serve.engine.twin import twin
from alignvec.serve.errors import OverloadedError
from alignvec.serve.policy.rules import Rules
from alignvec.serve.setting import Setting
from alignvec.steer.routed import domain_probabilities
from alignvec.steer.router import Router


class Routing:
    """Turns the settings of requests by what their users wrote.

    Args:
        router: made for the base.
        base: before an engine takes it: from then on there are knobs in its modules.
    """

    def __init__(self, router: Router, base: BaseModel) -> None:
        self._router = router
        self._base = twin(base)
        # One thread: tokenizer and cores are for one prompt at a time, also when the request is given up meanwhile.
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, "routing")

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains that it knows."""
        return self._router.card.domains

    async def turned(self, setting: Setting, turns: tuple[str, ...], rules: Rules, room: int) -> Setting:
        """A setting as it is applied to one prompt.

        Of each knob the share acts that `Router.turn` finds, but never less than the key's limits: what the policy
        forces, or does not let near 0, stays in force on every prompt.

        Args:
            setting: within the limits of `rules`, with its vectors.
            turns: what the user wrote, see `user_turns`.
            rules: of the request's key.
            room: how many requests the engine still takes.

        Raises:
            OverloadedError: if as many prompts wait for the router already.
        """
        if self._waiting >= room:
            raise OverloadedError(
                f"{self._waiting} prompts wait for the router, and there is no room for more; ask again in a moment",
                retry_after=1,
            )
        loop = asyncio.get_running_loop()
        self._waiting += 1
        try:
            found = await loop.run_in_executor(self._thread, domain_probabilities, self._router, self._base, turns)
        finally:
            self._waiting -= 1
        turned = self._router.turn(setting.applied, found, setting.vectors.domains)
        applied = {name: _held(value, setting, rules, name) for name, value in turned.items()}
        return setting.model_copy(update={"applied": applied, "routed": found})

    def close(self) -> None:
        """Take no more prompts."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _held(value: float, setting: Setting, rules: Rules, name: str) -> float:
    bound = rules.bound(setting.vectors.scales[name])
    return (value if bound is None else min(max(value, bound.low), bound.high)) + 0.0  # −0 becomes 0
