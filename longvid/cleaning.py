"""What of work directories can go to free space, and what it would cost to make again."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

from longvid import exchange, walks
from longvid.errors import RenderError, UserError
from longvid.locks import locked
from longvid.outputs import work_film
from longvid.starts import Start
from longvid.state import FOLDERS, WorkDirectory, in_time, take_folders
from longvid.takes import Take, is_whole, read

Kind = Literal["leftovers", "take", "aside", "states", "finished"]


@dataclass(frozen=True)
class Item:
    """Something that can go: what a kill left, a take, a render that --fresh moved aside, old states, or all
    chunks of a finished film.

    ``bytes``: what that frees once those before it are gone as well; files that others link to free nothing.
    ``evaluations`` and ``seconds``: what it takes to make again what nothing else holds, the seconds as they
    were measured; for states, at most, and only if an edit reaches back to them.
    """

    kind: Kind
    work: Path
    paths: tuple[Path, ...]
    age_seconds: float
    bytes: int
    evaluations: int = 0
    seconds: float = 0.0


def work_directories(path: Path) -> list[Path]:
    """The work directory itself, or those in a folder, with those that --fresh moved aside; by name.

    Raises UserError where there is no such folder.
    """
    if (path / "chunks").is_dir():
        return [path]
    if not path.is_dir():
        raise UserError(
            f"{path}: there is no such folder; name a film's work directory, or a folder of films"
        )
    found = (folder for name in ("*.longvid", "*.longvid.[0-9]*") for folder in path.glob(name))
    return sorted(folder for folder in found if (folder / "chunks").is_dir())


@contextmanager
def held(work: Path) -> Iterator[None]:
    """Hold the locks of a work directory and its takes. Raises LockedError where one is rendered in, and
    UserError where an exchange of takes has to be finished first."""
    with ExitStack() as stack:
        for folder in (work, *take_folders(work)):
            stack.enter_context(locked(folder, "cleans up"))
        take = exchange.pending(work)
        if take is not None:
            raise UserError(
                f"{work}: taking {take.name} was broken off; "
                f"finish it first: longvid takes {work} --use {take.name}"
            )
        yield


def items(
    work: Path, now: float, older_than: float, *, keep_states: int | None = None, finished: bool = False
) -> list[Item]:
    """What of a work directory can go: what a kill left, and takes that are older than so many seconds; all
    of it, where --fresh moved it aside so long ago.

    ``keep_states``: states as well, all but so many of the latest. ``finished``: also the chunks of a
    finished film, if they are that old. What it takes to go on with an unfinished film always stays.
    """
    if keep_states is not None and keep_states < 1:
        raise UserError(f"--keep-states {keep_states}: at least 1, the one to go on from")
    return list(_items(work, now, older_than, keep_states, finished, _Links()))


def _items(
    work: Path, now: float, older_than: float, keep_states: int | None, finished: bool, links: _Links
) -> Iterator[Item]:
    age = now - last_changed(work)
    if is_aside(work):
        if age >= older_than:
            rest = cost(read(work, None), [work.with_suffix("")])
            yield Item("aside", work, (work,), age, links.freed([work]), *rest)
        return
    left = leftovers(work)
    if left:
        yield Item("leftovers", work, tuple(left), 0.0, links.freed(left))
    takes = take_folders(work)
    old = [take for take in takes if now - last_changed(take) >= older_than]
    stay = [work, *(take for take in takes if take not in old)]
    weighed = list(stay)
    for take in old:
        paths = [path for path in (take, work_film(take)) if path.exists()]
        rest = cost(read(take, take.name), weighed)
        yield Item("take", work, tuple(paths), now - last_changed(take), links.freed(paths), *rest)
        weighed.append(take)  # what two share is made again once
    if keep_states is not None:
        states = list((work / "states").glob("[0-9]*.safetensors"))
        states = sorted(states, key=lambda state: in_time(state.stem))[:-keep_states]
        if states:
            records = (state.with_suffix(".json") for state in states)
            paths = [*(record for record in records if record.exists()), *states]
            rest = states_cost(read(work, None), states[-1])
            yield Item("states", work, tuple(paths), age, links.freed(paths), *rest)
    if finished and age >= older_than and is_finished(work):
        paths = [*(work / folder for folder in reversed(FOLDERS)), work / "preview.mp4"]
        paths = [path for path in paths if path.exists()]
        yield Item("finished", work, tuple(paths), age, links.freed(paths), *cost(read(work, None), stay[1:]))
    for take in stay[1:]:
        yield from _items(take, now, older_than, keep_states, False, links)


def free(item: Item) -> None:
    """Let it go; ``held`` is held. A kill in between leaves less, and nothing that looks whole and is not.

    Raises RenderError where the disk refuses.
    """
    try:
        for path in item.paths:
            if not path.is_dir():
                path.unlink(missing_ok=True)
                continue
            if item.kind == "take":
                path = path.rename(path.with_name(f".{path.name}.part"))
            if (path / "chunks").is_dir():
                shutil.rmtree(path / "chunks")
            shutil.rmtree(path)
        if item.kind == "finished":
            for folder in FOLDERS:
                (item.work / folder).mkdir(exist_ok=True)
    except OSError as error:
        raise RenderError(f"{error.filename or item.work}: cannot be removed: {error.strerror}") from error


# What there is


def is_aside(work: Path) -> bool:
    """Whether a work directory was moved aside by --fresh: ``film.longvid.1``."""
    return work.suffix[1:].isdecimal() and work.stem.endswith(".longvid")


def is_finished(work: Path) -> bool:
    """Whether the film is there, as its render left it."""
    take = read(work, None)
    return take.complete and is_whole(take, work_film(work))


def last_changed(work: Path) -> float:
    """When a render's folder last got or lost a chunk, or was moved aside; in seconds since 1970."""
    changed = (work / "chunks").stat().st_mtime
    return max(changed, work.stat().st_ctime) if is_aside(work) else changed


