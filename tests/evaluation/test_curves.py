from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from longvid.evaluation import curves


def drawn(path: Path) -> np.ndarray:
    with av.open(str(path)) as picture:
        return next(picture.decode(video=0)).to_ndarray(format="rgb24")


def test_a_plot_for_each_metric_that_has_values(tmp_path: Path) -> None:
    film = {"flicker": [0.9, 0.8, None, 0.7], "motion": [None, None], "luma": [1.0, 2.0]}
    heights = []
    for names in (("flicker", "motion"), ("flicker", "luma"), ("flicker", "luma", "motion")):
        curves.draw([{name: film[name] for name in names}], "film.mp4", tmp_path / "curves.png")
        heights.append(drawn(tmp_path / "curves.png").shape[0])
    row = round(curves.ROW_INCHES * curves.DPI)
    assert heights == [row, row, row], "two to a row, and motion has none"
    more = {name: [1.0, 2.0] for name in curves.LABELS}
    curves.draw([more], "film.mp4", tmp_path / "curves.png")
    assert drawn(tmp_path / "curves.png").shape[0] == -(-len(curves.LABELS) // 2) * row


def test_several_films_have_a_mean_and_a_band(tmp_path: Path) -> None:
    def blue(films: list[dict[str, list[float | None]]]) -> int:
        curves.draw(films, "films", tmp_path / "curves.png")
        pixels = drawn(tmp_path / "curves.png").astype(int)
        return int((pixels[..., 2] - pixels[..., 0] > 20).sum())

    near: list[dict[str, list[float | None]]] = [
        {"luma": [float(level)] * 5 + [0.0, 100.0]} for level in (50, 51, 52)
    ]
    far: list[dict[str, list[float | None]]] = [
        {"luma": [float(level)] * 5 + [0.0, 100.0]} for level in (10, 50, 90)
    ]
    assert blue(near[:1]) < blue(near) < blue(far), "the band is wider where films differ more"


def test_a_clip_is_drawn_at_its_middle() -> None:
    assert [curves.at(clip) for clip in range(3)] == [1, 3, 5]
    assert {after - before for before, after in pairwise(map(curves.at, range(9)))} == {2}
