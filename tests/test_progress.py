import io
import json
import warnings
from dataclasses import replace

import pytest
from rich.console import Console

from longvid import progress, training_events
from longvid.errors import LockedError, RenderError, UserError
from longvid.progress import (
    Began,
    ChunkSaved,
    Done,
    Loading,
    Noted,
    PreviewWritten,
    Stepped,
    Stopped,
    picture,
    showing,
)
from longvid.training_events import (
    CheckpointWritten,
    Counted,
    SampleWritten,
    TrainingBegan,
    TrainingDone,
    TrainingStepped,
    TrainingStopped,
)

BEGAN = Began("Boats", "film.mp4", "tiny", "a CPU", "float32", (384, 256), 12.0, 540, 34, 3, 200, 16)
STEPPED = Stepped(
    step=50,
    evaluations=200,
    units=(12, 13, 14, 15, 16),
    levels=(0, 4, 8, 12, 16),
    steps=16,
    shot=0,
    shots=3,
    prompt="a red boat",
    frames_done=130,
    frames=540,
    fps=12.0,
    seconds=20.0,
)
SAVED = ChunkSaved(11, 34, 130, 540)
DONE = Done("film.mp4", 540, 12.0, 30.0, 2_500_000)
STOPPED = Stopped("stopped by SIGINT", 11, 34, 130, 540, 12.0, "film.longvid")

TRAINING_BEGAN = TrainingBegan("boats", "tiny", "denoiser", "a card", "bfloat16", 2, 120_000, 0, 1000, 0.5)
LEARNT = TrainingStepped(
    step=250,
    steps=1000,
    loss=0.1234,
    lr=0.0001,
    samples_per_second=3.25,
    seconds=100.0,
    seconds_left=300.0,
    skipped=0,
    held_out=0.25,
    measured=False,
)
TRAINED = TrainingDone("boats", 750, 1000, (0.5, 0.25), (20.0, 25.5))


def shown(choice, events, **options) -> str:
    stream = io.StringIO()
    with showing(choice, stream=stream, **options) as show:
        for event in events:
            show(event)
    return stream.getvalue()


def test_plain_lines_say_what_changed():
    later = [replace(STEPPED, step=60, seconds=25.0), replace(STEPPED, step=100, seconds=31.0)]
    switched = replace(STEPPED, step=101, seconds=31.1, shot=1, prompt="the sea")
    events = [
        Noted("model tiny (the default)"),
        Noted("shot 1: tiny does not know: zzz", warning=True),
        Loading("loading tiny"),
        BEGAN,
        STEPPED,
        SAVED,
        *later,
        switched,
        PreviewWritten("preview.mp4", 130),
        DONE,
    ]
    assert shown("plain", events).splitlines() == [
        "model tiny (the default)",
        "warning: shot 1: tiny does not know: zzz",
        "loading tiny",
        "film.mp4: 0:45 of film, 540 frames of 384x256 at 12 a second, in 34 chunks of 16 steps "
        "on a CPU (float32)",
        " 25 %  0:11 of 0:45  6.8 frames/s  1:00 left  shot 1 of 3: a red boat",
        " 50 %  0:11 of 0:45  8.7 frames/s  0:31 left",
        " 50 %  0:11 of 0:45  8.8 frames/s  0:30 left  shot 2 of 3: the sea",
        "0:45 of film in 0:30 (18.0 frames/s), 2.5 MB",
    ]


