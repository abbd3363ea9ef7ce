"""A film with LoRAs: named on the command line or in the timeline, a part of every chunk's identity."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

import longvid as package
from longvid.errors import UserError
from longvid.files import read_sealed
from longvid.progress import Event
from longvid.request import Request
from longvid.timeline import load
from tests.installed import command, environment, install_tiny
from tests.loras import write_lora
from tests.planning import PlanBackend, longvid

SHOTS = (
    "model: tiny\nseed: 7\nshots:\n  - {prompt: a red boat, seconds: 4}\n  - {prompt: the sea, seconds: 2}\n"
)
QUERY = {"blocks.0.query": (8, 8)}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with film.yaml for the tiny model, and two LoRAs for it in ``loras``."""
    monkeypatch.syspath_prepend(str(install_tiny(tmp_path / "plugins")))
    monkeypatch.setenv("PYTHONPATH", environment(tmp_path / "plugins")["PYTHONPATH"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("a", "b"):
        write_lora(Path("loras", name), QUERY, name=name)
    Path("film.yaml").write_text(SHOTS)
    return Path.cwd()


def write(lora: str) -> None:
    Path("film.yaml").write_text(f"lora: {lora}\n{SHOTS}")


def render(*flags: object, output: str = "film.mp4") -> str:
    ran = longvid("render", "film.yaml", "-o", output, "--device", "cpu", "--dtype", "float32", *flags)
    assert (ran.code, ran.out) == (0, f"{output}\n"), ran.err
    return ran.err


def segments(film: str) -> list[bytes]:
    folder = Path(film).with_suffix(".longvid") / "segments"
    return [path.read_bytes() for path in sorted(folder.glob("*.mp4"))]


def test_strength_0_is_the_film_without_to_the_byte() -> None:
    render(output="without.mp4")
    Path("without.mp4").rename("kept.mp4")
    Path("without.longvid").rename("kept.longvid")
    render("--lora", "loras/a:0", output="without.mp4")
    assert Path("kept.mp4").read_bytes() == Path("without.mp4").read_bytes()
    assert segments("kept.mp4") == segments("without.mp4")


def test_the_timeline_and_the_command_line_mean_the_same() -> None:
    render("--lora", "loras/a:0.5", "--lora", "loras/b", output="film.mp4")
    Path("film.mp4").rename("flags.mp4")
    Path("film.longvid").rename("flags.longvid")
    write("[{path: loras/a, strength: 0.5}, loras/b]")
    render()
    assert Path("film.mp4").read_bytes() == Path("flags.mp4").read_bytes()
    plan = read_sealed(Path("film.longvid/plan.json"))
    assert plan is not None
    assert [(use["name"], use["strength"], len(use["sha256"])) for use in plan["lora"]] == [
        ("a", 0.5, 64),
        ("b", 1.0, 64),
    ]


def test_each_film_is_its_own() -> None:
    films = {"none": [], "a": ["loras/a"], "half": ["loras/a:0.5"], "b": ["loras/b"]}
    films |= {"both": ["loras/a", "loras/b"], "minus": ["loras/a:-1"]}
    for name, uses in films.items():
        render(*[part for use in uses for part in ("--lora", use)], output=f"{name}.mp4")
    assert len({tuple(segments(f"{name}.mp4")) for name in films}) == len(films)


def test_the_command_line_goes_before_the_timeline() -> None:
    write("loras/a")
    render("--lora", "loras/b", output="b.mp4")
    plan = read_sealed(Path("b.longvid/plan.json"))
    assert plan is not None and [use["name"] for use in plan["lora"]] == ["b"]


def test_an_edit_of_it_renders_anew() -> None:
    write("loras/a")
    render()
    first = segments("film.mp4")
    for edited in ("{path: loras/a, strength: 0.5}", "loras/b", "[loras/a, loras/b]"):
        write(edited)
        ran = longvid("render", "film.yaml", "--device", "cpu", "--dtype", "float32")
        assert ran.code == 2
        assert "nothing can be kept (other lora); --fresh moves it aside and starts anew" in ran.err
    render("--fresh")
    assert not set(first) & set(segments("film.mp4"))


def test_other_numbers_under_the_same_name_render_anew() -> None:
    write("loras/a")
    render()
    write_lora(Path("loras/a"), QUERY, name="other")
    ran = longvid("render", "film.yaml", "--device", "cpu", "--dtype", "float32")
    assert ran.code == 2 and "other lora" in ran.err


def test_an_edit_of_a_shot_keeps_the_chunks_before_it() -> None:
    write("loras/a")
    render()
    Path("film.yaml").write_text(Path("film.yaml").read_text().replace("the sea", "a storm"))
    assert "keeps 3 of 9 chunks" in render()


def test_a_stopped_film_is_resumed_with_it() -> None:
    render("--lora", "loras/a:0.5", output="whole.mp4")
    flags = ("--lora", "loras/a:0.5", "--device", "cpu", "--dtype", "float32")
    going = subprocess.Popen(
        command("render", "film.yaml", "-o", "film.mp4", *flags),
        stderr=subprocess.PIPE,
        text=True,
    )
    record = Path("film.longvid/chunks/000001.json")
    while going.poll() is None and not record.exists():
        time.sleep(0.01)
    going.kill()
    going.communicate()
    request = read_sealed(Path("film.longvid/request.json"))
    assert request is not None
    (use,) = request["loras"]
    assert (use["path"], use["strength"]) == (str(Path("loras/a").absolute()), 0.5)
    Path("film.yaml").unlink()
    ran = longvid("resume", "film.longvid")
    assert (ran.code, ran.out) == (0, "film.mp4\n"), ran.err
    assert segments("film.mp4") == segments("whole.mp4")


def stopped_early() -> None:
    """A film that is stopped behind its first step."""

    def stop(event: Event) -> None:
        if type(event).__name__ == "Stepped":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        package.render("film.yaml", device="cpu", dtype="float32", lora=["loras/a"], show=stop)


def test_a_film_is_not_resumed_with_another_under_its_name() -> None:
    stopped_early()
    write_lora(Path("loras/a"), QUERY, name="other")
    ran = longvid("resume", "film.longvid")
    assert (ran.code, ran.out) == (2, "")
    assert "loras/a: is not the LoRA any more that this film was begun with" in ran.err


def test_a_film_is_not_resumed_without() -> None:
    stopped_early()
    Path("loras/a").rename("loras/elsewhere")
    ran = longvid("resume", "film.longvid")
    assert (ran.code, ran.out) == (2, "")
    assert "there is no file or folder" in ran.err


def test_a_finished_film_needs_it_no_more() -> None:
    render("--lora", "loras/a")
    Path("loras/a").rename("loras/elsewhere")
    ran = longvid("resume", "film.longvid")
    assert (ran.code, ran.out) == (0, "film.mp4\n"), ran.err


def test_a_film_grows_with_it() -> None:
    render("--lora", "loras/a", output="film.mp4")
    before = segments("film.mp4")
    ran = longvid("extend", "film.mp4", "--seconds", 2)
    assert ran.code == 0, ran.err
    assert segments("film.mp4")[: len(before) - 1] == before[:-1]
    plan = read_sealed(Path("film.longvid/plan.json"))
    assert plan is not None and [use["name"] for use in plan["lora"]] == ["a"]
    refused = longvid("extend", "film.mp4", "--seconds", 2, "--lora", "loras/b")
    assert refused.code == 2 and "--lora: film.mp4 is a film of longvid's" in refused.err


def test_the_plan_shows_it() -> None:
    write("{path: loras/a, strength: 0.5}")
    ran = longvid("plan", "film.yaml")
    assert ran.code == 0
    assert "strength 0.5" in ran.out
    facts = json.loads(longvid("plan", "film.yaml", "--lora", "loras/b", "--json").out)
    assert [(use["name"], use["strength"]) for use in facts["lora"]] == [("b", 1.0)]


@pytest.mark.parametrize("named", ["plan", "render"])
@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ("loras/c", "film.yaml:1: lora[0]: there is no file or folder"),
        ("[loras/a, loras/c]", "film.yaml:1: lora[1]: there is no file or folder"),
        ("other", "other/adapter_model.safetensors: is for another model than tiny, which has no layer"),
        ("wide", "is for a model of other sizes than tiny: its blocks.0.query takes 16 numbers to 8"),
    ],
)
def test_wrong_ones_are_one_line_before_anything_is_spent(named: str, lora: str, message: str) -> None:
    write_lora(Path("other"), {"blocks.0.key": (8, 8)})
    write_lora(Path("wide"), {"blocks.0.query": (8, 16)})
    write(lora)
    ran = longvid(named, "film.yaml")
    assert (ran.code, ran.out) == (2, "")
    (line,) = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not Path("film.longvid").exists()
    flag = longvid(named, "film.yaml", "--lora", lora) if "[" not in lora else ran
    assert flag.code == 2


def test_a_model_that_takes_none() -> None:
    write("loras/a")
    with pytest.raises(UserError, match=r"film.yaml:1: lora\[0\]: planned takes no LoRA; leave .* out"):
        Request(load(Path("film.yaml"))).settled(PlanBackend())
