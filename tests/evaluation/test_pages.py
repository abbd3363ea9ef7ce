"""The report in a browser: `pytest -m browser` takes a `chromium` on the path."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from longvid.evaluation.votes import read
from tests.evaluation.test_gallery import written

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("workplace")]

WAIT = """
<script>
const until = async (met) => { while (!met()) await new Promise((next) => setTimeout(next, 50)); };
const click = (selector) => document.querySelector(selector).click();
const report = (value) => {
  const said = document.createElement("output");
  said.id = "said";
  said.textContent = JSON.stringify(value);
  document.body.append(said);
};
addEventListener("error", (event) => report({ error: event.message }));
(async () => report(await (async () => { %s })()))();
</script>
"""


def browse(page: Path, script: str) -> Any:
    """What a script returns that runs behind the page, from a file."""
    chromium = shutil.which("chromium")
    assert chromium, "there is no chromium on the path"
    copy = page.with_name(f"driven-{page.name}")
    copy.write_text(page.read_text() + WAIT % script)
    ran = subprocess.run(
        [
            chromium,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--autoplay-policy=no-user-gesture-required",
            f"--user-data-dir={Path('profile').absolute()}",
            "--timeout=15000",
            "--virtual-time-budget=15000",
            "--dump-dom",
            copy.absolute().as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = re.search(r'<output id="said">(.*?)</output>', ran.stdout, re.DOTALL)
    assert said, f"the script came to no end:\n{ran.stderr}"
    return json.loads(unescape(said[1]))


def test_curves_are_drawn_and_a_method_can_be_left_out():
    place, *_ = written()
    said = browse(
        place.folder / "index.html",
        """
        const lines = () => [...document.querySelectorAll(".curves .line")]
          .filter((line) => line.getBoundingClientRect().width > 100).length;
        const before = lines();
        click(".legend button");
        return { before, after: lines(), wide: document.documentElement.scrollWidth <= innerWidth };
        """,
    )
    assert said == {"before": 2, "after": 1, "wide": True}


def test_a_strip_plays_its_film():
    place, _, films, _ = written()
    said = browse(
        place.folder / "index.html",
        """
        click(".strip a");
        await until(() => document.querySelector("video")?.currentTime > 0.1);
        const video = document.querySelector("video");
        return { source: video.getAttribute("src"), width: video.videoWidth };
        """,
    )
    assert said == {"source": films[0].values["film"], "width": 64}


def test_the_films_of_a_prompt_play_side_by_side():
    place, *_ = written()
    said = browse(
        place.folder / "index.html",
        """
        click(".together");
        const videos = () => [...document.querySelectorAll(".theatre video")];
        await until(() => videos().length && videos().every((video) => video.currentTime > 0.1));
        click(".together");
        return [...document.querySelectorAll(".strip")].length - videos().length;
        """,
    )
    assert said == 8


def test_a_vote_is_recorded_and_can_be_read_back():
    place, suite, *_ = written()
    said = browse(
        place.folder / "duel.html",
        """
        let saved = null;
        URL.createObjectURL = (file) => { saved = file; return "#"; };
        await until(() => document.getElementById("left").readyState > 2);
        const sources = ["left", "right"].map((id) => document.getElementById(id).getAttribute("src"));
        const next = document.getElementById("next");
        const choose = (question, choice) => click(`[name=${question}][value=${choice}]`);
        for (const question of ["long_shot", "motion", "consistency"]) choose(question, "left");
        const early = next.disabled;
        choose("overall", "right");
        next.click();
        document.getElementById("save").click();
        return {
          sources, early, count: document.getElementById("count").textContent,
          kept: JSON.parse(Object.values(localStorage)[0]).length, saved: await saved.text(),
          other: document.getElementById("left").getAttribute("src"),
        };
        """,
    )
    assert (said["early"], said["count"], said["kept"]) == (True, "1 duel judged", 4)
    Path("votes.json").write_text(said["saved"])
    votes = read(Path("votes.json"), suite)
    assert {vote.question: vote.choice for vote in votes} == {
        "long_shot": "left",
        "motion": "left",
        "consistency": "left",
        "overall": "right",
    }
    assert {(f"films/{vote.left.name}.mp4", f"films/{vote.right.name}.mp4") for vote in votes} == {
        tuple(said["sources"])
    }
    judged = {(vote.left.prompt, vote.left.seed) for vote in votes}
    [following] = [film for film in suite.films if f"films/{film.name}.mp4" == said["other"]]
    assert (following.prompt, following.seed) not in judged, "what was not judged yet comes first"
