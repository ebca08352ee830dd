"""Throughput and memory of building preference data, against a scripted teacher that takes 20 ms an answer.

The server's own limit is measured in the same round: a bare client sends it the bodies of the build, byte for byte, as
fast as it takes them. Ends in one JSON line: the share of that limit that the build reaches, and peak memory at a tenth
of the rows and at all of them.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from alignvec.provenance import provenance

ROOT = Path(__file__).resolve().parents[1]
LATENCY = 0.02
PROGRAM = """
import json, resource, sys
from pathlib import Path
from alignvec.data.synthesis.build import build
from alignvec.data.synthesis.job import Job
from alignvec.data.synthesis.prompts import load_prompts
from alignvec.data.synthesis.settings import BuildSettings
from alignvec.data.domain import load_domain
from alignvec.data.teacher.endpoint import Endpoint
url, out, personas, in_flight = sys.argv[1:]
settings = BuildSettings(domain=load_domain("medical"), prompts=load_prompts(), teacher="scripted", judge="scripted")
report = build(Job(settings, Path(out), int(personas), Endpoint(url, in_flight=int(in_flight))))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"rows": report.rows.made, "answers": report.spending.answers, "seconds": report.spending.seconds,
                  "peak_mib": round(peak, 1)}))
"""


@contextmanager
def teacher(slots: int, *options: str) -> Iterator[str]:
    """URL of a scripted teacher in a process of its own."""
    command = [sys.executable, str(ROOT / "tests" / "scripted_teacher.py"), "--latency", str(LATENCY)]
    with subprocess.Popen([*command, "--slots", str(slots), *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def build(rows: int, slots: int, in_flight: int, log: Path) -> dict[str, float]:
    """Build so many rows in a process of its own; the bodies that the teacher got are in the log."""
    with tempfile.TemporaryDirectory() as folder, teacher(slots, "--log", str(log)) as url:
        command = [sys.executable, "-c", PROGRAM, url, folder, str(rows // 2), str(in_flight)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    result: dict[str, float] = json.loads(done.stdout)
    return result | {"answers_per_s": round(result["answers"] / result["seconds"], 1)}


async def replay(url: str, bodies: list[bytes], in_flight: int) -> float:
    """Answers a second that a bare client gets: so many connections, each asks again as soon as it is answered."""
    address = urlsplit(url)
    left = iter(bodies)

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for body in left:
            head = f"POST {address.path}/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", answer.lower())
            assert length is not None
            await reader.readexactly(int(length[1]))
        writer.close()

    started = time.monotonic()
    await asyncio.gather(*(connection() for _ in range(in_flight)))
    return len(bodies) / (time.monotonic() - started)


def measure(rows: int, slots: int, in_flight: int) -> dict[str, float]:
    """One build, and the limit of the server for its bodies."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "bodies"
        result = build(rows, slots, in_flight, log)
        bodies = log.read_bytes().splitlines()
        with teacher(slots) as url:
            limit = asyncio.run(replay(url, bodies, in_flight))
    return result | {"limit_per_s": round(limit, 1), "share": round(result["answers_per_s"] / limit, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    started = time.time()
    small = measure(chosen.rows // 10, chosen.slots, chosen.in_flight)
    rounds = [measure(chosen.rows, chosen.slots, chosen.in_flight) for _ in range(chosen.rounds)]
    shares = [one["share"] for one in rounds]
    print(
        json.dumps(
            {
                "benchmark": "data_build",
                "config": vars(chosen) | {"latency_s": LATENCY},
                "share_of_limit": {"median": statistics.median(shares), "rounds": shares},
                "peak_mib": {str(one["rows"]): one["peak_mib"] for one in (small, rounds[0])},
                "runs": rounds,
                "seconds": round(time.time() - started, 1),
                **provenance().model_dump(),
            }
        )
    )


if __name__ == "__main__":
    main()
