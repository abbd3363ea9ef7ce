"""Every file of a work directory against what was written there, and the film against its segments."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from longvid import __version__, exchange
from longvid.cleaning import leftovers
from longvid.errors import LockedError, RenderError, UserError
from longvid.files import checksum, digest, read_sealed, sealed
from longvid.identities import Identities, identities
from longvid.joining import write_film
from longvid.keeping import keep, read_request
from longvid.outputs import made_here, work_film
from longvid.plan import RenderPlan
from longvid.request import Request
from longvid.state import SHEETS, WorkDirectory, state_identity, take_folders
from longvid.takes import read
from longvid.times import clock
from longvid.video import reader, writer

DAMAGED = "is not what was written there"
MISSING = "is missing"
RENDERS_AGAIN = "the next render renders this chunk again, and what follows it"
DECODES_AGAIN = "the next render decodes this chunk again from its latents"
OTHER_STATE = "the next render goes on from another state, or decodes again"
WRITES_ANEW = "the next render writes it anew"
REBUILDS = "the next render that finishes a chunk rebuilds it"
JOINS_ANEW = "`longvid render --overwrite` joins it anew from its segments"

THEN = {
    "latents": RENDERS_AGAIN,
    "segments": DECODES_AGAIN,
    "states": OTHER_STATE,
    "chunks": RENDERS_AGAIN,
    "plan.json": WRITES_ANEW,
    "run.json": f"{WRITES_ANEW}, and wants --overwrite to write the film",
    "request.json": "`longvid resume` cannot go on; `longvid render` with the timeline can",
}
"""What the next render does about a wrong file, by its folder or its name."""

Record = Mapping[str, Any] | None
"""A chunk's; None for one that is missing or damaged."""


@dataclass(frozen=True)
class Wrong:
    """A file that is not as it was written, and what the next render does about it."""

    file: Path
    what: str
    then: str


@dataclass
class Report:
    """What was found. ``notes``: worth knowing, and no damage. ``unchecked``: what could not be told, and
    why. ``then``: what the next render makes of all that is wrong with the current one."""

    work: Path
    wrong: list[Wrong] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    then: str | None = None
    files: int = 0
    bytes: int = 0

    def add(self, file: Path, what: str, then: str | None = None) -> None:
        then = then or THEN.get(file.name) or THEN[file.parent.name]
        if file.is_relative_to(self.work / "takes"):
            then = f"once it is taken with --use, {then}"
        self.wrong.append(Wrong(file, what, then))


def verify(path: Path, tell: Callable[[Path], None] = lambda folder: None) -> Report:
    """Read every file of a work directory and of its takes, and their films. Nothing is written there.

    ``tell`` is called with each folder before it is read. Raises UserError where there is no work directory.
    """
    work_film(path)
    path = path if path.name.strip(".") else path.resolve()
    report = Report(path)
    sums = Checksums(report)
    for folder in (path, *take_folders(path)):
        with ExitStack() as stack:
            try:
                stack.enter_context(reading(folder))
            except LockedError as error:
                report.notes.append(f"{error}; what it changes meanwhile may be reported as wrong")
            tell(folder)
            check_render(folder, sums, report)
    return report


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Keep renders out of a directory that is read; any number may read. Raises LockedError."""
    import fcntl

    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path / "lock", encoding="utf-8"))
        except OSError:  # no render has been there, or none can be
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            who = file.read().strip() or "another process is at work"
            raise LockedError(f"{path}: {who} there") from None
        yield


class Checksums:
    """SHA-256 of files, each read once: takes are made of links."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.known: dict[tuple[int, int], str] = {}

    def __call__(self, path: Path) -> str | None:
        """None where it cannot be read."""
        try:
            facts = path.stat()
            key = facts.st_dev, facts.st_ino
            if key not in self.known:
                self.known[key] = checksum(path)
                self.report.files += 1
                self.report.bytes += facts.st_size
            return self.known[key]
        except OSError:
            return None


