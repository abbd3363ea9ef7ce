"""Published weights from the Hugging Face hub: at one known commit, resumable, every file checked.

    ~/.local/share/longvid/models/NAME/
        longvid.json                               which backend reads the folder
        pulled.json                                commit, sizes and checksums of what is pulled
        transformer/model.safetensors              appears whole and checked, or not at all
        transformer/.model.safetensors.9f86d0.part what has come so far of the content with this checksum

huggingface_hub resumes whole files only, since it gives every attempt a temporary file of its own; a weight
file has up to 10 GB, so what has come of one is kept here and the rest is asked for.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from longvid import digests
from longvid.errors import LockedError, RenderError, UserError
from longvid.plugins import FOLDER_FILE

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

PULLED_FILE = "pulled.json"
BLOCK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30
STALL_SECONDS = (1, 2, 4, 8)
"""Waits between attempts that brought nothing; the next one that brings nothing is the last."""


@dataclass(frozen=True)
class Download:
    """A part of a published model: ``files`` of a repository of the hub, into ``folder`` below the model's.

    ``revision``: a commit, so that a release of longvid means the same weights for ever; a branch is taken
    as it stands at the first pull. ``files``: names, or patterns such as ``model-*.safetensors``, below
    ``within``, a folder of the repository. ``bytes``: about what it comes to; what the hub says counts.
    """

    repo: str
    revision: str
    files: tuple[str, ...]
    folder: str
    licence: str
    bytes: int
    within: str = ""


@dataclass(frozen=True)
class Content:
    """A file's content, as the hub states it: large files by SHA-256, small ones by git's name of them."""

    bytes: int
    sha256: str | None
    git_sha1: str | None

    @property
    def checksum(self) -> str:
        return self.sha256 or self.git_sha1 or ""

    def is_in(self, path: Path, *, fresh: bool = False) -> bool:
        """Whether the file holds it; ``fresh`` reads the file even where its digest is remembered."""
        if not path.is_file() or path.stat().st_size != self.bytes:
            return False
        if self.sha256 is not None:
            return digests.sha256(path, fresh=fresh) == self.sha256
        return hashlib.sha1(b"blob %d\0" % self.bytes + path.read_bytes()).hexdigest() == self.git_sha1


@dataclass(frozen=True)
class Pulled:
    """What a Download became: its commit, and the content of every file of it by name, below ``within``."""

    repo: str
    revision: str
    commit: str
    files: dict[str, Content]
    within: str = ""

    def published(self, name: str) -> str:
        """The file's name in the repository."""
        return f"{self.within}/{name}" if self.within else name


@dataclass(frozen=True)
class Progress:
    """How far a pull is: at work on ``file``, ``done_bytes`` of ``all_bytes`` of the whole pull are here."""

    file: str
    checking: bool
    done_bytes: int
    all_bytes: int


def folder(name: str) -> Path:
    """Where the pulled weights of a registered model lie, or would. Raises UserError for want of a home."""
    try:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    except RuntimeError as error:
        raise UserError("there is no home folder for models; set XDG_DATA_HOME to a folder") from error
    return data / "longvid" / "models" / name


def pull(
    folder: Path,
    backend: str,
    downloads: Sequence[Download],
    report: Callable[[Progress], None],
    *,
    update: bool = False,
) -> None:
    """Fetch what ``folder`` lacks of the downloads, for the backend of this name.

    The first pull looks up each revision's commit and records it in ``pulled.json``; later ones stay on that
    commit, so that an interrupted pull goes on with the same weights. ``update``: take the commits that the
    revisions have now. A file is given its name once its size and checksum are what the hub states.

    Raises UserError before anything is fetched (no such repository, a full disk), RenderError where
    the network or the disk fails on the way (the same call goes on from there), LockedError where another
    process pulls.
    """
    with _disk(folder), _alone(folder):
        pulled = read_pulled(folder)
        for download in downloads:
            known = pulled.get(download.folder)
            if known is None or known.repo != download.repo or update:
                pulled[download.folder] = look_up(download)
        _write(folder / PULLED_FILE, {part: asdict(entry) for part, entry in pulled.items()})
        _write(folder / FOLDER_FILE, {"backend": backend})

        lacking = [
            (pulled[download.folder], f"{download.folder}/{name}", name)
            for download in downloads
            for name, content in pulled[download.folder].files.items()
            if not content.is_in(folder / download.folder / name)
        ]
        here = {file: _size(_part(folder / file, entry.files[name])) for entry, file, name in lacking}
        all_bytes = sum(entry.files[name].bytes for entry, _, name in lacking)
        needed, free = all_bytes - sum(here.values()), shutil.disk_usage(folder).free
        if needed > free:
            raise UserError(
                f"{folder}: needs {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free there; make room, "
                "or set XDG_DATA_HOME to a folder on a larger disk"
            )
        for entry, file, name in lacking:
            for file_bytes, checking in _fetch(entry, name, folder / file):
                here[file] = file_bytes
                report(Progress(file, checking, sum(here.values()), all_bytes))


def look_up(download: Download) -> Pulled:
    """The commit that a download's revision has now, and its files there. Raises UserError, RenderError."""
    with _hub(download.repo, download.revision):
        from huggingface_hub import HfApi

        info = HfApi().model_info(
            download.repo, revision=download.revision, files_metadata=True, timeout=TIMEOUT_SECONDS
        )
    above = f"{download.within}/" if download.within else ""
    files = {
        file.rfilename.removeprefix(above): _content(download.repo, file)
        for pattern in download.files
        for file in info.siblings or ()
        if fnmatch.fnmatchcase(file.rfilename, above + pattern)
    }
    for pattern in download.files:
        if not fnmatch.filter(files, pattern):
            raise UserError(f"{download.repo}: holds no {above}{pattern} at {download.revision}")
    return Pulled(download.repo, download.revision, str(info.sha), files, download.within)