def leftovers(work: Path) -> list[Path]:
    """What a kill left and nothing uses: half-written files, and files of a chunk without a record."""
    left = [*work.glob(".*.part"), *work.glob("takes/.*.part")]
    records = [*(work / "chunks").glob("*.json"), *WorkDirectory(work).records_between()]
    recorded = {record.stem for record in records}
    for folder in FOLDERS:
        left += (work / folder).glob(".*.part")
        for file in (work / folder).glob("*"):
            ours = re.fullmatch(r"(\d{6}(-\d{6,})?|stop)\.(safetensors|mp4)", file.name)
            if ours and file.stem not in recorded:
                left.append(file)
    return sorted(left)


class _Links:
    """Which files go altogether: those of which every link does."""

    def __init__(self) -> None:
        self.gone: Counter[tuple[int, int]] = Counter()
        self.counted: set[Path] = set()

    def freed(self, paths: Sequence[Path]) -> int:
        """Bytes that the disk gets back when these go after all before them."""
        freed = 0
        for path in paths:
            for file in path.rglob("*") if path.is_dir() else [path]:
                if file in self.counted or file.is_dir():
                    continue
                self.counted.add(file)
                facts = file.lstat()
                key = facts.st_dev, facts.st_ino
                self.gone[key] += 1
                if self.gone[key] == facts.st_nlink:
                    freed += facts.st_size
        return freed


# What it costs


def cost(take: Take, others: Sequence[Path]) -> tuple[int, float]:
    """(evaluations, seconds) of making again what no other folder holds of a render."""
    own = [record.get("latents") for record in take.records]
    shared = 0
    for folder in others:
        theirs = [record.get("latents") for record in read(folder, None).records]
        pairs = zip(own, theirs, strict=False)
        shared = max(shared, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)))
    alone = take.records[shared:]
    if not alone or not take.plan:
        return 0, 0.0
    enter = take_enter(take)
    evaluations = enter[len(own) - 1] - (enter[shared - 1] if shared else -take.plan["steps"])
    return max(evaluations, 0), sum(sum(record["seconds"].values()) for record in alone)


def states_cost(take: Take, state: Path) -> tuple[int, float]:
    """(evaluations, seconds) that this state spares an edit which begins right behind it."""
    chunk, _, entry = state.stem.partition("-")
    before = take.records[: int(chunk) if entry else int(chunk) + 1]
    steps = [record["step"] for record in before if record["step"] is not None]
    step = int(entry) if entry else max(steps, default=0)
    return step, sum(record["seconds"]["denoise"] for record in before)


def take_enter(take: Take) -> tuple[int, ...]:
    """The global step at which each unit enters, by the plan of a render."""
    plan = take.plan
    start = Start.of(plan["start"]) if plan.get("start") else Start(())
    return walks.Walk(
        walks.read(plan["method"]),
        tuple(plan["runs"]),
        plan["steps"],
        plan["window"],
        plan["chunk_latents"],
        start.given,
        start.noised,
    ).enter
