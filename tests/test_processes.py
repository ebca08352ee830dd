"""One job in several processes: who is who, what is shared out, and how the end of one is told to the others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alignvec import processes
from alignvec.errors import ProcessError
from alignvec.files import atomic_folder, write_text
from tests.together import together


def test_without_a_launch_there_is_one_process_and_no_library_is_loaded() -> None:
    code = (
        "import sys; from alignvec import processes as p\n"
        "assert (p.count(), p.index(), p.is_main()) == (1, 0, True)\n"
        "assert p.gather(7) == [7] and p.on_main(lambda: 8) == 8 and p.share([1, 2]) == [1, 2] and p.first_to_fail()\n"
        "assert not {'torch', 'accelerate'} & sys.modules.keys()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_bare_size_of_the_world_is_no_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("RANK", raising=False)
    assert processes.count() == 1


def test_shares_are_disjoint_and_complete() -> None:
    shares = together(lambda: list(processes.share(range(7))), 3)
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]


def test_all_know_what_each_has_and_what_the_main_one_says() -> None:
    def work() -> tuple[list[object], int]:
        return processes.gather({"process": processes.index()}), processes.on_main(os.getpid)

    first, second = together(work)
    assert first[0] == second[0] == [{"process": 0}, {"process": 1}]
    assert first[1] == second[1]


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    def work() -> None:
        write_text(tmp_path / "text", str(processes.index()))
        processes.gather(None)
        with atomic_folder(tmp_path / f"folder {processes.index()}") as staging:
            (staging / "file").touch()

    together(work)
    assert (tmp_path / "text").read_text() == "0"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder 0", "text"]


def test_who_waits_for_a_process_that_has_ended_is_told_so() -> None:
    def work() -> str:
        processes.gather(None)
        if processes.index() == 1:
            from torch.distributed import destroy_process_group

            destroy_process_group()  # closes the connections, as the end of a process does
            return "ended"
        with pytest.raises(ProcessError, match="another of the 2 processes has ended") as error:
            processes.gather(None)
        return type(error.value).__name__

    assert together(work) == ["ProcessError", "ended"]


def test_one_of_those_that_fail_tells() -> None:
    def work() -> bool:
        processes.gather(None)
        return processes.first_to_fail()

    assert sorted(together(work, 3)) == [False, False, True]


def test_who_goes_on_alone_is_the_only_one() -> None:
    def work() -> tuple[int, int]:
        processes.leave()
        return processes.count(), processes.index()

    assert together(work) == [(1, 0), (1, 0)]