def read_pulled(folder: Path) -> dict[str, Pulled]:
    """What ``folder`` is pulled from, by its parts; empty where nothing is. Raises UserError if damaged."""
    path = folder / PULLED_FILE
    try:
        pulled = {
            part: Pulled(**{**said, "files": {name: Content(**file) for name, file in said["files"].items()}})
            for part, said in json.loads(path.read_text("utf-8")).items()
        }
        safe = all(_is_plain(f"{part}/{name}") for part, entry in pulled.items() for name in entry.files)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        safe = False
    if not safe:
        raise UserError(f"{path}: is damaged; delete it and run `longvid models pull` again")
    return pulled


def is_complete(folder: Path, download: Download) -> bool:
    """Whether every file of a download is below the model's folder; none is read."""
    return all(any((folder / download.folder).glob(pattern)) for pattern in download.files)


def damaged(folder: Path, reading: Callable[[str], None]) -> Iterator[str]:
    """Files that are not what was pulled, a line each; every file is read, its name given to ``reading``."""
    for part, entry in read_pulled(folder).items():
        for name, content in entry.files.items():
            reading(f"{part}/{name}")
            path = folder / part / name
            if not path.is_file():
                yield f"missing file {path}"
            elif not content.is_in(path, fresh=True):
                yield f"{path}: is not what was pulled: another checksum; pull it again"


def _fetch(entry: Pulled, name: str, path: Path) -> Iterator[tuple[int, bool]]:
    """Fetch a file of a repository; yields the bytes of it that are here, and whether they are checked."""
    content = entry.files[name]
    part = _part(path, content)
    part.parent.mkdir(parents=True, exist_ok=True)
    part.touch()
    stalls = 0
    with _hub(entry.repo, entry.commit):
        from huggingface_hub import hf_hub_url
        from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: of the library it uses
            HfHubHTTPError,
            HTTPError,
        )
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, and not marked so
            build_hf_headers,
            hf_raise_for_status,
            http_stream_backoff,
        )

        url = hf_hub_url(entry.repo, entry.published(name), revision=entry.commit)
        while (came := _size(part)) < content.bytes:
            headers = build_hf_headers() | {"Accept-Encoding": "identity", "Range": f"bytes={came}-"}
            try:
                with (
                    http_stream_backoff(
                        "GET", url, headers=headers, timeout=TIMEOUT_SECONDS, retry_on_exceptions=()
                    ) as response,
                    open(part, "ab") as file,
                ):
                    hf_raise_for_status(response)
                    if response.status_code != 206:  # the whole file comes, whatever was asked for
                        file.truncate(0)
                    for block in response.iter_bytes(BLOCK_BYTES):
                        file.write(block)
                        yield file.tell(), False
            except HTTPError as error:
                stalls = stalls + 1 if _size(part) <= came else 0
                if isinstance(error, HfHubHTTPError) or stalls >= len(STALL_SECONDS):
                    raise
                time.sleep(STALL_SECONDS[stalls])
    yield content.bytes, True
    if not content.is_in(part):
        part.unlink()
        raise RenderError(
            f"{path}: came with another checksum than {entry.repo} states, and was thrown away; "
            "the same command fetches it again"
        )
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        stale.unlink()
    if content.sha256:
        digests.remember(path, content.sha256)


def _content(repo: str, file: RepoSibling) -> Content:
    sha256 = file.lfs.sha256 if file.lfs else None
    if file.size is None or not (sha256 or file.blob_id) or not _is_plain(file.rfilename):
        raise UserError(f"{repo}: the hub states no size and checksum for {file.rfilename!r}")
    return Content(file.size, sha256, None if sha256 else file.blob_id)


def _is_plain(name: str) -> bool:
    """Whether a name that came from outside stays below the folder that it is put into."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not {"..", "/"} & set(parts) and "\\" not in name and ":" not in name


def _part(path: Path, content: Content) -> Path:
    return path.with_name(f".{path.name}.{content.checksum[:12]}.part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _write(path: Path, said: Any) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(said, indent=2) + "\n", "utf-8")
    temporary.replace(path)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises LockedError where another process pulls into it."""
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with open(folder / ".lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(f"{folder}: another process pulls into it; wait for that one") from None
        yield


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """A disk that refuses is one line."""
    try:
        yield
    except OSError as error:
        kept = "; what has come is kept" if error.errno == errno.ENOSPC else ""
        raise RenderError(f"{folder}: cannot be written: {error.strerror or error}{kept}") from error


@contextmanager
def _hub(repo: str, revision: str) -> Iterator[None]:
    """What the hub or the way to it says is one line with its remedy."""
    try:
        from huggingface_hub import errors
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of the library it uses
    except ImportError as error:
        raise UserError("huggingface-hub is not installed: pip install 'longvid[models]'") from error
    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(
            f"{repo}: asks for its terms to be accepted: do so on https://huggingface.co/{repo}, "
            "then `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"{repo}: the hub has no such repository, or hides it: `hf auth login`") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(
            f"{repo}: the hub no longer has {revision}; `longvid models pull --update` takes what this "
            "version of longvid names"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        login = "; `hf auth login`" if status in (401, 403) else "; the same command goes on from here"
        raise RenderError(f"{repo}: the hub answers {status}{login}") from error
    except (HTTPError, ConnectionError) as error:  # the latter under HF_HUB_OFFLINE
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise RenderError(
            f"{repo}: the hub cannot be reached ({said}); the same command goes on from here"
        ) from error
