"""diorama's folder as it is published: three files of weights, and longvid.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from longvid.backends.diorama import FILES, NAME
from longvid.files import place, write_backend, write_tensors, written_over


def save(source: Path, folder: Path, changed: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write ``folder``: what the folder of weights ``source`` holds, but for what has ``changed``.

    That is by file (of FILES) and by name; other tensors of that file stay as they are. Numbers are written
    as they come, in whatever dtype. Raises ValueError for a file or a tensor that there is no place for, and
    RenderError where the disk refuses; files appear whole, and the last one makes the folder a model's.
    """
    if unknown := changed.keys() - set(FILES):
        raise ValueError(f"a diorama folder holds no {', '.join(sorted(unknown))}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if name in changed:
            with safe_open(source / name, "pt") as stored:
                metadata = stored.metadata()
            tensors = written_over(load_file(source / name), changed[name])
            write_tensors(folder / name, tensors, metadata)
        else:
            place(source / name, folder / name)
    write_backend(folder, NAME)
