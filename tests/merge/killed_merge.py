"""Merges in forked processes that SIGKILL themselves at the n-th thing they do to the disk; see test_staging.py.

Reads jobs as JSON lines: a recipe, `out`, places of the vectors, `overwrite`, and `die_at` (0: never). Answers each
with the number of things done to the disk, of tensors recorded, and whether the process was killed.
"""

import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignvec.merge import sums
from alignvec.merge.recipe import MergeRecipe
from alignvec.merge.run import merge
from alignvec.merge.staging import Staging


def deadly(die_at: int, tally: Callable[[int, int], None]) -> None:
    """Count what is done to the disk, and die in the middle of number `die_at`."""
    done, numbers = {"records": 0}, itertools.count(1)  # threads draw from it, so that no number is skipped

    def counted(original: Callable[..., Any], cut: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            number = next(numbers)
            tally(number, done["records"])
            if number == die_at:
                cut(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        return call

    pwrite, write, write_text, record = os.pwrite, os.write, Path.write_text, Staging.record
    os.pwrite = counted(pwrite, lambda file, data, at: pwrite(file, data[: len(data) // 2], at))
    os.write = counted(write, lambda file, data: write(file, data[: len(data) // 2]))
    Path.write_text = counted(  # type: ignore[method-assign]
        write_text, lambda path, text, *_: write_text(path, text[: len(text) // 2])
    )
    for holder, name in ((os, "ftruncate"), (os, "mkdir"), (os, "rename"), (os, "unlink"), (shutil, "copyfile")):
        setattr(holder, name, counted(getattr(holder, name), lambda *_: None))

    def recorded(self: Staging, tensor: str, value: Any) -> None:
        record(self, tensor, value)
        done["records"] += 1

    Staging.record = recorded  # type: ignore[method-assign]


def run(job: dict[str, Any], tally: int) -> None:
    """Merge in this process."""
    sums.BLOCK = 1 << 13
    deadly(job["die_at"], lambda things, records: os.pwritev(tally, [f"{things:9d}{records:9d}".encode()], 0) and None)
    places = {name: Path(place) for name, place in job["places"].items()}
    merge(MergeRecipe.model_validate(job["recipe"]), Path(job["out"]), vectors=places, overwrite=job["overwrite"])


def main() -> None:
    """Answer jobs until there are no more."""
    for line in sys.stdin:
        tally = os.memfd_create("tally")
        child = os.fork()
        if not child:
            try:
                run(json.loads(line), tally)
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        things, records = (int(part) for part in (os.pread(tally, 9, 0) or b"0", os.pread(tally, 9, 9) or b"0"))
        os.close(tally)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        answer = {"things": things, "records": records, "killed": killed, "failed": not killed and status != 0}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
