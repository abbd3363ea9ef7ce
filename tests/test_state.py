import json
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from longvid import files, outputs, state
from longvid.denoise import WindowState
from longvid.errors import LockedError, RenderError, UserError
from longvid.plan import RenderPlan, plan
from longvid.state import Chunk, work_directory
from longvid.timeline import build
from tests.tiny import TinyBackend

BACKEND = TinyBackend()


def planned(seconds: float = 12, **film: object) -> RenderPlan:
    """A film of 18 chunks, S = 8, K = 4: chunk i shares windows with i + 1 ... i + 3."""
    shots = [{"prompt": "a red boat", "seconds": seconds / 2}, {"prompt": "the sea", "seconds": seconds / 2}]
    return plan(build({"seed": 7, **film, "shots": shots}), BACKEND)


def chunk(index: int, size: int = 4, segment: bytes | None = b"segment") -> Chunk:
    latents = torch.full((1, 3, 2, size, 6), float(index))
    held = WindowState(8 + 2 * index, (index,), (0,), latents, None)
    seconds = {"denoise": 0.12345678}
    names = (f"id{index}", f"latents{index}", f"conditions{index}")
    return Chunk(index, *names, 8, seconds, latents, segment, held, f"state{index}", {"last": latents})


# States


@pytest.mark.parametrize("remembers", [True, False])
def test_a_state_comes_back_bit_for_bit(tmp_path, remembers):
    generator = torch.Generator().manual_seed(0)
    latents, memory, last = (torch.randn(1, 3, 8, 4, 6, generator=generator) for _ in range(3))
    held = WindowState(31, (4, 5, 6, 7), (0, 3, 5, 7), latents, memory if remembers else None)
    path = tmp_path / "state.safetensors"
    path.write_bytes(state.save_state(held, {"last": last, "count": torch.tensor([3])}, "id"))
    back, carry = state.load_state(path, torch.device("cpu"))
    assert (back.step, back.units, back.levels) == (held.step, held.units, held.levels)
    assert torch.equal(back.latents, latents)
    assert (back.memory is None) == (not remembers)
    assert not remembers or torch.equal(back.memory, memory)
    assert carry.keys() == {"last", "count"}
    assert torch.equal(carry["last"], last)
    assert carry["count"].tolist() == [3]


# The directory


def test_a_chunk_is_recorded_last_with_the_checksum_of_every_file(tmp_path):
    with work_directory(tmp_path / "film.mp4") as work:
        work.save_chunk(chunk(0))
        record = files.read_sealed(work.path / "chunks" / "000000.json")
        assert record == {
            "chunk": 0,
            "identity": "id0",
            "latents": "latents0",
            "conditions": "conditions0",
            "step": 8,
            "frames": 8,
            "seconds": {"denoise": 0.1235},
            "files": {
                name: files.checksum(work.path / name)
                for name in (
                    "latents/000000.safetensors",
                    "segments/000000.mp4",
                    "states/000000.safetensors",
                )
            },
        }
        assert work.segments(2) == [work.segment(0)]


def test_a_chunk_that_cannot_be_written_whole_is_not_recorded(tmp_path, monkeypatch):
    with work_directory(tmp_path / "film.mp4") as work:
        work.save_chunk(chunk(0))
        write = state.write

        def full(path, content, **options):
            if path.parent.name == "states":
                raise RenderError(f"{path}: cannot be written: No space left on device")
            write(path, content, **options)

        monkeypatch.setattr(state, "write", full)
        with pytest.raises(RenderError, match="No space left"):
            work.save_chunk(chunk(1))
        assert [path.name for path in (work.path / "chunks").iterdir()] == ["000000.json"]


def test_the_oldest_states_go_first_and_the_last_stays(tmp_path, monkeypatch):
    with work_directory(tmp_path / "film.mp4") as work:
        work.save_chunk(chunk(0))
        size = (work.path / "states" / "000000.safetensors").stat().st_size
        monkeypatch.setattr(state, "STATE_BYTES", 3 * size + 100)
        for index in range(1, 6):
            work.save_chunk(chunk(index))
        kept = sorted(path.stem for path in (work.path / "states").iterdir())
        assert kept == ["000003", "000004", "000005"]
        monkeypatch.setattr(state, "STATE_BYTES", 1)
        work.save_chunk(chunk(6))
        assert [path.stem for path in (work.path / "states").iterdir()] == ["000006"]
        assert len(work.segments(9)) == len(list((work.path / "latents").iterdir())) == 7


def test_a_chunk_without_frames_or_state_leaves_out_their_files(tmp_path):
    with work_directory(tmp_path / "film.mp4") as work:
        work.save_chunk(replace(chunk(0, segment=None), state=None))
        record = files.read_sealed(work.path / "chunks" / "000000.json")
        assert record is not None
        assert list(record["files"]) == ["latents/000000.safetensors"]


