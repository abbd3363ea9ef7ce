"""The training loop on the tiny backend: it learns, goes on to the bit, agrees however a batch is shared."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longvid.errors import RenderError, UserError
from longvid.guidance import PromptText
from longvid.training import checkpoints, muon
from longvid.training.average import Weights
from longvid.training.distributed import accelerator
from longvid.training.recipe import Optimizer, Recipe
from longvid.training.sequences import InMemory
from longvid.training.trainer import Averaged, Began, Event, Saved, Stepped, Unsaved, measure
from tests.installed import REPOSITORY
from tests.training.lessons import RECIPE, clips, denoising, film, lesson

ALONE = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
ROUNDING = {"rtol": 1e-4, "atol": 1e-6}
"""How far sums in another order may move the weights of 30 steps."""


def steps(events: Iterator[Event] | list[Event]) -> list[Stepped]:
    return [event for event in events if isinstance(event, Stepped)]


def last(folder: Path) -> dict[str, Weights]:
    """All tensors of the folder's last checkpoint."""
    saved, broken = checkpoints.newest(folder)
    assert saved is not None and not broken
    return {part: saved.tensors(part) for part in checkpoints.PARTS}


def assert_same(ours: dict[str, Weights], theirs: dict[str, Weights], **tolerance: float) -> None:
    for part, tensors in ours.items():
        assert tensors.keys() == theirs[part].keys()
        for name, tensor in tensors.items():
            torch.testing.assert_close(
                tensor, theirs[part][name], **(tolerance or {"rtol": 0, "atol": 0}), msg=f"{part}: {name}"
            )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    list(lesson(folder))
    return folder


def test_thirty_steps_lower_the_loss(tmp_path: Path) -> None:
    began, *events = lesson(tmp_path)
    assert isinstance(began, Began)
    assert (began.step, began.steps, began.processes, began.parameters) == (
        0,
        30,
        1,
        8 * 3 + 8 + 8 * 8 + 3 * 8,
    )
    done = steps(events)
    assert [event.step for event in done] == list(range(1, 31))
    assert sum(event.loss for event in done[-5:]) < 0.5 * sum(event.loss for event in done[:5])
    assert [event.step for event in done if event.held_out] == [15, 30]
    for kind, before in began.held_out.items():
        assert done[-1].held_out[kind] < 0.5 * before
    assert [event.step for event in events if isinstance(event, Saved)] == [15, 30]
    assert [event.lr for event in done] == [RECIPE.rate(step) for step in range(30)]
    assert done[-1].samples == 30 * 4
    assert all(event.seconds > 0 for event in done)