def test_json_lines_hold_every_field():
    events = [Noted("ü"), Loading("x"), BEGAN, STEPPED, SAVED, PreviewWritten("p", 8), DONE, STOPPED]
    said = [json.loads(line) for line in shown("json", events).splitlines()]
    assert [event.pop("event") for event in said] == [
        "noted",
        "loading",
        "began",
        "stepped",
        "chunk_saved",
        "preview_written",
        "done",
        "stopped",
    ]
    assert said[3] == {
        "step": 50,
        "evaluations": 200,
        "units": [12, 13, 14, 15, 16],
        "levels": [0, 4, 8, 12, 16],
        "steps": 16,
        "shot": 0,
        "shots": 3,
        "prompt": "a red boat",
        "frames_done": 130,
        "frames": 540,
        "fps": 12.0,
        "seconds": 20.0,
        "begun_at": 0,
    }


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize(
    ("error", "exit_code", "message"),
    [
        (UserError("film.yaml:7: wrong"), 2, "film.yaml:7: wrong"),
        (LockedError("busy"), 3, "busy"),
        (RenderError("the disk is full"), 1, "the disk is full"),
        (KeyboardInterrupt(), 130, "broken off"),
        (ZeroDivisionError("a bug"), 1, "ZeroDivisionError: a bug"),
    ],
)
def test_json_ends_with_what_went_wrong(error, exit_code, message, quiet):
    stream = io.StringIO()
    with pytest.raises(SystemExit) as stop, showing("json", quiet, stream):
        raise error
    assert stop.value.code == exit_code
    failed = json.loads(stream.getvalue())
    traceback = failed.pop("traceback")
    assert failed == {"event": "failed", "message": message, "exit_code": exit_code}
    assert (traceback is not None) == isinstance(error, ZeroDivisionError)


def test_other_modes_let_errors_through():
    with pytest.raises(UserError, match="wrong"), showing("plain", stream=io.StringIO()):
        raise UserError("wrong")


def test_json_says_warnings_as_json():
    stream = io.StringIO()
    with showing("json", stream=stream):
        warnings.simplefilter("always")
        warnings.warn("an old card", UserWarning, stacklevel=1)
    assert json.loads(stream.getvalue()) == {"event": "noted", "text": "an old card", "warning": True}


def test_auto_is_plain_where_there_is_no_terminal_and_quiet_is_silent():
    assert shown("auto", [DONE]) == shown("plain", [DONE])
    assert shown("rich", [BEGAN, STEPPED, DONE], quiet=True) == ""
    assert shown("json", [BEGAN, STEPPED, DONE], quiet=True) == ""


def test_auto_is_plain_on_a_terminal_that_cannot_be_drawn_on(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    with showing("auto", stream=terminal) as show:
        show(STEPPED)
    assert terminal.getvalue() == shown("plain", [STEPPED])


def test_the_display_shows_bar_shot_and_window():
    console = Console(width=80, file=io.StringIO())
    with console.capture() as captured:
        console.print(picture(STEPPED))
    bar, shot, window = captured.get().splitlines()
    assert bar.endswith("0:11 / 0:45  6.8 frames/s  1:00 left")
    assert shot.rstrip() == "shot 1/3  a red boat"
    assert window.split() == ["window", "12", "██████", "13", "████▌", "14", "███", "15", "█▌", "16"]


def test_prompts_are_not_markup_and_long_ones_stay_on_their_line():
    console = Console(width=40, file=io.StringIO())
    with console.capture() as captured:
        console.print(picture(replace(STEPPED, prompt="[bold]a [/]" + "very " * 30)))
    lines = captured.get().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("shot 1/3  [bold]a [/]very")
    assert lines[1].rstrip().endswith("…")


def test_the_live_display_leaves_the_lines_that_matter(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    note = Noted("[red]model[/] tiny", warning=True)
    said = shown("rich", [note, Loading("loading"), BEGAN, STEPPED, DONE, STOPPED])
    assert "[red]model[/] tiny" in said
    assert "film.mp4: 0:45 of film, 540 frames of 384x256" in said
    assert "0:45 of film in 0:30 (18.0 frames/s), 2.5 MB" in said
    assert "11 of 34 chunks (0:11 of 0:45) are kept; to go on: longvid resume film.longvid" in said


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (65, "1:05"), (3600, "1:00:00"), (3725, "1:02:05")],
)
def test_lengths_of_time(seconds, text):
    assert progress.duration(seconds) == text


def test_how_things_stand():
    assert progress.standing(STOPPED) == (
        "stopped by SIGINT; 11 of 34 chunks (0:11 of 0:45) are kept; to go on: longvid resume film.longvid"
    )
    nothing = replace(STOPPED, chunks_done=0, frames_done=0, work="my film.longvid")
    assert progress.standing(nothing) == (
        "stopped by SIGINT; 0 of 34 chunks are kept; to go on: longvid resume 'my film.longvid'"
    )


