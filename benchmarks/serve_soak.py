"""Does a server live through load at twice its capacity, with clients that hang up, bad requests and reloads?

Capacity is measured first, with a burst. Then requests come at twice that rate; a tenth are malformed, a tenth hang up
at a random moment, and the vectors are reloaded with an admin key all the while. Each request carries a nonce as
`X-Request-Id`, and asks for a reply that was recorded when it was alone (greedy, float32), so that a reply to the wrong
client shows in its text. Resident memory is sampled, and its slope after warm-up is reported. Ends in one JSON line.
"""

import argparse
import asyncio
import json
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
from scipy import stats
from serving import VECTORS, Server, answered, burst, in_turn, queries, serving

from alignvec.provenance import provenance
from alignvec.serve.load.client import open_client
from alignvec.serve.load.offer import offer, poisson_arrivals
from alignvec.serve.load.outcome import Outcome, Probe, chat_probe
from alignvec.serve.load.summary import summarize
from alignvec.serve.policy.keys import key_hash, new_key

SETTINGS = ("base", "medical=1", "legal=-1,medical=0.5", "financial=-0.75", "medical=-1", "legal=0.5,financial=0.5")
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}
BAD: tuple[Any, ...] = (
    b"{no json",
    b"\xff\xfe\xfd",
    b"[]",
    json.dumps(CHAT | {"alignment": {"medical": math.nan}}).encode(),
    CHAT | {"alignment": {"nobody": 1}},
    CHAT | {"alignment": {"medical": {"deep": [1]}}},
    CHAT | {"alignment": {f"knob{i}": 1 for i in range(10_000)}},
    CHAT | {"max_tokens": -1},
    CHAT | {"model": "other"},
    CHAT | {"messages": "hello"},
    CHAT | {"messages": [{"role": "user", "content": "word " * 50_000}]},
)
UNANSWERED = ("unreachable", "cut", "timed out")


