"""What of a work directory holds for a film: the least is rendered again, and the film is a fresh one's."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longvid import state
from longvid.errors import UserError
from tests import edits
from tests.edits import ALL, BACKEND, FILM, ONLY_THE_FILE, SOME, Film, contents, copied, new, planned, render
from tests.tiny import TinyBackend


@pytest.fixture(autouse=True, scope="module")
def _disk_in_no_hurry() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


HELD = replace(BACKEND, causal=True, held_frames=3)
"""A run's first chunk is of 5 frames, and three frames come a chunk late."""

LATE = replace(BACKEND, held_frames=3)

VARIANTS: Mapping[str, tuple[TinyBackend, dict[str, Any]]] = {
    "progressive": (HELD, {}),
    "replace": (LATE, {"method": "replace"}),
}


# Edits


class Stages:
    """A film of one variant, finished, stopped and killed; and every edit of it, rendered in one go."""

    def __init__(self, folder: Path, backend: TinyBackend, keys: Mapping[str, Any]) -> None:
        self.folder = folder
        self.backend = backend
        self.film: Film = {**FILM, **keys}
        self.plan = planned(self.film, backend)
        end = self.plan.evaluations
        self.stops = {"finished": None, "stopped": 3 * end // 5, "killed": 4 * end // 5}
        self.outputs = {name: new(folder / name) for name in self.stops}
        for name, stop_at in self.stops.items():
            render(self.film, self.outputs[name], backend, stop_at=stop_at)
        self.whole: dict[str, dict[str, object]] = {}

    def at(self, stage: str, folder: Path) -> Path:
        return copied(self.outputs[stage], folder, killed=stage == "killed")

    def cost(self, edited: Film, stage: str) -> int:
        after = planned(edited, self.backend)
        return edits.cost(self.plan, after, self.stops[stage], stopped=stage != "killed")

    def fresh(self, name: str, edited: Film) -> dict[str, object]:
        """Of the edited film, rendered in one go."""
        if name not in self.whole:
            output = new(self.folder / f"fresh {name}")
            render(edited, output, self.backend)
            self.whole[name] = contents(output)
        return self.whole[name]


@pytest.fixture(scope="module", params=VARIANTS)
def stages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    return Stages(tmp_path_factory.mktemp("stages"), *VARIANTS[request.param])


@pytest.mark.parametrize("edit", [*ONLY_THE_FILE, *SOME])
def test_an_edited_film_is_a_fresh_one_at_the_least_cost(tmp_path: Path, stages: Stages, edit: str) -> None:
    edited = (ONLY_THE_FILE | SOME)[edit](stages.film)
    for stage in stages.stops:
        output = stages.at(stage, tmp_path / stage)
        rendered = render(edited, output, stages.backend)
        assert rendered.warnings == ()
        assert rendered.evaluations == stages.cost(edited, stage), stage
        assert contents(output) == stages.fresh(edit, edited), stage
    rendered = render(edited, output, stages.backend)
    assert (rendered.evaluations, rendered.chunks, rendered.notes) == (0, (), ()), "nothing is left to do"


@pytest.mark.parametrize("edit", ALL)
def test_where_nothing_can_be_kept_the_keys_are_named(tmp_path: Path, stages: Stages, edit: str) -> None:
    change, key = ALL[edit]
    edited = change(stages.film)
    for stage in stages.stops:
        output = stages.at(stage, tmp_path / stage)
        assert stages.cost(edited, stage) == planned(edited, stages.backend).evaluations
        before = listed(output)
        with pytest.raises(UserError, match=r"of which nothing can be kept \(other .*\b") as error:
            render(edited, output, stages.backend)
        named = str(error.value).partition("(other ")[2].partition(")")[0].split(", ")
        assert key in named
        assert str(error.value).count("\n") == 0
        assert listed(output) == before, "nothing is touched"


def listed(output: Path) -> list[Path]:
    return sorted(path for path in output.parent.rglob("*") if path.name != "lock")


def test_what_every_kind_of_edit_costs() -> None:
    """The expected costs themselves, of the film when it is finished, by hand: m = 2, S = 6, so unit i of the
    first run enters at 2 i and is finished at 2 i + 6, and the cut is at step 24."""
    before = planned(FILM)
    assert (before.runs, before.evaluations) == ((10, 3), 34)
    costs = {name: edits.cost(before, planned(edit(FILM))) for name, edit in (SOME | ONLY_THE_FILE).items()}
    assert costs == {
        **dict.fromkeys(ONLY_THE_FILE, 0),
        "prompt of the middle": 34 - 10,
        "prompt of the one before a cut": 34 - 16,
        "prompt of the one behind a cut": 34 - 24,
        "seed of a shot": 34 - 16,
        "guidance of a shot": 34 - 10,
        "guidance of the last": 34 - 24,
        "negative of a shot": 34 - 10,
        "a negative more": 34 - 24,
        "a negative less": 34 - 10,
        "blend longer": 34 - 10,
        "blend removed": 34 - 10,
        "blend added": 34 - 16,
        "cut added": 38 - 16,
        "cut removed": 30 - 20,
        "order of the middle": 34 - 10,
        "order of the end": 34 - 16,
        "shot longer": 36 - 16,
        "shot shorter": 32 - 14,
        "shot a frame longer": 36 - 20,
        "film longer": 40 - 30,
        "film shorter": 32 - 28,
        "film longer by a frame": 0,
        "film shorter by a frame": 0,
        "film shorter by a run": 0,
        "film shorter by half a run": 20 - 16,
        "shot added last": 38 - 30,
        "run added last": 8,
        "shot added in the middle": 38 - 16,
        "run added in the middle": 42 - 24,
        "shot removed": 28 - 10,
    }


def test_edit_upon_edit_upon_stop(tmp_path: Path) -> None:
    """One work directory, edited and stopped again and again; what it comes to is what it would have been."""
    at_random = random.Random(4)
    names = sorted(SOME | ONLY_THE_FILE)
    output = new(tmp_path / "film")
    film: Film = FILM
    for _ in range(40):
        try:
            edited = (SOME | ONLY_THE_FILE)[at_random.choice(names)](
                film if at_random.random() < 0.5 else FILM
            )
            after = planned(edited, HELD)
        except (UserError, IndexError):  # an edit of a shot that another one has taken away
            continue
        film = edited
        stop_at = at_random.choice([None, at_random.randrange(1, after.evaluations)])
        render(film, output, HELD, stop_at=stop_at)
        if at_random.random() < 0.5:
            for left in (output.with_suffix(".longvid") / "states").glob("stop.*"):
                left.unlink()
    render(film, output, HELD)
    whole = new(tmp_path / "whole")
    render(film, whole, HELD)
    assert contents(output) == contents(whole)


@pytest.mark.parametrize("state_is_there", [True, False])
def test_an_edit_before_anything_was_finished(tmp_path: Path, state_is_there: bool) -> None:
    """The second unit, which entered at 2, is another one; the first was not finished before 6."""
    edited = edits.shot(0, seconds="8f")(FILM)
    assert edits.first_change(planned(FILM), planned(edited)) == 2
    output, whole = new(tmp_path / "film"), new(tmp_path / "whole")
    render(edited, whole)
    render(FILM, output)
    if not state_is_there:
        (output.with_suffix(".longvid") / "states" / "000000-000002.json").unlink()
        with pytest.raises(UserError, match=r"nothing can be kept \(other .*shots"):
            render(edited, output)
        return
    rendered = render(edited, output)
    assert rendered.notes[0].startswith("keeps 0 of ")
    assert rendered.evaluations == planned(edited).evaluations - 2
    assert contents(output) == contents(whole)


# Codecs that hold frames back, and groups


def test_a_group_that_goes_on_gives_up_what_its_codec_held_back(tmp_path: Path) -> None:
    """Six chunks of the method replace, K = 3, and then nine. No group shares a window with the next, so all
    latents hold and the last one becomes context; but the sixth chunk no longer ends the run. It is decoded
    again from where the codec's carry is known, behind the first group."""
    short, long = (
        {"method": "replace", "shots": [{"prompt": "a red boat", "seconds": seconds}]} for seconds in (4, 6)
    )
    output, whole = new(tmp_path / "film"), new(tmp_path / "whole")
    render(long, whole, LATE)
    render(short, output, LATE)
    rendered = render(long, output, LATE)
    assert (rendered.evaluations, rendered.chunks) == (6, (3, 4, 5, 6, 7, 8))
    assert contents(output) == contents(whole)


def test_part_of_a_group_is_no_other_render(tmp_path: Path) -> None:
    """Killed between the records of one group, so that nothing is finished that one could go on from."""
    film: Film = {"method": "replace", "shots": [{"prompt": "a red boat", "seconds": 4}]}
    output, whole = new(tmp_path / "film"), new(tmp_path / "whole")
    render(film, whole)
    render(film, output, stop_at=6)
    work = output.with_suffix(".longvid")
    for left in (*(work / "states").iterdir(), work / "chunks" / "000002.json"):
        left.unlink()
    rendered = render(film, output)
    assert (rendered.evaluations, rendered.chunks) == (12, tuple(range(6)))
    assert rendered.notes[0] == "keeps 0 of 6 chunks (0:00), renders 6"
    assert contents(output) == contents(whole)


# States


def without_states(output: Path, which: Callable[[int], bool]) -> None:
    for path in (output.with_suffix(".longvid") / "states").glob("[0-9]*"):
        if path.stem.isdecimal() and which(int(path.stem)):
            path.unlink()


@pytest.mark.parametrize(
    ("left", "evaluations"),
    [(range(6, 13), 34 - 24), (range(5, 6), 34 - 24), (range(3, 6), 34 - 24), (range(0), 34 - 24)],
    ids=str,
)
def test_a_cut_needs_no_state(tmp_path: Path, left: range, evaluations: int) -> None:
    """What is behind a cut begins anew, whatever states were pruned."""
    edited = SOME["prompt of the one behind a cut"](FILM)
    output, whole = new(tmp_path / "film"), new(tmp_path / "whole")
    render(edited, whole, LATE)
    render(FILM, output, LATE)
    without_states(output, lambda chunk: chunk not in left)
    assert render(edited, output, LATE).evaluations == evaluations
    assert pixels(output) == pixels(whole)


@pytest.mark.parametrize(("pruned", "begins"), [((), 16), ((5,), 14), ((4, 5), 12), ((3, 4, 5), 10)])
def test_without_its_state_it_goes_back_further(tmp_path: Path, pruned: tuple[int, ...], begins: int) -> None:
    """The changed unit, 8, entered at 16, behind chunk 5; before it, every second step finished a chunk."""
    edited = SOME["seed of a shot"](FILM)
    output, whole = new(tmp_path / "film"), new(tmp_path / "whole")
    render(edited, whole, LATE)
    render(FILM, output, LATE)
    without_states(output, lambda chunk: chunk in pruned)
    assert render(edited, output, LATE).evaluations == 34 - begins
    assert pixels(output) == pixels(whole)


def test_states_over_their_limit_go_and_the_film_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = SOME["prompt of the middle"](FILM)
    whole = new(tmp_path / "whole")
    render(edited, whole, LATE)
    size = max(path.stat().st_size for path in (whole.with_suffix(".longvid") / "states").iterdir())
    monkeypatch.setattr(state, "STATE_BYTES", 5 * size)
    output = new(tmp_path / "film")
    render(FILM, output, LATE, stop_at=20)
    states = output.with_suffix(".longvid") / "states"
    assert sorted(path.stem for path in states.iterdir())[:2] == ["000003", "000004"]
    with pytest.raises(UserError, match=r"nothing can be kept \(other prompts, negatives, shots\)"):
        render(edited, output, LATE)
    assert render(FILM, output, LATE).evaluations == 14
    assert sum(path.stat().st_size for path in states.iterdir()) <= 5 * size
    assert pixels(new_render(FILM, tmp_path / "other")) == pixels(output)


def test_the_last_state_stays_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first chunk's, which is finished behind step 6, is later than those behind steps 2 and 4."""
    monkeypatch.setattr(state, "STATE_BYTES", 1)
    output = new(tmp_path / "film")
    render(FILM, output, stop_at=6)
    states = output.with_suffix(".longvid") / "states"
    assert [path.stem for path in states.glob("[0-9]*.safetensors")] == ["000000"]


def test_a_stop_while_chunks_are_decoded_again_saves_no_state(tmp_path: Path) -> None:
    """The loop stands at the end of what is kept, but the codec in the middle of it."""
    edited = ONLY_THE_FILE["crf"](FILM)
    output, whole = new(tmp_path / "film"), new(tmp_path / "whole")
    render(edited, whole, LATE)
    render(FILM, output, LATE, stop_at=17)
    stops = output.with_suffix(".longvid") / "states"
    before = [(stops / name).read_bytes() for name in ("stop.json", "stop.safetensors")]
    render(edited, output, LATE, stop_after_chunk=2)
    assert [(stops / name).read_bytes() for name in ("stop.json", "stop.safetensors")] == before
    render(edited, output, LATE, stop_after_chunk=5)
    rendered = render(edited, output, LATE)
    assert (rendered.evaluations, rendered.chunks[0]) == (34 - 17, 6)
    assert contents(output) == contents(whole)


# Damage


@pytest.mark.parametrize("stage", ["finished", "stopped", "killed", "edited"])
def test_a_byte_that_flips_in_any_file_is_named_or_of_no_use(tmp_path: Path, stage: str) -> None:
    """One byte in each file of the work directory in turn."""
    backend = TinyBackend(window_units=2, steps=4, causal=True, held_frames=3)
    film: Film = {
        "seed": 7,
        "shots": [{"prompt": "a red boat", "seconds": "29f"}, {**edits.SNOW, "seconds": 1}],
    }
    edited: Film = {**film, "output": {"crf": 30}} if stage == "edited" else film
    start, whole = new(tmp_path / "start"), new(tmp_path / "whole")
    render(edited, whole, backend)
    render(film, start, backend, stop_at=9 if stage in ("stopped", "killed") else None)
    flipped = copied(start, tmp_path / "flipped", killed=stage == "killed").with_suffix(".longvid")
    files = sorted(path.relative_to(flipped) for path in flipped.rglob("*") if path.is_file())
    named = {path for path in files if used(path, stage)}
    assert len(named) > 10
    for path in files:
        output = copied(start, tmp_path / "film", killed=stage == "killed")
        flip(output.with_suffix(".longvid") / path)
        if path.name == "run.json" and output.exists():
            with pytest.raises(UserError, match=r"run\.json, which tells whether .* is damaged; --overwrite"):
                render(edited, output, backend)
        rendered = render(edited, output, backend, overwrite=True)
        where = output.with_suffix(".longvid") / path
        assert rendered.warnings == (
            (f"{where}: is not what was written there, and is not used",) if path in named else ()
        ), path
        assert pixels(output) == pixels(whole), path
        shutil.rmtree(output.parent)


def used(path: Path, stage: str) -> bool:
    """Whether a render reads that file: every record, all latents, and what it goes on from."""
    match path.parts:
        case ("plan.json" | "run.json",) | ("chunks" | "latents", _):
            return True
        case ("segments", _):
            return stage != "edited"
        case ("states", name) if "-" in name:
            return name.endswith(".json")
        case ("states", name):
            last = {"stopped": "stop", "killed": "000002"}.get(stage, "none")
            return stage == "edited" or name.startswith(last)
    return False


def flip(path: Path) -> None:
    """Another byte in the middle of a file, which is no longer a link to any other."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


def pixels(output: Path) -> dict[str, object]:
    """All that is made of pixels and latents: what must be the same, whatever states are left."""
    return {
        name: what for name, what in contents(output).items() if not name.startswith(("states", "chunks"))
    }


def new_render(film: Film, folder: Path) -> Path:
    output = new(folder)
    render(film, output, LATE)
    return output


def test_an_edit_that_is_taken_back_costs_nothing(tmp_path: Path) -> None:
    """What it replaced lies in a take; and so does what replaces it."""
    edited = SOME["prompt of the middle"](FILM)
    output, whole = new(tmp_path / "film"), new(tmp_path / "whole")
    render(FILM, whole)
    render(FILM, output)
    assert render(edited, output).evaluations == 34 - 10
    for film, take in ((FILM, "1"), (edited, "2"), (FILM, "1")):
        rendered = render(film, output)
        assert rendered.evaluations == 0
        assert rendered.notes[0] == (
            f"goes on with {output.with_suffix('.longvid')}/takes/{take}, which holds more of this film"
        )
    assert contents(output) == contents(whole)
    assert len(list((output.with_suffix(".longvid") / "takes").iterdir())) == 2


def test_a_take_that_is_damaged_is_not_gone_back_to(tmp_path: Path) -> None:
    """What was rendered since goes on, though the take's records tell of more."""
    output, whole = new(tmp_path / "film"), new(tmp_path / "whole")
    render(FILM, whole)
    render(FILM, output)
    flip(output.with_suffix(".longvid") / "latents" / "000002.safetensors")
    assert render(FILM, output, stop_at=20).evaluations == 20 - 8
    assert render(FILM, output).evaluations == 34 - 20
    assert contents(output) == contents(whole)