def check_render(path: Path, sums: Checksums, report: Report) -> None:
    """A render's folder: the current one's, or a take's."""
    if (path / exchange.FILE).exists():
        check_exchange(path, report)
        return
    before = len(report.wrong)
    records = check_records(path, sums, report)
    plan, run, request = (check_sealed(path / name, sums, report, wanted=bool(records)) for name in SHEETS)
    if run and run.get("status") == "finished" and len(records) < chunks(plan):
        if records:
            report.add(WorkDirectory(path).record(len(records)), MISSING)
        else:
            report.notes.append(f"{path}: its chunks were let go of, the film is all there is")
    check_between(path, sums, report)
    known = check_identities(path, plan, run or {}, records, report)
    whole = not any(wrong.file.parent.name in ("segments", "chunks") for wrong in report.wrong[before:])
    check_film(path, plan, run, request, sums, report, joins=whole and len(records) == chunks(plan))
    check_preview(path, sums, report, joins=whole)
    if known is not None and len(report.wrong) > before and path == report.work:
        report.then = what_holds(path, *known)
    left = leftovers(path)
    if left:
        shown = ", ".join(str(file.relative_to(path)) for file in left[:3]) + ", ..." * (len(left) > 3)
        report.notes.append(f"{path}: nothing names {shown}; `longvid clean` frees what nothing uses")


def chunks(plan: Mapping[str, Any] | None) -> int:
    """Of the whole film."""
    return sum(plan["runs"]) if plan else 0


def check_exchange(path: Path, report: Report) -> None:
    try:
        take = exchange.pending(path)
    except UserError:
        then = f"no render goes on before `longvid takes {path} --use NAME` says which take is meant"
        report.add(path / exchange.FILE, DAMAGED, then)
    else:
        assert take is not None
        report.notes.append(f"{path}: taking {take.name} was broken off; the next render finishes it first")


def check_sealed(path: Path, sums: Checksums, report: Report, *, wanted: bool) -> dict[str, Any] | None:
    """A sealed file's content, or None. ``wanted``: it should be there."""
    if sums(path) is None:
        if wanted or path.exists():
            report.add(path, "cannot be read" if path.exists() else MISSING)
        return None
    content = read_sealed(path)
    if content is None:
        report.add(path, DAMAGED)
    elif path.read_bytes() != sealed(content):
        report.add(path, f"{DAMAGED}, to the byte", "what it says is whole, and is used")
    return content


def check_records(path: Path, sums: Checksums, report: Report) -> list[Record]:
    """The records of all chunks, and the files that they name."""
    work = WorkDirectory(path)
    oldest = min((path / "states").glob("[0-9]*.safetensors"), default=None)
    records: list[Record] = []
    for chunk in range(work.chunks_recorded()):
        record = check_sealed(work.record(chunk), sums, report, wanted=True)
        if record is not None and record["chunk"] != chunk:
            report.add(work.record(chunk), f"is the record of chunk {record['chunk']}")
            record = None
        records.append(record)
        for name, wanted in record["files"].items() if record is not None else ():
            found, file = sums(path / name), path / name
            if found is None and not file.exists():
                # The oldest states are let go of, so that they take no more than their share of the disk.
                if file.parent.name != "states" or (oldest is not None and oldest < file):
                    report.add(file, MISSING)
            elif found != wanted:
                report.add(file, DAMAGED if found else "cannot be read")
    return records


def check_between(path: Path, sums: Checksums, report: Report) -> None:
    """The states between two chunks."""
    for file in WorkDirectory(path).records_between():
        record = check_sealed(file, sums, report, wanted=True)
        state = file.with_suffix(".safetensors")
        if record is not None and sums(state) != record["file"]:
            report.add(state, DAMAGED if state.exists() else MISSING)


def check_identities(
    path: Path,
    plan: Mapping[str, Any] | None,
    run: Mapping[str, Any],
    records: Sequence[Record],
    report: Report,
) -> tuple[RenderPlan, Identities] | None:
    """Each chunk's place in the chain, by what was asked for; the plan and its identities where known."""
    if not records:
        return None
    work = WorkDirectory(path)
    try:
        request = read_request(path)
        backend = request.choose().backend
        planned = request.plan(backend)
        names = identities(planned, backend.geometry, run["fingerprint"], run["dtype"])
    except (UserError, KeyError) as error:
        why = f"run.json does not tell the {error}" if isinstance(error, KeyError) else str(error)
        report.unchecked.append(f"{path}: whether its chunks are those of one film: {why}")
        return None
    made_by = run.get("versions", {}).get("longvid", __version__)
    if plan is not None and digest(plan) != planned.effective()["sha256"]:
        report.notes.append(
            f"{path}: plan.json and request.json are of two films; the next render settles it"
        )
    damaged = {wrong.file for wrong in report.wrong}
    for chunk, record in enumerate(records):
        if record is None:
            break
        if chunk >= len(names.latents) or record["latents"] != names.latents[chunk]:
            if made_by != __version__:
                why = f"longvid {made_by} made them, and this is {__version__}"
                report.unchecked.append(f"{path}: whether its chunks are those of one film: {why}")
                return None
            report.add(work.record(chunk), "is of another film than request.json asks for")
            break
        if record["identity"] != names.chunks[chunk]:
            report.add(work.record(chunk), "is of other frames than request.json asks for", DECODES_AGAIN)
        if planned.start is not None and chunk < planned.start.given:
            continue  # its state is that of the film it was rendered for
        for name in record["files"]:
            state = path / name
            if state.parent.name != "states" or state in damaged or not state.exists():
                continue
            if state_identity(state) != names.of_state(record["step"]):
                report.add(state, "is a state of another film")
    return planned, names


