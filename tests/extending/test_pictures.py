"""Pictures that a film, and a shot behind a cut, begin from: paper section 3.2, from a single latent."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longvid import files, rendering
from longvid.keeping import read_request
from longvid.progress import Stepped
from longvid.request import Request
from longvid.timeline import build
from longvid.video import sheet
from tests.kept import flip
from tests.planning import longvid
from tests.tiny import TinyBackend

BOAT: Mapping[str, Any] = {"prompt": "a red boat", "seconds": 2, "image": "boat.png"}
CITY: Mapping[str, Any] = {"prompt": "a city", "seconds": 2, "cut": True, "image": "city.png"}


@pytest.fixture(autouse=True)
def _pictures(workplace: Path) -> None:
    draw("boat.png", 50)
    draw("city.png", 200)


def draw(name: str, grey: int) -> None:
    sheet.write_png([np.full((40, 60, 3), grey, np.uint8)], Path(name))


def asked(*shots: Mapping[str, Any], **keys: object) -> Request:
    film = build({"model": "tiny", "seed": 7, **keys, "shots": list(shots)})
    return Request(film, device="cpu", dtype="float32").settled(TinyBackend())


def go(request: Request, output: str = "film.mp4", stop_at: int | None = None) -> Path:
    """Render in this process, to the end or to behind a step; the work directory."""
    options = {"device": "cpu", "dtype": "float32", "request": request}
    planned = request.plan(TinyBackend())
    with closing(rendering.events(planned, TinyBackend(), Path(output), **options)) as happening:
        for event in happening:
            if isinstance(event, Stepped) and event.step == stop_at:
                break
    return Path(output).with_suffix(".longvid")


def latents(work: Path) -> list[str]:
    return [files.checksum(path) for path in sorted((work / "latents").iterdir())]


def test_a_picture_is_where_its_run_begins() -> None:
    boat, city = ({key: shot[key] for key in shot if key != "image"} for shot in (BOAT, CITY))
    without = latents(go(asked(boat, city), "without.mp4"))
    first = latents(go(asked(BOAT, city), "first.mp4"))
    both = latents(go(asked(BOAT, CITY), "both.mp4"))
    assert not set(first[:3]) & set(without[:3]) and first[3:] == without[3:]
    assert both[:3] == first[:3] and not set(both[3:]) & set(first[3:])


def test_stopped_anywhere_it_becomes_the_same() -> None:
    go(asked(BOAT, CITY), "whole.mp4")
    request = asked(BOAT, CITY)
    for stop_at in (1, 5, 9, 13, 17, None):
        work = go(request, stop_at=stop_at)
        request = read_request(work)
    assert Path("film.mp4").read_bytes() == Path("whole.mp4").read_bytes()
    assert longvid("verify", "film.longvid", "-q").code == 0


@pytest.mark.parametrize("method", ["replace-noised", "fifo", "chained", "progressive:chunk=1"])
def test_by_any_method_it_stands_in_front_until_its_unit_is_clean(method: str) -> None:
    """Also where that unit is noised again, as context: a film that goes on behind it has no picture."""
    request = asked(BOAT, method=method, window=1)
    planned = request.plan(TinyBackend())
    go(request, "whole.mp4")
    work = go(request, stop_at=planned.walk.leave[0] + 1)
    assert go(read_request(work)) == work
    assert Path("film.mp4").read_bytes() == Path("whole.mp4").read_bytes()


def test_it_costs_a_latent_until_its_unit_is_clean() -> None:
    """Two latents behind the picture, then chunk by chunk two behind two; all twice: guidance."""
    planned = asked(BOAT, method="replace-noised", window=1).plan(TinyBackend())
    assert planned.calls_by_latents == ((3, 16), (4, 32))


def test_another_picture_renders_its_run_anew() -> None:
    before = latents(go(asked(BOAT, CITY)))
    draw("city.png", 20)
    after = latents(go(asked(BOAT, CITY)))
    assert after[:3] == before[:3] and not set(after[3:]) & set(before[3:])
    whole = go(asked(BOAT, CITY), "whole.mp4")
    assert after == latents(whole)


def test_a_picture_that_has_changed_since_is_told() -> None:
    """What is asked for knows it by its content, and so do the chunks."""
    go(asked(BOAT, CITY), stop_at=2)
    draw("city.png", 20)
    ran = longvid("resume", "film.longvid")
    assert (ran.code, ran.err.splitlines()[-1]) == (
        2,
        f"error: {Path('city.png').absolute()}: is not the picture any more that this film was begun from",
    )
    draw("city.png", 200)
    assert longvid("resume", "film.longvid", "-q").code == 0


def test_a_picture_is_not_asked_for_when_its_unit_is_clean() -> None:
    work = go(asked(BOAT, CITY))
    whole = Path("film.mp4").read_bytes()
    flip(work / "segments" / "000000.mp4", 100)
    for picture in ("boat.png", "city.png"):
        Path(picture).unlink()
    ran = longvid("resume", "film.longvid", "--progress", "plain")
    assert ran.code == 0, ran.err
    assert "renders 0, decodes 6 again" in ran.err
    assert Path("film.mp4").read_bytes() == whole
