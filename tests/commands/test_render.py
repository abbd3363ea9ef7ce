import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from longvid import files
from longvid.video import reader
from tests.installed import command, environment, install_tiny
from tests.kept import flip
from tests.planning import longvid

TIMELINE = """\
model: tiny
seed: 7
shots:
  - {prompt: a red boat, seconds: 2}
  - {prompt: the sea zzz, seconds: 2}
"""


@pytest.fixture
def film(tmp_path, monkeypatch) -> Path:
    """A folder to work in, with film.yaml for the tiny model."""
    monkeypatch.syspath_prepend(str(install_tiny(tmp_path / "plugins")))
    monkeypatch.setenv("PYTHONPATH", environment(tmp_path / "plugins")["PYTHONPATH"])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("film.yaml").write_text(TIMELINE)
    return tmp_path / "here"


def test_the_path_is_all_there_is_on_stdout_and_the_first_line_names_the_model(film):
    ran = longvid("render", "film.yaml", "--device", "cpu")
    assert (ran.code, ran.out) == (0, "film.mp4\n")
    lines = ran.err.splitlines()
    assert lines[0] == "model tiny (named in film.yaml)"
    assert lines[1] == "warning: shot 2: tiny does not know: zzz"
    assert "film.mp4: 0:04 of film, 48 frames of 24x16 at 12 a second, in 6 chunks of 8 steps" in ran.err
    assert "shot 1 of 2: a red boat" in ran.err
    assert "shot 2 of 2: the sea zzz" in ran.err
    assert reader.header(Path("film.mp4")).frames == 48


def test_another_process_gives_the_same_bytes(film):
    longvid("render", "film.yaml", "-o", "here.mp4", "--device", "cpu", "--quiet")
    there = subprocess.run(
        command("render", "film.yaml", "-o", "there.mp4", "--device", "cpu"), capture_output=True, text=True
    )
    assert (there.returncode, there.stdout) == (0, "there.mp4\n"), there.stderr
    assert Path("here.mp4").read_bytes() == Path("there.mp4").read_bytes()


def test_flags_go_before_the_timeline(film):
    flags = ["--seed", 5, "--steps", 12, "--guidance", 3, "--dtype", "float32", "--method", "progressive"]
    ran = longvid("render", "film.yaml", *flags, "--device", "cpu", "-q")
    assert (ran.code, ran.err) == (0, "")
    plan = files.read_sealed(Path("film.longvid/plan.json"))
    assert plan is not None
    assert (plan["seed"], plan["steps"], plan["shots"][0]["guidance"]) == (5, 12, 3)
    run = files.read_sealed(Path("film.longvid/run.json"))
    assert run is not None
    assert (run["dtype"], run["status"], run["seed"]) == ("float32", "finished", 5)
    assert run["film"] == hashlib.sha256(Path("film.mp4").read_bytes()).hexdigest()


def test_json_is_one_object_a_line(film):
    ran = longvid("render", "film.yaml", "--progress", "json", "--device", "cpu")
    said = [json.loads(line) for line in ran.err.splitlines()]
    kinds = [event["event"] for event in said]
    assert kinds[:2] == ["noted", "noted"]
    assert kinds[-1] == "done"
    assert [event["chunk"] for event in said if event["event"] == "chunk_saved"] == [0, 1, 2, 3, 4, 5]
    steps = [event for event in said if event["event"] == "stepped"]
    assert [event["step"] for event in steps] == list(range(1, steps[0]["evaluations"] + 1))
    assert steps[7]["units"] == [0, 1, 2, 3]
    assert steps[7]["levels"] == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--device", "cuda:99"], "--device cuda:99: no such CUDA card here"),
        (["--device", "tpu"], "--device tpu: unknown; use auto, cpu, cuda or cuda:N"),
        (["-o", "film.avi"], "film.avi: a film is written as .mp4; try film.mp4"),
        (["-o", "nowhere/film.mp4"], "nowhere/film.mp4: there is no folder nowhere"),
        (["--steps", 9], "steps"),
        (["--model", "nothing"], "--model: no model 'nothing'"),
    ],
    ids=str,
)
def test_wrong_input_is_one_line_and_nothing_is_left(film, flags, message):
    ran = longvid("render", "film.yaml", *flags)
    assert ran.code == 2
    error = ran.err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    ran = longvid("render", "film.yaml", *flags, "--progress", "json")
    failed = [json.loads(line) for line in ran.err.splitlines()][-1]
    assert (ran.code, ran.out, failed["event"], failed["exit_code"]) == (2, "", "failed", 2)
    assert failed["message"] == error.removeprefix("error: ")
    assert os.listdir() == ["film.yaml"]


def test_a_film_is_there_already_and_another_needs_fresh(film):
    longvid("render", "film.yaml", "--device", "cpu", "-q")
    before = Path("film.mp4").read_bytes()
    ran = longvid("render", "film.yaml", "--device", "cpu", "--progress", "plain")
    assert (ran.code, ran.out) == (0, "film.mp4\n")
    assert ran.err.splitlines()[-1] == "0:04 of film is there already, nothing to do"
    ran = longvid("render", "film.yaml", "--seed", 8, "--device", "cpu", "-q")
    assert ran.code == 2
    assert "film.longvid holds another render, of which nothing can be kept (other seed" in ran.err
    assert Path("film.mp4").read_bytes() == before
    assert longvid("render", "film.yaml", "--fresh", "--seed", 8, "--device", "cpu", "-q").code == 0
    assert Path("film.mp4").read_bytes() != before
    assert Path("film.longvid.1/preview.mp4").exists()


