"""Vectors to and from a hub: nothing changes on the way, and what is damaged, foreign or refused leaves nothing."""

import errno
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hub_server import TOKEN, Hub, point_client_at, serve
from huggingface_hub.errors import OfflineModeIsEnabled

from alignvec.errors import AlignvecError, StorageError, VectorError
from alignvec.vectors.delta import DenseDelta
from alignvec.vectors.hub import _hub_errors, pull, push
from alignvec.vectors.store import load_vector, save_vector
from alignvec.vectors.vector import AlignmentVector, Deltas
from tests.conftest import MakeVector

REPO = "me/medical"
HINGED = {
    *("card.json", "README.md", "adapter_config.json", "adapter_model.safetensors"),
    *("negative/adapter_config.json", "negative/adapter_model.safetensors"),
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as found:
        point_client_at(found.url, monkeypatch)
        yield found


@pytest.fixture
def folder(make_vector: MakeVector, tmp_path: Path) -> Path:
    save_vector(make_vector(), tmp_path / "v")
    return tmp_path / "v"


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def dense(deltas: Deltas | None) -> dict[str, torch.Tensor]:
    return {name: delta.dense() for name, delta in (deltas or {}).items()}


def assert_equal(found: AlignmentVector, expected: AlignmentVector) -> None:
    assert found.card == expected.card
    for ours, theirs in ((found.positive, expected.positive), (found.negative, expected.negative)):
        before, after = dense(theirs), dense(ours)
        assert before.keys() == after.keys()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_pushed_and_pulled_is_the_same_to_the_byte(hub: Hub, folder: Path, tmp_path: Path) -> None:
    assert push(folder, REPO) == f"{hub.url}/{REPO}"
    remote = hub.repos[REPO].files()
    assert remote.keys() - {".gitattributes"} == HINGED
    assert {name: remote[name] for name in content(folder)} == content(folder)
    assert len(hub.lfs) == 2

    assert pull(REPO, tmp_path / "w") == tmp_path / "w"
    assert content(tmp_path / "w") == {name: remote[name] for name in HINGED}
    assert_equal(load_vector(tmp_path / "w"), load_vector(folder))


def test_dense_and_mixed_vectors_travel_too(hub: Hub, make_vector: MakeVector, tmp_path: Path) -> None:
    low = make_vector(hinged=False)
    deltas = {**low.positive, "model.norm.weight": DenseDelta(torch.randn(32))}
    save_vector(AlignmentVector(low.card, deltas), tmp_path / "v")
    push(tmp_path / "v", REPO)
    assert "deltas.safetensors" in hub.repos[REPO].files()
    pull(REPO, tmp_path / "w")
    assert_equal(load_vector(tmp_path / "w"), load_vector(tmp_path / "v"))


def test_the_commands_in_the_model_card_name_the_repository(hub: Hub, folder: Path) -> None:
    push(folder, REPO)
    assert f"alignvec pull {REPO} --out medical" in hub.repos[REPO].files()["README.md"].decode()


def test_only_the_vector_is_uploaded_in_one_commit(hub: Hub, folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    push(folder, REPO)
    assert "notes.txt" not in hub.repos[REPO].files()
    assert [path for _, path in hub.asked if "/commit/" in path] == [f"/api/models/{REPO}/commit/main"]


def test_a_smaller_vector_leaves_nothing_of_the_larger(hub: Hub, folder: Path, make_vector: MakeVector) -> None:
    push(folder, REPO)
    hub.repos[REPO].files()["LICENSE"] = b"theirs"
    save_vector(make_vector(hinged=False, seed=7), folder)
    push(folder, REPO)
    names = {"card.json", "README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert hub.repos[REPO].files().keys() == {*names, ".gitattributes", "LICENSE"}
    pull(REPO, folder.parent / "w")
    assert_equal(load_vector(folder.parent / "w"), load_vector(folder))


def test_the_same_vector_pushed_again_changes_nothing(hub: Hub, folder: Path) -> None:
    push(folder, REPO)
    before = dict(hub.repos[REPO].commits)
    assert push(folder, REPO) == f"{hub.url}/{REPO}"
    assert hub.repos[REPO].commits == before


def test_a_branch_holds_another_version(hub: Hub, folder: Path, make_vector: MakeVector, tmp_path: Path) -> None:
    push(folder, REPO)
    save_vector(make_vector(seed=7), tmp_path / "second")
    assert push(tmp_path / "second", REPO, revision="v2") == f"{hub.url}/{REPO}/tree/v2"
    for revision, expected in ((None, folder), ("v2", tmp_path / "second"), (hub.repos[REPO].branches["main"], folder)):
        pull(REPO, tmp_path / "w", revision=revision)
        assert_equal(load_vector(tmp_path / "w"), load_vector(expected))
    with pytest.raises(VectorError, match=r"me/medical has no revision 'v3'; check --revision"):
        pull(REPO, tmp_path / "w", revision="v3")


def test_a_branch_is_pushed_to_again_and_cleared_of_its_own_files(
    hub: Hub, folder: Path, make_vector: MakeVector, tmp_path: Path
) -> None:
    save_vector(make_vector(hinged=False, seed=7), tmp_path / "small")
    push(tmp_path / "small", REPO)  # the main branch never has the files of a second side
    push(folder, REPO, revision="v2")
    push(tmp_path / "small", REPO, revision="v2")
    pull(REPO, tmp_path / "w", revision="v2")
    assert not (tmp_path / "w/negative").exists()
    assert_equal(load_vector(tmp_path / "w"), load_vector(tmp_path / "small"))


def test_private_means_private(hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push(folder, REPO, private=True)
    assert hub.repos[REPO].private
    push(folder, "me/open")
    with pytest.raises(VectorError, match=r"me/open is there already and is public"):
        push(folder, "me/open", private=True)
    point_client_at(hub.url, monkeypatch, token=None)
    with pytest.raises(VectorError, match=r"no repository me/medical, or does not show it to you"):
        pull(REPO, tmp_path / "w")
    pull(REPO, tmp_path / "w", token=TOKEN)


@pytest.mark.parametrize("path", sorted(name for name in HINGED if name.endswith(".safetensors")))
def test_an_altered_tensor_is_refused_and_leaves_nothing(hub: Hub, folder: Path, tmp_path: Path, path: str) -> None:
    push(folder, REPO)
    files = hub.repos[REPO].files()
    altered = bytearray(files[path])
    altered[-5] ^= 1
    files[path] = bytes(altered)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(VectorError, match=rf"vector in me/medical is damaged \(files: {path} is damaged or was alt"):
        pull(REPO, tmp_path / "w")
    assert sorted(tmp_path.rglob("*")) == before

    save_vector(load_vector(folder), tmp_path / "w")
    old = content(tmp_path / "w")
    with pytest.raises(VectorError, match="is damaged"):
        pull(REPO, tmp_path / "w")
    assert content(tmp_path / "w") == old


@pytest.mark.parametrize("path", ["negative/adapter_model.safetensors", "adapter_config.json"])
def test_a_missing_file_is_refused(hub: Hub, folder: Path, tmp_path: Path, path: str) -> None:
    push(folder, REPO)
    del hub.repos[REPO].files()[path]
    with pytest.raises(VectorError, match=rf"vector in me/medical is damaged .*{path}"):
        pull(REPO, tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_a_damaged_vector_is_not_pushed(hub: Hub, folder: Path) -> None:
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "lora_alpha": 64}))
    with pytest.raises(VectorError, match=r"is damaged \(adapter settings: .*alpha 64"):
        push(folder, REPO)
    assert hub.asked == []


def test_a_plain_adapter_names_the_command_that_makes_a_vector(hub: Hub, folder: Path, tmp_path: Path) -> None:
    files = {name: data for name, data in content(folder).items() if name != "card.json"}
    hub.add(REPO, files)
    with pytest.raises(VectorError, match=r"me/medical is a PEFT adapter, but no vector .* alignvec extract --aligned"):
        pull(REPO, tmp_path / "w")
    with pytest.raises(VectorError, match=r"me/medical holds something else than a vector"):
        push(folder, REPO)
    assert hub.repos[REPO].files() == files
    hub.add("me/other", {"model.safetensors": b"x" * 64})
    with pytest.raises(VectorError, match=r"me/other holds no vector \(it has no card.json\)"):
        pull("me/other", tmp_path / "w")
    assert not (tmp_path / "w").exists()
    assert not [path for _, path in hub.asked if "/resolve/" in path]


def test_what_is_not_of_a_vector_is_not_fetched(hub: Hub, folder: Path, tmp_path: Path) -> None:
    push(folder, REPO)
    hub.repos[REPO].files().update({"model.safetensors": b"big", "pytorch_model.bin": b"pickle", "x/../y": b"out"})
    pull(REPO, tmp_path / "w")
    assert content(tmp_path / "w").keys() == HINGED


def test_a_folder_of_something_else_is_not_replaced(hub: Hub, folder: Path, tmp_path: Path) -> None:
    push(folder, REPO)
    (tmp_path / "w").mkdir()
    (tmp_path / "w/thesis.txt").write_text("mine")
    for place in (tmp_path / "w", tmp_path / "w/thesis.txt"):
        with pytest.raises(StorageError, match=rf"cannot write {place}: something else than a vector"):
            pull(REPO, place)
    assert content(tmp_path / "w") == {"thesis.txt": b"mine"}


@pytest.mark.parametrize(
    ("repo", "token", "message"),
    [
        (REPO, "hf_wrong", r"does not accept the token for me/medical \(HTTP 401\); check the token"),
        (REPO, None, "me/medical"),
        ("me/nowhere", TOKEN, r"no repository me/nowhere, or does not show it to you"),
        ("me/nowhere", None, r"no repository me/nowhere, or does not show it to you"),
        ("not a/name/at all", TOKEN, r"'not a/name/at all' is no name that the hub takes; write OWNER/NAME"),
    ],
)
def test_what_the_hub_refuses_is_one_line_without_the_token(
    hub: Hub,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    repo: str,
    token: str | None,
    message: str,
) -> None:
    push(folder, REPO, private=True)
    point_client_at(hub.url, monkeypatch, token=token)
    calls = [lambda: pull(repo, tmp_path / "w")]
    if not repo.endswith("nowhere"):
        calls.append(lambda: push(folder, repo))
    for call in calls:
        with pytest.raises(VectorError, match=message) as failure:
            call()
        assert "\n" not in str(failure.value)
        assert "hf_" not in str(failure.value)
    assert not (tmp_path / "w").exists()


def test_a_disk_that_takes_no_more_is_one_line(hub: Hub, folder: Path, tmp_path: Path) -> None:
    push(folder, REPO)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(StorageError, match=r"cannot store me/medical \(File too large\)") as failure:
            pull(REPO, tmp_path / "w")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(failure.value)
    assert [p.name for p in tmp_path.iterdir()] == ["v"]


def test_a_hub_that_is_down_is_one_line(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve() as gone:
        pass
    point_client_at(gone.url, monkeypatch)
    for call in (lambda: pull(REPO, tmp_path / "w"), lambda: push(folder, REPO)):
        with pytest.raises(AlignvecError, match=r"cannot reach the hub for me/medical \(ConnectError\)") as failure:
            call()
        assert "\n" not in str(failure.value)
    assert [p.name for p in tmp_path.iterdir()] == ["v"]


class Refused(Exception):
    """What the client raises, as far as its status is concerned."""

    def __init__(self, status: int) -> None:
        self.response = SimpleNamespace(status_code=status)


CHECK = "check the token ($HF_TOKEN, or hf auth login)"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Refused(401), f"the hub does not accept the token for me/medical (HTTP 401); {CHECK}"),
        (Refused(403), f"the hub does not let this token write for me/medical (HTTP 403); {CHECK}"),
        (Refused(404), f"the hub has no repository me/medical, or does not show it to you; check the name, or {CHECK}"),
        (Refused(500), "the hub refused me/medical with HTTP 500; try again later"),
        (
            OfflineModeIsEnabled("off"),
            "cannot reach the hub for me/medical, because $HF_HUB_OFFLINE is set; unset it",
        ),
        (RuntimeError("x"), "cannot reach the hub for me/medical (RuntimeError); check the network and $HF_ENDPOINT"),
        (
            ConnectionRefusedError("no"),
            "cannot reach the hub for me/medical (ConnectionRefusedError); check the network and $HF_ENDPOINT",
        ),
    ],
    ids=["token", "writing", "repository", "status", "offline", "unknown", "network"],
)
def test_every_way_to_fail_has_its_line(error: Exception, message: str) -> None:
    with pytest.raises(VectorError) as caught, _hub_errors(REPO, None):
        raise error
    assert str(caught.value) == message


@pytest.mark.parametrize("cause", [Refused(500), None])
def test_what_the_hub_said_is_found_behind_other_errors(cause: Exception | None) -> None:
    with pytest.raises(VectorError, match="HTTP 500"), _hub_errors(REPO, None):
        try:
            raise Refused(500)
        except Refused:
            raise KeyError("name") from cause


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_locked_disk_is_no_fault_of_the_hub(number: int) -> None:
    told = rf"^cannot store me/medical \({os.strerror(number)}\); free some space or choose another place$"
    with pytest.raises(StorageError, match=told), _hub_errors(REPO, None):
        raise RuntimeError("download failed") from OSError(number, os.strerror(number))
