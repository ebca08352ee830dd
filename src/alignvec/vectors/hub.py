"""Vectors to and from a Hugging Face hub."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from alignvec.errors import AlignvecError, StorageError, VectorError
from alignvec.files import atomic_folder
from alignvec.vectors.adapter import ADAPTER, ADAPTER_CONFIG
from alignvec.vectors.card import Card
from alignvec.vectors.deltafile import DENSE
from alignvec.vectors.integrity import check_folder
from alignvec.vectors.model_card import model_card
from alignvec.vectors.store import CARD, NEGATIVE, load_card, require_free

README = "README.md"
_LAYOUT = {CARD, *(str(PurePosixPath(s) / n) for s in ("", NEGATIVE) for n in (ADAPTER, ADAPTER_CONFIG, DENSE))}
"""Every file that a vector can consist of."""
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


def push(
    folder: Path, repo_id: str, *, private: bool = False, revision: str | None = None, token: str | None = None
) -> str:
    """Upload a vector with a model card, in one commit; files that an earlier vector left there are deleted.

    Args:
        folder: the vector.
        repo_id: repository, `owner/name`; made if it is not there.
        private: whether the repository has to be private.
        revision: branch; made if it is not there. Default: main.
        token: default: `$HF_TOKEN`, or the one that `hf auth login` stored.

    Returns:
        The repository's address.

    Raises:
        VectorError: if the vector is damaged, the repository holds something else, or the hub cannot be reached or
            refuses.
    """
    card = load_card(folder)
    _require_sound(folder, str(folder))
    names = _names(card)
    with _hub_errors(repo_id, revision):
        api = HfApi(token=token)
        url = str(api.create_repo(repo_id, private=private or None, exist_ok=True))
        if revision:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        there = api.model_info(repo_id, revision=revision)
        if private and not there.private:
            raise VectorError(f"{repo_id} is there already and is public; make it private on the hub, or name another")
        old = {file.rfilename for file in there.siblings or ()}
        if CARD not in old and (other := sorted(name for name in old if name.endswith((".safetensors", ".bin")))):
            raise VectorError(f"{repo_id} holds something else than a vector ({other[0]}); name another repository")
        api.create_commit(
            repo_id,
            [
                *(CommitOperationDelete(name) for name in sorted(old & _LAYOUT - names)),
                *(CommitOperationAdd(name, folder / name) for name in sorted(names)),
                CommitOperationAdd(README, model_card(card, repo_id=repo_id).encode()),
            ],
            commit_message=f"Alignment vector {card.name}",
            revision=revision,
        )
    return f"{url}/tree/{revision}" if revision else url


def pull(repo_id: str, out: Path, *, revision: str | None = None, token: str | None = None) -> Path:
    """Download a vector and verify it; nothing stands at `out` before it is whole and sound.

    Args:
        repo_id: repository, `owner/name`.
        out: folder of the vector; a vector that is there is replaced.
        revision: branch, tag or commit; default: main.
        token: default: `$HF_TOKEN`, or the one that `hf auth login` stored.

    Raises:
        VectorError: if the repository cannot be reached, holds no vector, or a damaged one.
        StorageError: if `out` is something else than a vector, or cannot be written.
    """
    require_free(out)
    with _hub_errors(repo_id, revision):
        api = HfApi(token=token)
        there = api.model_info(repo_id, revision=revision)
        _require_vector(repo_id, {file.rfilename for file in there.siblings or ()})
    with atomic_folder(out) as staging:
        with _hub_errors(repo_id, revision):
            api.snapshot_download(repo_id, revision=there.sha, local_dir=staging, allow_patterns=[README, *_LAYOUT])
        shutil.rmtree(staging / ".cache", ignore_errors=True)  # the client's notes on what it fetched
        _require_sound(staging, repo_id)
    return out


def _names(card: Card) -> set[str]:
    """Files of a sound vector, as the card names them, and the settings of its adapters."""
    adapters = [PurePosixPath(name) for name in card.files if PurePosixPath(name).name == ADAPTER]
    return {CARD, *card.files, *(str(path.with_name(ADAPTER_CONFIG)) for path in adapters)}


def _require_sound(folder: Path, place: str) -> None:
    if failed := check_folder(folder).failed:
        detail = failed[0].detail.replace(str(folder), place)
        raise VectorError(f"the vector in {place} is damaged ({failed[0].name}: {detail}); it was not transferred")


def _require_vector(repo_id: str, names: set[str]) -> None:
    if CARD in names:
        return
    if ADAPTER_CONFIG in names:
        raise VectorError(
            f"{repo_id} is a PEFT adapter, but no vector (it has no {CARD}); download it, and make a vector of it with "
            "alignvec extract --aligned FOLDER --base BASE --name NAME --out OUT"
        )
    raise VectorError(f"{repo_id} holds no vector (it has no {CARD}); check the name and --revision")


@contextmanager
def _hub_errors(repo_id: str, revision: str | None) -> Iterator[None]:
    """Turn whatever the hub's client raises into one line; errors of this machine's disk pass."""
    try:
        yield
    except AlignvecError:
        raise
    except Exception as error:  # the client raises many unrelated types for "not there", "refused" and "no network"
        chain = list(_causes(error))
        if disk := next((e for e in chain if isinstance(e, OSError) and e.errno in _DISK), None):
            raise StorageError(
                f"cannot store {repo_id} ({disk.strerror}); free some space or choose another place"
            ) from error
        raise VectorError(_told(repo_id, revision, chain)) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _told(repo_id: str, revision: str | None, chain: list[BaseException]) -> str:
    def among(kind: type[BaseException]) -> bool:
        return any(isinstance(error, kind) for error in chain)

    status = next((r.status_code for e in chain if (r := getattr(e, "response", None)) is not None), None)
    token = "check the token ($HF_TOKEN, or hf auth login)"
    if among(HFValidationError):
        return f"{repo_id!r} is no name that the hub takes; write OWNER/NAME"
    if among(RevisionNotFoundError):
        return f"{repo_id} has no revision {revision!r}; check --revision"
    if among(RepositoryNotFoundError) or status == 404:
        return f"the hub has no repository {repo_id}, or does not show it to you; check the name, or {token}"
    if status in (401, 403):
        why = "does not accept the token" if status == 401 else "does not let this token write"
        return f"the hub {why} for {repo_id} (HTTP {status}); {token}"
    if status is not None:
        return f"the hub refused {repo_id} with HTTP {status}; try again later"
    if among(OfflineModeIsEnabled):
        return f"cannot reach the hub for {repo_id}, because $HF_HUB_OFFLINE is set; unset it"
    return f"cannot reach the hub for {repo_id} ({type(chain[0]).__name__}); check the network and $HF_ENDPOINT"