def test_a_film_that_goes_on_counts_only_what_it_did_itself():
    resumed = replace(STEPPED, begun_at=40)
    assert progress.frames_a_second(resumed) == 540 * 10 / 200 / 20
    assert progress.seconds_left(resumed) == 20 / 10 * 150
    assert "(9.0 frames/s)" in progress.finished(replace(DONE, kept_frames=270))
    assert progress.finished(replace(DONE, seconds=0.0)) == "0:45 of film is there already, nothing to do"


def test_a_training_in_plain_lines():
    events = [
        *(Counted("encoding passages", done, 20) for done in range(21)),
        TRAINING_BEGAN,
        LEARNT,
        replace(LEARNT, step=251, seconds=109.9),
        replace(LEARNT, step=252, seconds=110.0, loss=None, skipped=1),
        replace(LEARNT, step=253, seconds=110.1, measured=True, held_out=None),
        CheckpointWritten(253, "checkpoints/000253"),
        SampleWritten(253, "samples/000253.mp4"),
        TrainingStopped("stopped", 253, 1000),
        TRAINED,
        replace(TRAINED, step=1000, held_out=None, psnr=None),
    ]
    assert shown("plain", events).splitlines() == [
        "encoding passages: 0 of 20",
        "encoding passages: 20 of 20",
        "boats: denoiser of tiny, 120,000 numbers, 1000 steps on a card (bfloat16), 2 processes",
        " 25 %  step 250 of 1000  loss 0.1234  held out 0.2500  lr 0.0001  3.2 clips/s  5:00 left",
        " 25 %  step 252 of 1000  loss no number  held out 0.2500  lr 0.0001  3.2 clips/s  1 skipped  "
        "5:00 left",
        " 25 %  step 253 of 1000  loss 0.1234  lr 0.0001  3.2 clips/s  5:00 left",
        "checkpoint checkpoints/000253",
        "sample film samples/000253.mp4",
        "stopped at step 253 of 1000, behind a checkpoint; the same command goes on",
        "boats: trained for 1000 steps, best at step 750, loss on what is held out 0.5000 -> 0.2500, "
        "PSNR 20.00 -> 25.50 dB",
        "boats: trained for 1000 steps",
    ]


def test_a_training_that_goes_on_says_from_where():
    assert "from step 250 of 1000 on a CPU (float32)" in shown(
        "plain", [replace(TRAINING_BEGAN, step=250, device="a CPU", dtype="float32", processes=1)]
    )


def test_a_training_in_json_lines():
    events = [Counted("x", 1, 2), TRAINING_BEGAN, replace(LEARNT, loss=None), TRAINED]
    said = [json.loads(line) for line in shown("json", events).splitlines()]
    assert said[0] == {"event": "counted", "what": "x", "done": 1, "total": 2}
    assert (said[1]["event"], said[1]["held_out"]) == ("training_began", 0.5)
    assert (said[2]["event"], said[2]["loss"]) == ("training_stepped", None)
    assert (said[3]["event"], said[3]["psnr"]) == ("training_done", [20.0, 25.5])


def test_the_display_of_a_training_is_a_bar_and_its_figures():
    console = Console(width=70, file=io.StringIO())
    with console.capture() as captured:
        console.print(training_events.picture(LEARNT))
    bar, figures = captured.get().splitlines()
    assert bar.endswith("step 250 / 1000  5:00 left") and bar.startswith("━━━")
    assert figures.rstrip() == "loss 0.1234  held out 0.2500  lr 0.0001  3.2 clips/s"


def test_the_live_display_of_a_training_leaves_the_lines_that_matter(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    events = [Counted("x", 1, 2), TRAINING_BEGAN, LEARNT, SampleWritten(250, "samples/000250.mp4"), TRAINED]
    said = shown("rich", events)
    assert "boats: denoiser of tiny, 120,000 numbers, 1000 steps" in said
    assert "sample film samples/000250.mp4" in said
    assert "PSNR 20.00 -> 25.50 dB" in said