def check_film(
    path: Path,
    plan: Mapping[str, Any] | None,
    run: Mapping[str, Any] | None,
    request: Mapping[str, Any] | None,
    sums: Checksums,
    report: Report,
    *,
    joins: bool,
) -> None:
    """The film against what was written, and against its segments where they are all there (``joins``)."""
    film = work_film(path)
    found = sums(film)
    if run is None:
        if found is not None:
            report.unchecked.append(f"{film}: whether it is what was written: run.json would tell")
        return
    wanted = run.get("film")
    finished = run.get("status") == "finished"
    if found is None:
        if finished and path.suffix == ".longvid":  # a take's, or one of a render moved aside, need not be
            report.add(film, MISSING, "the next render joins it from its segments")
    elif found != wanted and (finished or found != run.get("next_film")):
        if made_here(film):
            report.notes.append(f"{film}: is that of another take; the next render replaces it")
        else:
            what = DAMAGED if finished else "is there, and no render here made it"
            report.add(film, what, JOINS_ANEW)
    if not (finished and joins and plan is not None):
        return
    with joined() as target:
        try:
            asked = None if request is None else Request.of(request)
            write_film(WorkDirectory(path), plan, run["versions"]["longvid"], target, asked)
            same = checksum(target) == wanted
        except (OSError, RenderError, UserError, KeyError, TypeError) as error:
            report.unchecked.append(f"{film}: whether it is the join of its segments: {error}")
            return
    if not same and run["versions"]["av"] != version("av"):
        why = f"PyAV {run['versions']['av']} joined them, and this is {version('av')}"
        report.unchecked.append(f"{film}: whether it is the join of its segments: {why}")
    elif not same:
        report.add(film, "is not the join of its segments", JOINS_ANEW)


def check_preview(path: Path, sums: Checksums, report: Report, *, joins: bool) -> None:
    """The preview against the segments of as many chunks as it shows: of this render, or, until another
    chunk is finished, of one that was put aside."""
    preview = WorkDirectory(path).preview
    found = sums(preview)
    if found is None:
        return
    if not joins:
        report.unchecked.append(f"{preview}: its segments are damaged themselves")
        return
    try:
        header = reader.header(preview)
    except Exception:  # whatever PyAV makes of it
        report.add(preview, DAMAGED, REBUILDS)
        return
    for take in (read(folder, None) for folder in (path, *take_folders(path))):
        ends = list(accumulate(record["frames"] for record in take.records))
        if header.frames in ends:
            with joined() as target:
                try:
                    segments = WorkDirectory(take.path).segments(ends.index(header.frames) + 1)
                    writer.join(segments, target, take.fps if take.plan else header.fps or Fraction(1))
                except RenderError as error:
                    report.unchecked.append(f"{preview}: {error}")
                    return
                if checksum(target) == found:
                    return
    report.add(preview, "is not the join of its segments", REBUILDS)


@contextmanager
def joined() -> Iterator[Path]:
    """A film's place, for as long as it is looked at."""
    with tempfile.TemporaryDirectory(prefix="longvid-") as folder:
        yield Path(folder) / "film.mp4"


def what_holds(path: Path, planned: RenderPlan, names: Identities) -> str:
    """What the next render of the same would say."""
    first_chunks = [unit.chunk == 0 for unit in planned.units]
    kept = keep(WorkDirectory(path), names, first_chunks, torch.device("cpu"))
    units = len(planned.units)
    seconds = Fraction(sum(unit.frames for unit in planned.units[: kept.units])) / planned.fps
    again = f", decodes {len(kept.again)} again" if kept.again else ""
    rest = f"renders {units - kept.units}{again}"
    return f"the next render keeps {kept.units} of {units} chunks ({clock(seconds)}), {rest}"
