"""A Hugging Face hub on this machine: huggingface_hub's own code talks to it, and no network is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import huggingface_hub
import pytest
from huggingface_hub import constants

LARGE_BYTES = 100
"""Files from this size on are stated with their SHA-256 and come from elsewhere, smaller ones are stated with
git's name of them."""


def commit_of(revision: str) -> str:
    return hashlib.sha1(revision.encode()).hexdigest()


@dataclass
class Hub:
    """``files``: contents by (repository, revision, name); ``heads``: the revision that a branch stands at.
    What it does wrong is set by a test."""

    files: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """(file or repository, range) of every request so far."""
    stops_after: int | None = None
    """Bytes of a file after which it drops the connection, once."""
    ignores_ranges: bool = False
    corrupt: bool = False
    error: tuple[int, str] | None = None
    """Status and code of every answer."""

    def add(self, repo: str, revision: str, **files: bytes) -> None:
        for name, content in files.items():
            self.files[repo, revision, name.replace("_json", ".json").replace("_st", ".safetensors")] = (
                content
            )

    def info(self, repo: str, revision: str) -> dict[str, object] | None:
        revision = self.heads.get(revision, revision)
        found = {
            name: content
            for (of, at, name), content in self.files.items()
            if of == repo and revision in (at, commit_of(at))
        }
        siblings = []
        for name, content in found.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            said: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": blob}
            if len(content) >= LARGE_BYTES:
                sha256 = hashlib.sha256(content).hexdigest()
                said["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 130}
            siblings.append(said)
        sha = revision if len(revision) == 40 else commit_of(revision)
        return {"id": repo, "modelId": repo, "sha": sha, "siblings": siblings} if found else None

    def content(self, repo: str, commit: str, name: str) -> bytes | None:
        for (of, at, other), content in self.files.items():
            if (of, other) == (repo, name) and commit in (at, commit_of(at)):
                return content[:-1] + b"!" if self.corrupt else content
        return None


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that huggingface_hub takes for the real one until the block ends."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if hub.stops_after is not None and content and "/resolve/" in self.path:
                content, hub.stops_after = content[: hub.stops_after], None
                self.close_connection = True
            self.wfile.write(content)

        def do_GET(self) -> None:
            path, wanted = self.path.partition("?")[0], self.headers.get("Range")
            if hub.error:
                status, code = hub.error
                hub.asked.append((path, wanted))
                return self.answer(status, **({"X_Error_Code": code} if code else {}))
            if path.startswith("/api/models/"):
                repo, _, revision = path.removeprefix("/api/models/").partition("/revision/")
                hub.asked.append((repo, None))
                info = hub.info(repo, revision.replace("%2F", "/"))
                if info is None:
                    known = any(of == repo for of, _, _ in hub.files)
                    return self.answer(404, X_Error_Code="RevisionNotFound" if known else "RepoNotFound")
                return self.answer(200, json.dumps(info).encode(), Content_Type="application/json")
            repo, _, place = path.removeprefix("/large").removeprefix("/").partition("/resolve/")
            commit, _, name = place.partition("/")
            content = hub.content(repo, commit, name)
            if content is None:
                return self.answer(404, X_Error_Code="EntryNotFound")
            if len(content) >= LARGE_BYTES and not path.startswith("/large/"):
                return self.answer(302, Location=f"/large{path}")
            hub.asked.append((name, wanted))
            if wanted and not hub.ignores_ranges:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                span = f"bytes {start}-{len(content) - 1}/{len(content)}"
                return self.answer(206, content[start:], Content_Range=span)
            return self.answer(200, content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()  # one that was opened before knows another NO_PROXY
    try:
        yield hub
    finally:
        huggingface_hub.close_session()
        server.shutdown()
        thread.join()
        server.server_close()