@contextmanager
def policy(*names: str) -> Iterator[tuple[Path, list[str]]]:
    """A policy file with a key for each name, the last one an admin's, and the keys."""
    keys = [new_key() for _ in names]
    entries = [{"name": n, "hash": key_hash(k), "admin": n == names[-1]} for n, k in zip(names, keys, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.yaml"
        path.write_text(json.dumps({"keys": entries}))  # JSON is YAML
        yield path, keys


def recorded(server: Server, key: str, new: int) -> list[tuple[str, str, str]]:
    """Query, setting and reply of requests that were alone."""
    pairs = list(zip(queries(2 * len(SETTINGS)), SETTINGS * 2, strict=True))
    found = in_turn(server.url, [chat_probe(q, s, model="demo", max_tokens=new) for q, s in pairs], key=key)
    return [(q, s, one.text) for (q, s), one in zip(pairs, answered(found), strict=True)]


def load_of(
    known: Sequence[tuple[str, str, str]], count: int, new: int, stay: float, draw: random.Random
) -> tuple[list[Probe], dict[str, str | None]]:
    """Requests, and the reply that each nonce should get; None for bad requests."""
    probes, wanted = [], dict[str, str | None]()
    for i in range(count):
        nonce, kind = f"soak-{i}-{draw.getrandbits(48):012x}", draw.random()
        if kind < 0.1:
            probes.append(Probe(draw.choice(BAD), "bad", nonce))
            wanted[nonce] = None
            continue
        query, setting, text = draw.choice(known)
        leave = draw.uniform(0.0, stay) if kind < 0.2 else None
        probes.append(chat_probe(query, setting, model="demo", max_tokens=new, nonce=nonce, leave_after=leave))
        wanted[nonce] = text
    return probes, wanted


def is_wrong(outcome: Outcome, text: str | None) -> bool:
    """Whether a reply is another request's: it has another text or, cut short, another beginning."""
    if text is None:
        return bool(outcome.text)
    return outcome.text != text if outcome.kind == "answered" else not text.startswith(outcome.text)


def nonce_of(outcome: Outcome) -> str:
    """Whose nonce came back; a server that makes ids of its own gives `nobody's`, and texts alone tell."""
    if outcome.echoed is None:
        return "none"
    if outcome.echoed == outcome.probe.nonce:
        return "own"
    return "another's" if outcome.echoed.startswith("soak-") else "nobody's"


async def watch(pid: int, samples: list[tuple[float, float]], every: float) -> None:
    """Add (minutes, MiB resident) until cancelled."""
    process, start = psutil.Process(pid), time.monotonic()
    while True:
        samples.append(((time.monotonic() - start) / 60, process.memory_info().rss / 2**20))
        await asyncio.sleep(every)


async def reloads(url: str, key: str, every: float, statuses: Counter[str]) -> None:
    """Reload the vectors again and again until cancelled."""
    async with open_client(url, key=key) as client:
        while True:
            await asyncio.sleep(every)
            try:
                statuses[str((await client.post("/alignment/reload", timeout=120)).status_code)] += 1
            except httpx2.HTTPError as error:
                statuses[type(error).__name__] += 1


async def soak(
    server: Server, keys: Sequence[str], probes: Sequence[Probe], due: Sequence[float], every: float
) -> tuple[list[Outcome], list[tuple[float, float]], Counter[str]]:
    samples: list[tuple[float, float]] = []
    statuses: Counter[str] = Counter()
    async with open_client(server.url, key=keys[0]) as client, asyncio.TaskGroup() as group:
        beside = [group.create_task(reloads(server.url, keys[-1], every, statuses))]
        if server.pid:
            beside.append(group.create_task(watch(server.pid, samples, 1.0)))
        outcomes = await offer(client, probes, due, patience=600)
        for task in beside:
            task.cancel()
    return outcomes, samples, statuses


def slope(samples: Sequence[tuple[float, float]]) -> dict[str, float] | None:
    """MiB per minute by least squares, with a 95 % interval (errors taken as independent), after the first quarter."""
    kept = samples[len(samples) // 4 :]
    if len(kept) < 10:
        return None
    fit = stats.linregress([x for x, _ in kept], [y for _, y in kept])
    half = float(stats.t.ppf(0.975, len(kept) - 2)) * fit.stderr
    values = {"value": fit.slope, "low": fit.slope - half, "high": fit.slope + half}
    return {name: round(float(value), 3) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--overload", type=float, default=2.0, help="times the measured capacity")
    parser.add_argument("--reload-every", type=float, default=15.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--url", help="a running server without a policy; default: one is started")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        path, keys = stack.enter_context(policy("load", "admin"))
        server = stack.enter_context(serving(chosen.url, "--vectors", str(VECTORS), "--policy", str(path)))
        known = recorded(server, keys[0], chosen.new_tokens)
        full = [chat_probe(q, s, model="demo", max_tokens=chosen.new_tokens) for q, s, _ in known] * 2
        capacity = summarize(burst(server.url, full, key=keys[0])).requests_per_s
        rate = chosen.overload * capacity
        count = max(1, round(rate * 60 * chosen.minutes))
        print(f"capacity {capacity:.2f}/s; {count} requests", file=sys.stderr)
        stay = 2 * len(full) / capacity
        probes, wanted = load_of(known, count, chosen.new_tokens, stay, random.Random(chosen.seed))
        due = poisson_arrivals(rate, count, seed=chosen.seed)
        outcomes, samples, statuses = asyncio.run(soak(server, keys, probes, due, chosen.reload_every))
        after = in_turn(server.url, full[: len(known)], key=keys[0])
        lives = psutil.Process(server.pid).status() != psutil.STATUS_ZOMBIE if server.pid else None
    bad = [one for one in outcomes if wanted[one.probe.nonce] is None]
    refused = [one for one in outcomes if one.status == 429]
    print(
        json.dumps(
            {
                "benchmark": "serve_soak",
                "same_process_lives": lives,
                "without_an_answer": sum(one.kind in UNANSWERED for one in outcomes) + count - len(outcomes),
                "wrong_replies": sum(is_wrong(one, wanted[one.probe.nonce]) for one in outcomes),
                "nonces": dict(Counter(nonce_of(one) for one in outcomes)),
                "bad_requests": dict(Counter(str(one.status) for one in bad)),
                "5xx": sum((one.status or 0) >= 500 for one in outcomes),
                "refused_without_retry_after": sum(one.retry_after is None for one in refused),
                "reloads": dict(statuses),
                "right_replies_afterwards": sum(o.text == k[2] for o, k in zip(after, known, strict=True)),
                "recorded_replies": len(known),
                "rss_mib_per_minute": slope(samples),
                "rss_mib": [round(m, 1) for _, m in samples[:: max(1, len(samples) // 20)]],
                "capacity_requests_per_s": round(capacity, 3),
                "summary": summarize(outcomes).model_dump(),
                "errors": dict(Counter(o.error for o in outcomes if o.kind in ("failed", *UNANSWERED)).most_common(5)),
                "config": vars(chosen) | {"settings": SETTINGS},
                **provenance().model_dump(),
            }
        )
    )


if __name__ == "__main__":
    main()