def test_a_run_that_was_killed_goes_on_to_the_bit(whole: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.training.lessons", str(tmp_path), '{"checkpoint_steps": 5}']
    with subprocess.Popen(command, env=ALONE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if json.loads(line) == {"event": "Stepped", "step": 17}:
                run.send_signal(signal.SIGKILL)
                break
    assert run.returncode == -signal.SIGKILL
    began, *events = lesson(tmp_path)
    assert isinstance(began, Began)
    assert 15 <= began.step < 30  # It ran on for a moment.
    assert [event.step for event in steps(events)] == list(range(began.step + 1, 31))
    assert_same(last(tmp_path), last(whole))


def test_a_run_that_failed_goes_on_to_the_bit(whole: Path, tmp_path: Path) -> None:
    class Failing(InMemory):
        def excerpt(self, *place: int) -> Any:
            if failing.asked == 150:
                raise OSError("the disk went away")
            failing.asked += 1
            return super().excerpt(*place)

    class failing:  # noqa: N801, a counter
        asked = 0

    data = Failing(**vars(clips(film(), "training")))
    told: list[Event] = []
    with pytest.raises(OSError, match="went away"):
        told.extend(lesson(tmp_path, data=data))
    assert isinstance(told[-1], Stepped) and 15 < told[-1].step < 30
    began, *events = lesson(tmp_path)
    assert isinstance(began, Began) and began.step == 15
    assert steps(events)[-1].elapsed_seconds > steps(events)[0].elapsed_seconds > 0
    assert_same(last(tmp_path), last(whole))


def test_a_run_that_was_asked_to_stop_goes_on_to_the_bit(whole: Path, tmp_path: Path) -> None:
    asked = iter([False] * 6 + [True])
    events = list(lesson(tmp_path, stopping=lambda: next(asked)))
    assert [event.step for event in steps(events)] == list(range(1, 8))
    assert isinstance(events[-1], Saved) and events[-1].step == 7
    began, *_ = lesson(tmp_path)
    assert isinstance(began, Began) and began.held_out == steps(events)[-1].held_out != {}
    assert_same(last(tmp_path), last(whole))
    assert [type(event) for event in lesson(tmp_path)] == [Began]


def test_muon_goes_on_to_the_bit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "HIDDEN", 8)  # which one of the tiny network's matrices has
    recipe = replace(RECIPE, optimizer="muon", steps=8, checkpoint_steps=4)
    list(lesson(tmp_path / "whole", recipe))
    asked = iter([False] * 4 + [True])
    list(lesson(tmp_path / "parts", recipe, stopping=lambda: next(asked)))
    began, *_ = lesson(tmp_path / "parts", recipe)
    assert isinstance(began, Began) and began.step == 5
    assert_same(last(tmp_path / "parts"), last(tmp_path / "whole"))
    assert sum(name.endswith("/average") for name in last(tmp_path / "whole")["optimizer"]) == 1


def test_what_is_held_out_is_the_same_for_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text checks differ in their prompts alone: a network that hears none loses as much by each."""
    monkeypatch.setattr(PromptText, "null", lambda text: text)
    alike = denoising(film())
    alike = replace(alike, held_out=clips(film(), "held out", (6,)))
    measured = measure(alike, alike.network, RECIPE, accelerator(device="cpu"))
    assert measured["text"] == measured["text_another"] == measured["text_none"] > 0


def test_while_averaged_the_network_holds_the_average_and_the_run_does_not_feel_it(
    whole: Path, tmp_path: Path
) -> None:
    objective = denoising(film())
    held: dict[int, Weights] = {}
    for event in lesson(tmp_path, replace(RECIPE, sample_steps=15), objective=objective):
        if isinstance(event, Averaged):
            held[event.step] = {name: p.clone() for name, p in objective.network.named_parameters()}
    assert list(held) == [15, 30]
    average = last(tmp_path)["average"]
    assert all(torch.equal(held[30][name], average[name]) for name in average)
    assert_same(last(tmp_path), last(whole))


@pytest.mark.parametrize(
    "shared", [{"micro_batch": 1}, {"micro_batch": 4}], ids=["accumulated", "all at once"]
)
def test_a_batch_may_be_cut_anyhow(whole: Path, tmp_path: Path, shared: dict[str, int]) -> None:
    list(lesson(tmp_path, replace(RECIPE, **shared)))
    assert_same(last(tmp_path), last(whole), **ROUNDING)


def test_recomputed_blocks_change_nothing(whole: Path, tmp_path: Path) -> None:
    list(lesson(tmp_path, replace(RECIPE, recompute=True)))
    assert_same(last(tmp_path), last(whole))


@pytest.mark.parametrize("shard", [False, True], ids=["DDP", "FSDP2"])
def test_two_processes_agree_with_one(whole: Path, tmp_path: Path, shard: bool) -> None:
    """Launched as anyone launches them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # This option of the launcher's starts several processes, whatever they compute on.
    launch = ["--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no"]
    launch += ["--dynamo_backend=no", f"--main_process_port={port}"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch]
    options = json.dumps({"micro_batch": 1, "shard": shard})
    module = ["-m", "tests.training.lessons", str(tmp_path), options]
    ran = subprocess.run([*command, *module], env=ALONE, capture_output=True, text=True, cwd=REPOSITORY)
    assert ran.returncode == 0, ran.stderr
    told = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    for event in ("Began", "Stepped", "Saved"):
        assert sum(each == {"event": event, "step": 30 * (event != "Began")} for each in told) == 2
    assert_same(last(tmp_path), last(whole), **ROUNDING)
    saved, _ = checkpoints.newest(tmp_path)
    alone, _ = checkpoints.newest(whole)
    assert saved is not None and alone is not None
    assert saved.state["held_out"] == pytest.approx(alone.state["held_out"], rel=1e-4)


def test_the_average_is_of_the_weights(tmp_path: Path) -> None:
    averages: Weights = {}
    recipe = replace(RECIPE, steps=6, checkpoint_steps=1, keep_last=6)
    events = lesson(tmp_path, recipe)
    assert isinstance(next(events), Began)
    averages = {name: tensor.clone() for name, tensor in film().trainee().network.named_parameters()}
    list(events)
    for step in range(6):
        kept = min(recipe.average, (1 + step) / (10 + step))
        saved = checkpoints.Checkpoint(checkpoints.path(tmp_path, step + 1), {})
        for name, weight in saved.tensors("weights").items():
            averages[name] = kept * averages[name] + (1 - kept) * weight
    for name, average in saved.tensors("average").items():
        torch.testing.assert_close(average, averages[name].detach(), rtol=1e-5, atol=1e-7)


# What goes wrong


def with_nan(at: set[int]) -> InMemory:
    """The data, in which the sequences of a caption are broken from one reading to another."""
    data = clips(film(), "training")
    latents: tuple[Tensor, ...] = tuple(
        tensor * (float("nan") if i in at else 1) for i, tensor in enumerate(data.latents)
    )
    return replace(data, latents=latents)


def test_steps_that_are_not_finite_are_left_out_and_counted(tmp_path: Path) -> None:
    events = list(lesson(tmp_path, replace(RECIPE, batch=2), data=with_nan({2})))
    done = steps(events)
    bad = [event for event in done if event.loss != event.loss]
    assert 0 < len(bad) < 30
    assert done[-1].skipped == len(bad)
    for _, weights in last(tmp_path).items():
        assert all(tensor.isfinite().all() for tensor in weights.values())
    assert done[-1].held_out["start"] < 0.7 * events[0].held_out["start"]  # type: ignore[union-attr]
    saved, _ = checkpoints.newest(tmp_path)
    assert saved is not None and saved.state["skipped"] == len(bad)


def test_too_many_of_them_end_the_run(tmp_path: Path) -> None:
    list(lesson(tmp_path, replace(RECIPE, steps=5, checkpoint_steps=5)))
    events: list[Event] = []
    with pytest.raises(RenderError) as error:
        for event in lesson(tmp_path, replace(RECIPE, non_finite_limit=3), data=with_nan({0, 1, 2, 3})):
            events.append(event)
    assert [(event.step, event.skipped) for event in steps(events)] == [(6, 1), (7, 2)]
    assert str(error.value) == (
        f"step 8: no finite loss or gradient 3 times in a row; {tmp_path}/000005 is kept. Begin anew with a "
        "lower learning rate"
    )
    assert checkpoints.steps(tmp_path) == [5]


def test_a_full_disk_leaves_the_last_good_checkpoint(whole: Path, tmp_path: Path) -> None:
    """The limit of a file's size, met in mid-file, is the disk's."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    recipe = replace(RECIPE, checkpoint_steps=6, keep_last=1)
    told: list[Event] = []
    try:
        for event in lesson(tmp_path, recipe):
            told.append(event)
            if isinstance(event, Stepped) and event.step in (12, 18):
                full = event.step == 12
                resource.setrlimit(resource.RLIMIT_FSIZE, (700 if full else limits[0], limits[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (unsaved,) = [event for event in told if isinstance(event, Unsaved)]
    assert unsaved.step == 12
    assert unsaved.reason.startswith(f"{tmp_path}/") and "cannot be written" in unsaved.reason
    assert "\n" not in unsaved.reason
    assert [event.step for event in told if isinstance(event, Saved)] == [6, 18, 24, 30]
    assert_same(last(tmp_path), last(whole))


def test_the_last_checkpoint_must_be_written(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(RenderError, match="cannot be written"):
            for event in lesson(tmp_path):
                if isinstance(event, Stepped) and event.step == 30:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (700, limits[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(event, Unsaved)
    saved, broken = checkpoints.newest(tmp_path)
    assert saved is not None and saved.step == 15 and not broken
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000015"]


def test_a_broken_checkpoint_is_passed_over(whole: Path, tmp_path: Path) -> None:
    list(lesson(tmp_path))
    weights = tmp_path / "000030" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    began, *_ = lesson(tmp_path)
    assert isinstance(began, Began)
    assert (began.step, began.broken) == (15, (tmp_path / "000030",))
    assert_same(last(tmp_path), last(whole))


def test_another_run_does_not_go_on(whole: Path) -> None:
    with pytest.raises(UserError) as error:
        next(lesson(whole, replace(RECIPE, lr=0.5)))
    assert str(error.value) == (
        f"{whole}/000030: was trained with lr 0.02, this run has 0.5; give the same, or another folder"
    )


def test_eight_bits_need_a_card(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a CUDA card and bitsandbytes"):
        next(lesson(tmp_path, replace(RECIPE, optimizer="adamw-8bit")))


def test_accelerate_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(UserError, match=r"^training needs Accelerate: pip install 'longvid\[training\]'$"):
        accelerator()


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["adamw", "adamw-8bit"])
def test_a_card_learns_and_goes_on_to_the_bit(tmp_path: Path, optimizer: Optimizer) -> None:
    if optimizer == "adamw-8bit":
        pytest.importorskip("bitsandbytes")
    recipe = replace(RECIPE, optimizer=optimizer)
    _, *events = lesson(tmp_path / "whole", recipe, precision="bf16", device="cuda")
    assert steps(events)[-1].loss < steps(events)[0].loss
    asked = iter([False] * 16 + [True])
    stopped = tmp_path / "stopped"
    list(lesson(stopped, recipe, precision="bf16", device="cuda", stopping=lambda: next(asked)))
    list(lesson(stopped, recipe, precision="bf16", device="cuda"))
    assert_same(last(stopped), last(tmp_path / "whole"))


def test_bfloat16_learns_and_keeps_float32_weights(tmp_path: Path) -> None:
    began, *events = lesson(tmp_path, precision="bf16")
    assert isinstance(began, Began)
    for kind, before in began.held_out.items():
        assert steps(events)[-1].held_out[kind] < 0.5 * before
    assert all(tensor.dtype == torch.float32 for tensor in last(tmp_path)["weights"].values())


def test_a_longer_run_goes_on(whole: Path, tmp_path: Path) -> None:
    list(lesson(tmp_path, replace(RECIPE, steps=5, checkpoint_steps=5)))
    began, *events = lesson(tmp_path, replace(RECIPE, steps=8))
    assert isinstance(began, Began) and began.step == 5
    assert [event.step for event in steps(events)] == [6, 7, 8]


# The recipe


def test_the_rate_warms_up_and_falls_as_a_cosine() -> None:
    recipe = Recipe(steps=110, lr=2.0, warmup_steps=10)
    assert [recipe.rate(step) for step in (0, 4, 9, 10)] == [0.2, 1.0, 2.0, 2.0]
    assert recipe.rate(60) == pytest.approx(1.0)
    assert 0 < recipe.rate(109) < 0.001
    assert Recipe(steps=5, lr=2.0, warmup_steps=10).rate(4) == 1.0


def test_a_batch_is_shared() -> None:
    recipe = Recipe(steps=1, batch=8, micro_batch=2)
    assert recipe.share(1) == [[range(0, 2), range(2, 4), range(4, 6), range(6, 8)]]
    assert recipe.share(2) == [[range(0, 2), range(2, 4)], [range(4, 6), range(6, 8)]]
    with pytest.raises(UserError) as error:
        recipe.share(3)
    assert (
        str(error.value) == "a batch of 8 cannot be computed by 3 processes, 2 samples at once; try one of 6"
    )
    with pytest.raises(UserError, match="by a process, 16 samples at once; try one of 16"):
        replace(recipe, micro_batch=16).share(1)


def test_the_recipe_is_json() -> None:
    assert json.loads(json.dumps(asdict(RECIPE))) == asdict(RECIPE)
    assert RECIPE.identity().keys() < asdict(RECIPE).keys()
