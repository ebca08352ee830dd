"""`verify`, `push` and `pull` as commands: what they print, their exit codes, and one line for every mistake."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Hub, point_client_at, serve
from running import Command, assert_told, prepared

from alignvec.vectors.store import load_card, save_vector
from tests.conftest import MakeVector

REPO = "me/medical"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return prepared(monkeypatch, capsys, tmp_path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as found:
        point_client_at(found.url, monkeypatch)
        yield found


@pytest.fixture
def folder(make_vector: MakeVector, tmp_path: Path) -> Path:
    save_vector(make_vector(), tmp_path / "v")
    return tmp_path / "v"


def damage(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def test_verify_prints_a_line_for_every_check(command: Command, folder: Path, tiny_folder: Path) -> None:
    done = command("verify", folder)
    assert (done.code, done.errors) == (0, [])
    name, *lines = done.out.splitlines()
    assert name == f"medical ({folder})"
    assert [line.split()[0] for line in lines] == ["ok"] * 3 + ["skipped"] + ["ok"] * 6 + ["skipped", "ok"]
    assert command("verify", folder, "--base", tiny_folder).code == 0


def test_verify_as_json(command: Command, folder: Path) -> None:
    done = command("verify", folder, "--json")
    (vector,) = json.loads(done.out)["vectors"]
    assert (done.code, vector["name"], vector["folder"]) == (0, "medical", str(folder))
    assert vector["checks"][1] == {"name": "files", "state": "ok", "detail": "2 with the card's sha256"}


def test_verify_of_a_damaged_vector_ends_with_one_error_and_2(command: Command, folder: Path) -> None:
    damage(folder)
    for arguments in ((), ("--json",)):
        done = command("verify", folder, *arguments)
        assert done.code == 2
        assert len(done.errors) == 1
        assert "files: adapter_model.safetensors is damaged" in done.errors[0]
        assert "copy or pull the vector again" in done.errors[0]
        assert "Traceback" not in done.err
    assert [c["name"] for c in json.loads(done.out)["vectors"][0]["checks"] if c["state"] == "failed"] == [
        "files",
        "finite values",
    ]


def test_verify_of_nothing_and_against_nothing(command: Command, folder: Path, tmp_path: Path) -> None:
    assert_told(command("verify", tmp_path / "nowhere"), "no vectors in", tmp_path / "nowhere")
    assert_told(command("verify", folder, "--base", tmp_path / "nowhere"), tmp_path / "nowhere")


def test_push_and_pull(command: Command, hub: Hub, folder: Path, tmp_path: Path) -> None:
    done = command("push", folder, REPO, "--private", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == {"repo": REPO, "revision": None, "url": f"{hub.url}/{REPO}"}
    assert hub.repos[REPO].private
    assert f"pushed {folder} to {hub.url}/{REPO}/tree/v2" in command("push", folder, REPO, "--revision", "v2").out

    done = command("pull", REPO, "--out", tmp_path / "w", "--revision", "v2", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == load_card(folder).model_dump(mode="json")
    assert f"alignvec inspect {tmp_path / 'w'}" in command("pull", REPO, "--out", tmp_path / "w").out
    assert command("verify", tmp_path / "w").code == 0


def test_mistakes_are_one_line(command: Command, hub: Hub, folder: Path, tmp_path: Path) -> None:
    assert_told(command("pull", "me/nowhere", "--out", tmp_path / "w"), "no repository me/nowhere")
    assert_told(command("push", tmp_path / "nowhere", REPO), "no vector at")
    command("push", folder, REPO)
    assert_told(command("pull", REPO, "--out", tmp_path / "file"), "something else than a vector")
    damage(folder)
    assert_told(command("push", folder, REPO), folder, "is damaged")
    hub.repos[REPO].files()["adapter_model.safetensors"] = b"short"
    assert_told(command("pull", REPO, "--out", tmp_path / "w"), "the vector in me/medical is damaged")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "v"]


@pytest.mark.parametrize("token", ["hf_wrong_and_secret", None])
def test_the_token_is_never_printed(
    command: Command, hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    command("push", folder, REPO, "--private")
    right = os.environ["HF_TOKEN"]
    point_client_at(hub.url, monkeypatch, token=token)
    for done in (command("push", folder, REPO), command("pull", REPO, "--out", tmp_path / "w")):
        assert_told(done, REPO, "check the token")
        assert not any(secret in done.err for secret in (right, token or right))


def test_a_hub_that_is_down(command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as gone:
        pass
    point_client_at(gone.url, monkeypatch)
    for done in (command("push", folder, REPO), command("pull", REPO, "--out", tmp_path / "w")):
        assert_told(done, "cannot reach the hub for me/medical")
