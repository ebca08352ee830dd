"""One load test of a server: find its model, send the load, sum it up, draw it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
from pydantic import BaseModel, ConfigDict, Field

from alignvec.data.teacher.endpoint import Endpoint
from alignvec.errors import ConfigError
from alignvec.provenance import Provenance, provenance
from alignvec.serve.load.client import open_client
from alignvec.serve.load.offer import offer, poisson_arrivals
from alignvec.serve.load.outcome import Outcome, chat_probe, parse_setting
from alignvec.serve.load.plot import plot_load
from alignvec.serve.load.summary import Goals, Summary, summarize


class LoadSettings(BaseModel):
    """What load to send.

    Attributes:
        url: base URL of an OpenAI-compatible server, with `/v1`.
        rate: requests per second, on average; they come as a Poisson process.
        requests: how many.
        settings: knobs as a user writes them; the requests take them in turn.
        max_tokens: longest reply.
        seed: of the arrivals.
        patience: seconds after which the client gives up on a request.
        goals: what counts towards the goodput.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    rate: float
    requests: int = Field(ge=1)
    settings: tuple[str, ...] = ("base",)
    max_tokens: int = Field(default=64, ge=1)
    seed: int = 0
    patience: float = 300.0
    goals: Goals = Goals()


class LoadReport(BaseModel):
    """The result of one load test."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: LoadSettings
    model: str
    prompts: int
    summary: Summary
    provenance: Provenance


def bench(
    settings: LoadSettings, prompts: Sequence[str], *, key_variable: str | None = None, plot: Path | None = None
) -> LoadReport:
    """Load a server with greedy chat completions; requests take the prompts and the settings in turn.

    Args:
        settings: the load.
        prompts: user messages.
        key_variable: environment variable with the API key.
        plot: where to draw the result (PNG).

    Raises:
        ConfigError: if the URL is none, the server does not answer or refuses the key, or the rate is not above 0.
        KnobError: if a setting cannot be read.
        StorageError: if the picture cannot be written.
    """
    for text in settings.settings:
        parse_setting(text)
    model, outcomes = asyncio.run(
        _load(settings, prompts, Endpoint(settings.url, key_variable=key_variable, role="server"))
    )
    if plot is not None:
        plot_load(outcomes, plot, title=f"{settings.requests} requests, {settings.rate:g}/s, to {model}")
    return LoadReport(
        config=settings,
        model=model,
        prompts=len(prompts),
        summary=summarize(outcomes, settings.goals),
        provenance=provenance(),
    )


async def served_model(client: httpx2.AsyncClient) -> str:
    """The id of the first model that a server lists.

    Raises:
        ConfigError: if it does not answer, refuses, or lists none.
    """
    url = client.base_url
    try:
        response = await client.get("/models", timeout=10.0)
    except (httpx2.HTTPError, OSError) as error:
        why = str(error) or type(error).__name__
        raise ConfigError(f"no server answers at {url} ({why}); start `alignvec serve`, or check --url") from None
    if response.status_code in (401, 403):
        raise ConfigError(f"{url} refuses the API key (status {response.status_code}); check --key-env")
    try:
        found: Any = response.raise_for_status().json()["data"][0]["id"]
    except (httpx2.HTTPStatusError, ValueError, TypeError, KeyError, IndexError):
        raise ConfigError(f"{url}models lists no model (status {response.status_code}); check --url") from None
    return str(found)


async def _load(settings: LoadSettings, prompts: Sequence[str], server: Endpoint) -> tuple[str, list[Outcome]]:
    due = poisson_arrivals(settings.rate, settings.requests, seed=settings.seed)
    async with open_client(server.base_url, key=server.key) as client:
        model = await served_model(client)
        probes = [
            chat_probe(
                prompts[i % len(prompts)],
                settings.settings[i % len(settings.settings)],
                model=model,
                max_tokens=settings.max_tokens,
                nonce=f"load-{settings.seed}-{i}",
            )
            for i in range(settings.requests)
        ]
        return model, await offer(client, probes, due, patience=settings.patience)
