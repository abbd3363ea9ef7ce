"""A film's storyboard as one HTML file: pictures inside, nothing fetched, readable on paper and phones."""

from __future__ import annotations

import io
from base64 import b64encode
from fractions import Fraction
from html import escape
from typing import TYPE_CHECKING

from longvid.editing.film import Film, Shot
from longvid.editing.stills import spread, stills
from longvid.times import clock, length, round_half_up

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STILLS = 3
"""Pictures of each shot."""
STILL_PX = 480
QUALITY = 85

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --ink: #1d1e22; --quiet: #6a6c75; --line: #e4e2dd;
  --accent: #a85b12; --card: #fff; }
@media (prefers-color-scheme: dark) { :root { --paper: #121317; --ink: #f0f0f4; --quiet: #989ca8;
  --line: #2a2c34; --accent: #f0b05a; --card: #191b20; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 "Source Sans 3", "Source Sans Pro", "Segoe UI", system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: clamp(1.5rem, 5vw, 4rem) clamp(1rem, 4vw, 3rem); }
h1 { font-size: clamp(1.8rem, 5vw, 3rem); line-height: 1.1; letter-spacing: -.015em; margin: 0 0 .6rem;
  text-wrap: balance; overflow-wrap: anywhere; }
header p { color: var(--quiet); margin: 0 0 1.75rem; font-variant-numeric: tabular-nums; }
nav { display: flex; height: .6rem; gap: 2px; margin: 0 0 2.75rem; border-radius: .3rem; overflow: hidden; }
nav a { background: var(--accent); opacity: .45; min-width: 2px; }
nav a:nth-child(even) { opacity: .75; }
nav a:hover, nav a:focus-visible { opacity: 1; }
ol { list-style: none; margin: 0; padding: 0; }
li { display: grid; grid-template-columns: minmax(0, 13fr) minmax(0, 7fr); gap: 1.5rem 2rem;
  padding: 1.75rem 0; border-top: 1px solid var(--line); break-inside: avoid; scroll-margin-top: 1rem; }
.stills { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .5rem; align-self: start; }
img { width: 100%; height: auto; display: block; border-radius: .35rem; background: var(--line); }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 span { color: var(--quiet); font-weight: 400; margin-right: .45em; font-variant-numeric: tabular-nums; }
.times { color: var(--accent); margin: 0 0 .7rem; font-variant-numeric: tabular-nums; }
.prompt { margin: 0; color: var(--quiet); overflow-wrap: anywhere; }
@media (max-width: 48rem) { li { grid-template-columns: minmax(0, 1fr); gap: .9rem; } }
@media print { :root { --paper: #fff; --ink: #000; --quiet: #444; --line: #ccc; --accent: #7a4210; }
  main { max-width: none; padding: 0; } nav { display: none; } }
"""


def page(film: Film) -> bytes:
    """The file's content."""
    rows = "\n".join(_row(film, shot) for shot in film.shots)
    spans = "".join(
        f'<a href="#shot-{number(film, shot)}" title="{escape(heading(film, shot))}" '
        f'aria-label="{escape(heading(film, shot))}" style="flex: {shot.end_frame - shot.start_frame}"></a>'
        for shot in film.shots
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(film.title)} · storyboard</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<h1>{escape(film.title)}</h1>
<p>{escape(facts(film))}</p>
</header>
<nav aria-label="Shots">{spans}</nav>
<ol>
{rows}
</ol>
</main>
</body>
</html>
""".encode()


def _row(film: Film, shot: Shot) -> str:
    frames = spread(shot.start_frame, shot.end_frame, STILLS)
    pictures = "".join(
        f'<img src="data:image/jpeg;base64,{_jpeg(pixels)}" '
        f'alt="at {tenths(film.seconds(frame))}" title="{tenths(film.seconds(frame))}">'
        for frame, pixels in zip(
            frames, stills(film, frames, min(STILL_PX, film.source.size[0])), strict=True
        )
    )
    prompt = f'\n<p class="prompt">{escape(shot.prompt)}</p>' if shot.prompt and shot.title else ""
    return f"""<li id="shot-{number(film, shot)}">
<div class="stills">{pictures}</div>
<div>
<h2><span>{number(film, shot)}</span>{escape(shot.name or "The film")}</h2>
<p class="times">{escape(times(film, shot))}</p>{prompt}
</div>
</li>"""


def number(film: Film, shot: Shot) -> int:
    return film.shots.index(shot) + 1


def heading(film: Film, shot: Shot) -> str:
    """``2  Noon``."""
    return f"{number(film, shot)}  {shot.name or 'The film'}"


def times(film: Film, shot: Shot) -> str:
    """``0:08 to 0:16 · 8 s · cut``."""
    begin, end = film.seconds(shot.start_frame), film.seconds(shot.end_frame)
    said = f"{tenths(begin)} to {tenths(end)}  ·  {length(end - begin)}"
    return f"{said}  ·  cut" if shot.cut else said


def tenths(time: Fraction) -> str:
    """``0:08.3``: near enough for eyes."""
    return clock(Fraction(round_half_up(time * 10), 10))


def facts(film: Film) -> str:
    """``0:24 · 3 shots · 384 x 256 at 12 frames a second``."""
    width, height = film.source.size
    count = len(film.shots)
    shots = f"{count} shot{'s' if count > 1 else ''}"
    rate = f"{float(film.source.fps):.5g}"
    span = tenths(film.seconds(film.source.frames))
    return f"{span}  ·  {shots}  ·  {width} x {height} at {rate} frames a second"


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return b64encode(file.getvalue()).decode()
