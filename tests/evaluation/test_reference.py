from pathlib import Path

import numpy as np
import pytest
import torch

from longvid.errors import UserError
from longvid.evaluation import measuring, reference
from tests.evaluation.pictures import levels, panning, texture, write
from tests.evaluation.test_measuring import BY

CPU = torch.device("cpu")


def test_a_distance_from_a_folder_of_clips(workplace: Path) -> None:
    Path("clips").mkdir()
    write(Path("clips/a.mp4"), levels(72))
    write(Path("clips/b.mp4"), levels(72)[::-1])
    film = measuring.film(write(Path("film.mp4"), levels(96)))
    against = reference.references(Path("clips"), [film])
    assert [clip.path.name for clip in against] == ["a.mp4", "b.mp4"]
    own = measuring.measure(film, None, BY, lambda what: None, device=CPU)
    # A clip is known by its mean level, of which four are taken from the reference's six; how levels spread
    # over a clip is the same for all, and so is the second feature.
    apart = reference.apart([own], against, BY, lambda what: None)
    found = apart.fd_effnet
    assert found is not None and apart.fvd is None
    assert (found.n, found.dimensions) == (4, 3)
    mine, theirs = np.array([12.0, 36, 60, 84]), np.array([12.0, 60, 60, 12])
    wanted = (mine.mean() - theirs.mean()) ** 2 + (mine.std(ddof=1) - theirs.std(ddof=1)) ** 2
    assert found.value == pytest.approx(wanted, rel=0.2)


def test_clips_unlike_the_films_are_refused(workplace: Path) -> None:
    film = measuring.film(write(Path("film.mp4"), levels(48)))
    with pytest.raises(UserError, match="--against clips: there is no such folder"):
        reference.references(Path("clips"), [film])
    Path("clips").mkdir()
    (Path("clips") / "a.txt").write_text("a boat")
    with pytest.raises(UserError, match="--against clips: there are no clips in it"):
        reference.references(Path("clips"), [film])
    write(Path("clips/a.mp4"), panning(48, picture=texture()))
    said = "clips/a.mp4: is 96x64 at 12 frames a second, and film.mp4 48x32 at 12 frames a second; a distance"
    with pytest.raises(UserError, match=said):
        reference.references(Path("clips"), [film])
    write(Path("clips/a.mp4"), levels(96), fps=film.fps * 2)
    with pytest.raises(UserError, match=r"48x32 at 24 frames a second, and film.mp4 48x32 at 12"):
        reference.references(Path("clips"), [film])
    other = measuring.film(write(Path("other.mp4"), panning(48)))
    write(Path("clips/a.mp4"), levels(48))
    with pytest.raises(UserError, match=r"other.mp4: is 96x64"):
        reference.references(Path("clips"), [film, other])


def test_one_clip_has_no_covariance(workplace: Path) -> None:
    film = measuring.film(write(Path("film.mp4"), levels(24)))
    own = measuring.measure(film, None, BY, lambda what: None, device=CPU)
    with pytest.raises(UserError, match="--against: a distance takes two clips"):
        reference.apart([own], [film], BY, lambda what: None)