def test_someone_elses_film_is_left_alone_unless_told(film):
    Path("film.mp4").write_bytes(b"holiday")
    ran = longvid("render", "film.yaml", "--device", "cpu", "-q")
    assert ran.code == 2
    assert "film.mp4 exists, and no render here made it; --overwrite replaces it" in ran.err
    assert Path("film.mp4").read_bytes() == b"holiday"
    assert longvid("render", "film.yaml", "--overwrite", "--device", "cpu", "-q").code == 0
    assert reader.header(Path("film.mp4")).frames == 48


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """Start renders of a long film in other processes; returns once one has finished three chunks."""
    folder = tmp_path_factory.mktemp("busy")
    environ = environment(install_tiny(folder / "plugins"))
    (folder / "long.yaml").write_text(TIMELINE.replace("seconds: 2", "seconds: 1200"))
    started: list[subprocess.Popen[str]] = []

    def start(name: str) -> tuple[Path, subprocess.Popen[str]]:
        run = subprocess.Popen(
            command("render", "long.yaml", "-o", name, "--device", "cpu", "--progress", "json"),
            cwd=folder,
            env=environ,
            text=True,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(run)
        assert run.stderr is not None
        for line in run.stderr:
            event = json.loads(line)
            if event["event"] == "chunk_saved" and event["chunk"] == 2:
                break
        return folder / name, run

    yield start
    for run in started:
        run.kill()
        run.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_stops_after_the_step_and_keeps_what_is_finished(busy, number):
    output, run = busy(f"{number.name}.mp4")
    run.send_signal(number)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (128 + number, "")
    end = json.loads(err.splitlines()[-1])
    assert (end["event"], end["why"], end["chunks"]) == ("stopped", f"stopped by {number.name}", 3600)
    work = output.with_suffix(".longvid")
    records = [files.read_sealed(path) for path in sorted((work / "chunks").iterdir())]
    assert [record["chunk"] for record in records if record] == list(range(end["chunks_done"]))
    for record in records:
        for name, checksum in record["files"].items():
            assert files.checksum(work / name) == checksum
    assert sum(1 for _ in reader.frames(work / "preview.mp4")) == end["frames_done"] == 8 * len(records)
    assert not output.exists()
    assert not list(work.rglob(".*"))


def test_a_second_process_is_told_who_renders_there(busy):
    output, run = busy("locked.mp4")
    second = subprocess.run(
        command("render", "long.yaml", "-o", output.name, "--fresh", "-q"),
        cwd=output.parent,
        env=environment(output.parent / "plugins"),
        capture_output=True,
        text=True,
    )
    assert second.returncode == 3
    assert f"locked.longvid: process {run.pid} on " in second.stderr
    assert run.poll() is None


def test_a_kill_leaves_a_preview_that_plays_and_no_half_chunk(busy):
    output, run = busy("killed.mp4")
    run.kill()
    run.communicate()
    work = output.with_suffix(".longvid")
    records = [files.read_sealed(path) for path in (work / "chunks").iterdir() if path.suffix == ".json"]
    assert len(records) >= 3
    for record in records:
        assert record is not None
        for name, checksum in record["files"].items():
            assert files.checksum(work / name) == checksum
    assert sum(1 for _ in reader.frames(work / "preview.mp4")) == 8, "the first chunk's, at once"


def test_a_full_disk_is_one_line_that_says_what_is_kept(film):
    """Files may grow to 9 KiB and no further, as the operating system has it: the whole film needs more."""
    Path("film.yaml").write_text(TIMELINE.replace("seconds: 2", "seconds: 4"))
    program = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from longvid.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (9216, 9216))
main(sys.argv[1:])
"""
    run = [sys.executable, "-B", "-c", program, "render", "film.yaml", "--device", "cpu", "-q"]
    for _ in range(2):  # what was finished before counts as well
        ran = subprocess.run(run, capture_output=True, text=True)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr == (
            "error: film.mp4: cannot be written: File too large; 12 of 12 chunks (0:08 of 0:08) are kept; "
            "to go on: longvid resume film.longvid\n"
        )
    assert not Path("film.mp4").exists()


def test_a_damaged_request_is_named_and_written_anew(film):
    longvid("render", "film.yaml", "--device", "cpu", "-q")
    whole, request = Path("film.mp4").read_bytes(), Path("film.longvid/request.json")
    for stage in ("finished", "unfinished"):
        before = request.read_bytes()
        flip(request, len(before) // 2)
        if stage == "unfinished":
            Path("film.longvid/chunks/000005.json").unlink()
        ran = longvid("resume", "film.longvid")
        assert (ran.code, ran.err.splitlines()[-1]) == (
            2,
            "error: film.longvid/request.json: is damaged, so it is not known what was asked for; "
            "`longvid render` with the timeline goes on as well",
        )
        ran = longvid("render", "film.yaml", "--device", "cpu")
        assert ran.code == 0
        assert "warning: film.longvid/request.json: is not what was written there, and is not used" in ran.err
        assert Path("film.mp4").read_bytes() == whole
        assert request.read_bytes() == before