def test_one_process_at_a_time_and_the_message_names_it(tmp_path):
    film = tmp_path / "film.mp4"
    with (
        work_directory(film),
        pytest.raises(LockedError, match=rf"film\.longvid: process {os.getpid()} on .* renders there"),
        work_directory(film),
    ):
        pass
    with (
        work_directory(film),
        pytest.raises(LockedError, match="renders there"),
        work_directory(film, fresh=True),
    ):
        pass
    with work_directory(film):
        pass


def test_an_earlier_render_is_kept_and_fresh_moves_it_aside(tmp_path):
    film = tmp_path / "film.mp4"
    for _ in range(2):
        with work_directory(film, fresh=True) as work:
            work.save_chunk(chunk(0))
    with work_directory(film) as work:
        assert [path.name for path in work.segments(1)] == ["000000.mp4"]
    with work_directory(film, fresh=True) as work:
        assert not work.segments(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "film.longvid",
        "film.longvid.1",
        "film.longvid.2",
    ]
    assert (tmp_path / "film.longvid.1" / "segments" / "000000.mp4").read_bytes() == b"segment"


def test_a_directory_with_nothing_finished_is_simply_used(tmp_path):
    film = tmp_path / "film.mp4"
    with work_directory(film) as work:
        work.write_run({"status": "unfinished"})
    with work_directory(film) as work:
        assert not work.segments(1)


def test_a_file_that_no_render_made_is_not_overwritten(tmp_path):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"holiday")
    with pytest.raises(UserError, match="no render here made it; --overwrite"), work_directory(film):
        pass
    assert os.listdir(tmp_path) == ["film.mp4"]
    with work_directory(film, overwrite=True) as work:
        work.save_chunk(chunk(0))
        work.write_run({"film": files.checksum(film)})
    with work_directory(film, fresh=True) as work:
        work.save_chunk(chunk(0))
    with work_directory(film, fresh=True):
        pass
    film.write_bytes(b"edited")
    with pytest.raises(UserError, match="--overwrite"), work_directory(film, fresh=True):
        pass


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("film.mkv", r"film\.mkv: a film is written as \.mp4; try .*film\.mp4"),
        ("film", r"a film is written as \.mp4"),
        (".mp4", r"\.mp4: a film is written as \.mp4; try .*/film\.mp4"),
        ("folder.mp4", r"folder\.mp4 is a folder; name a file in it, as .*folder\.mp4/film\.mp4"),
        ("nowhere/film.mp4", r"there is no folder .*nowhere; create it first"),
        ("file/film.mp4", "there is no folder"),
        ("taken.mp4", r"taken\.longvid: cannot write there: Not a directory; choose another folder"),
        (".", r"--output .* is a folder; name a file in it, as .*film\.mp4"),
        ("/", r"--output / is a folder; name a file in it, as /film\.mp4"),
        ("pipe.mp4", r"pipe\.mp4: is there and no ordinary file; name another"),
        ("a" * 300 + ".mp4", r"aaa\.mp4: cannot write there: File name too long"),
        ("a" * 250 + ".mp4", r"aaa\.longvid: cannot write there: File name too long"),
    ],
)
def test_an_output_that_can_be_no_film_is_refused_untouched(tmp_path, name, message):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "taken.longvid").touch()
    os.mkfifo(tmp_path / "pipe.mp4")  # whoever opens it waits for ever
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(UserError, match=message), work_directory(tmp_path / name, overwrite=True):
        pass
    with pytest.raises(UserError, match=message), work_directory(tmp_path / name):
        pass
    assert sorted(os.listdir(tmp_path)) == before


def test_the_current_folder_is_no_film(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("", ".", ".."):
        with pytest.raises(UserError, match="is a folder; name a file in it"), work_directory(Path(name)):
            pass


def test_a_film_whose_work_directory_can_be_made_can_be_written(tmp_path):
    film = tmp_path / f"{'a' * 247}.mp4"
    with work_directory(film):
        state.write(film, b"film")
    assert film.read_bytes() == b"film"


def test_a_file_that_may_not_be_read_is_one_line(tmp_path, monkeypatch):
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "film.mp4").touch()
    monkeypatch.setattr(outputs, "checksum", refuse)
    with (
        pytest.raises(UserError, match=r"film\.mp4: cannot write there: Permission denied"),
        work_directory(tmp_path / "film.mp4"),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_the_users_to_change(tmp_path, monkeypatch):
    def refuse(self, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with (
        pytest.raises(UserError, match="cannot write there: Permission denied; choose another"),
        work_directory(tmp_path / "film.mp4"),
    ):
        pass


@pytest.mark.parametrize("style", ["soft", "weiches Licht über dem Meer 🎈"])
def test_plan_json_is_sealed_by_the_plans_own_hash(tmp_path, style):
    effective = planned(fps=Fraction(12), style=style).effective()
    with work_directory(tmp_path / "film.mp4") as work:
        work.write_plan({key: value for key, value in effective.items() if key != "sha256"})
        assert json.loads((work.path / "plan.json").read_text())["sha256"] == effective["sha256"]
        assert files.read_sealed(work.path / "plan.json") is not None
