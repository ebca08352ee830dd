"""A local stand-in for the hub: the requests that huggingface_hub sends for repositories, commits and downloads."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest
import yaml
from huggingface_hub import constants

TOKEN = "hf_right"


@dataclass
class Repository:
    """Branches to commits, and each commit's files."""

    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(repr((branch, len(self.commits), sorted(files.items()))).encode()).hexdigest()
        self.branches[branch], self.commits[sha] = sha, files
        return sha

    def files(self, branch: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches[branch]]


@dataclass
class Hub:
    """What the server holds, and what it was asked: method and path of every request."""

    url: str
    repos: dict[str, Repository] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def storage(self) -> str:
        """Address of the large files: another host than the hub's, so that the client keeps its token to itself."""
        return self.url.replace("127.0.0.1", "localhost")

    def add(self, name: str, files: dict[str, bytes], *, private: bool = False) -> Repository:
        repo = self.repos[name] = Repository(private)
        repo.commit("main", files)
        return repo


class Refused(Exception):
    """An answer that is an error: status, and the header that says which."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(status)
        self.status, self.headers = status, {f"X-Error-{key.title()}": value for key, value in headers.items()}


def is_lfs(path: str) -> bool:
    return path.endswith(".safetensors")


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Routes by regular expression; the hub is the server's."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.route()

    do_HEAD = do_POST = do_PUT = do_GET

    def route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            for method, pattern, act in ROUTES:
                if self.command in method.split() and (found := re.fullmatch(pattern, path)):
                    return act(self, **found.groupdict())
            raise Refused(404)
        except Refused as refused:
            self.answer(json.dumps({"error": str(refused)}).encode(), refused.status, refused.headers)

    def answer(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_json(self, value: object, status: int = 200) -> None:
        self.answer(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    def is_known(self) -> bool:
        """Whether the request carries the right token; a wrong one is refused."""
        given = self.headers.get("Authorization")
        if given not in (None, f"Bearer {TOKEN}"):
            raise Refused(401, message="Invalid credentials in Authorization header")
        return given is not None

    def repository(self, repo: str, *, write: bool = False) -> Repository:
        known = self.is_known()
        if write and not known:
            raise Refused(401, message="Invalid username or password.")
        found = self.hub.repos.get(repo)
        if found is None or (found.private and not known):
            raise Refused(404 if known else 401, code="RepoNotFound")
        return found

    def commit_of(self, repo: Repository, revision: str) -> str:
        sha = repo.branches.get(revision, revision)
        if sha not in repo.commits:
            raise Refused(404, code="RevisionNotFound")
        return sha

    def create(self) -> None:
        if not self.is_known():
            raise Refused(401, message="Invalid username or password.")
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        there = name in self.hub.repos
        if not there:
            self.hub.add(name, {".gitattributes": b""}, private=asked.get("visibility") == "private")
        self.answer_json({"url": f"{self.hub.url}/{name}"}, 409 if there else 200)

    def branch(self, repo: str, revision: str) -> None:
        found = self.repository(repo, write=True)
        there = revision in found.branches
        found.branches.setdefault(revision, found.branches["main"])
        self.answer_json({}, 409 if there else 200)

    def info(self, repo: str, revision: str | None = None) -> None:
        found = self.repository(repo)
        sha = self.commit_of(found, revision or "main")
        files = [{"rfilename": name} for name in found.commits[sha]]
        self.answer_json({"id": repo, "sha": sha, "private": found.private, "siblings": files})

    def validate(self) -> None:
        front = json.loads(self.body)["content"].split("---\n")[1]
        data = yaml.safe_load(front)
        wrong = [
            {"message": f"{key} is no {kind}"}
            for key, kind in (("license", str),)
            if key in data and not isinstance(data[key], kind)
        ]
        self.answer_json({"errors": wrong, "warnings": []}, 400 if wrong else 200)

    def preupload(self, repo: str, revision: str) -> None:
        found = self.repository(repo, write=True)
        there = found.commits[self.commit_of(found, revision)]
        files = []
        for file in json.loads(self.body)["files"]:
            path, content = file["path"], there.get(file["path"])
            oid = None if content is None else hashlib.sha256(content).hexdigest() if is_lfs(path) else git_oid(content)
            mode = "lfs" if is_lfs(path) else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.answer_json({"files": files})

    def batch(self, repo: str) -> None:
        self.repository(repo, write=True)
        objects = []
        for item in json.loads(self.body)["objects"]:
            actions = {
                "upload": {"href": f"{self.hub.storage}/lfs/{item['oid']}"},
                "verify": {"href": f"{self.hub.url}/lfs-verify"},
            }
            objects.append(item if item["oid"] in self.hub.lfs else {**item, "actions": actions})
        self.answer_json({"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        if self.headers.get("Authorization") or hashlib.sha256(self.body).hexdigest() != oid:
            raise Refused(400)
        self.hub.lfs[oid] = self.body
        self.answer(b"")

    def lfs_verify(self) -> None:
        asked = json.loads(self.body)
        if len(self.hub.lfs.get(asked["oid"], b"")) != asked["size"]:
            raise Refused(404)
        self.answer_json({})

    def commit(self, repo: str, revision: str) -> None:
        found = self.repository(repo, write=True)
        files = dict(found.commits[self.commit_of(found, revision)])
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        sha = found.commit(revision, files)
        self.answer_json({"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{repo}/commit/{sha}"})

    def tree(self, repo: str, revision: str) -> None:
        found = self.repository(repo)
        rows = []
        for path, content in found.commits[self.commit_of(found, revision)].items():
            row: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
            if is_lfs(path):
                oid = hashlib.sha256(content).hexdigest()
                row["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 134}
            rows.append(row)
        self.answer_json(rows)

    def resolve(self, repo: str, revision: str, path: str) -> None:
        found = self.repository(repo)
        sha = self.commit_of(found, revision)
        if path not in found.commits[sha]:
            raise Refused(404, code="EntryNotFound")
        content, headers = found.commits[sha][path], {"X-Repo-Commit": sha}
        if not is_lfs(path):
            return self.answer(content, headers={**headers, "ETag": f'"{git_oid(content)}"'})
        oid = hashlib.sha256(content).hexdigest()
        self.hub.lfs[oid] = content
        linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        return self.answer(b"", 302, {**headers, **linked, "Location": f"{self.hub.storage}/lfs/{oid}"})

    def fetch(self, oid: str) -> None:
        if self.headers.get("Authorization"):
            raise Refused(400)
        self.answer(self.hub.lfs[oid], headers={"ETag": f'"{oid}"'})


_REPO, _REVISION = r"(?P<repo>[^/]+/[^/]+?)", r"(?P<revision>.+)"
ROUTES = (
    ("POST", r"/api/repos/create", Handler.create),
    ("POST", r"/api/validate-yaml", Handler.validate),
    ("POST", rf"/api/models/{_REPO}/branch/{_REVISION}", Handler.branch),
    ("POST", rf"/api/models/{_REPO}/preupload/{_REVISION}", Handler.preupload),
    ("POST", rf"/api/models/{_REPO}/commit/{_REVISION}", Handler.commit),
    ("GET", rf"/api/models/{_REPO}/revision/{_REVISION}", Handler.info),
    ("GET", rf"/api/models/{_REPO}/tree/{_REVISION}", Handler.tree),
    ("GET", rf"/api/models/{_REPO}", Handler.info),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", r"/lfs/(?P<oid>\w+)", Handler.store),
    ("GET HEAD", r"/lfs/(?P<oid>\w+)", Handler.fetch),
    ("POST", r"/lfs-verify", Handler.lfs_verify),
    ("GET HEAD", rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Handler.resolve),
)


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a hub on a free port of this machine."""
    handler = type("BoundHandler", (Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub = handler.hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_client_at(url: str, monkeypatch: pytest.MonkeyPatch, *, token: str | None = TOKEN) -> None:
    """Let huggingface_hub talk to `url` only, by plain HTTP, with this token."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    huggingface_hub.close_session()
