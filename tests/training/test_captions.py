"""Which files of a folder are clips, and what is said of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from longvid.errors import UserError
from longvid.training.captions import Listing, listing


def put(folder: Path, **files: str | bytes) -> Path:
    """Files by name, with ``__`` for a slash and ``_`` for a dot."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def told(listed: Listing) -> dict[str, str]:
    return {str(clip.path.relative_to(listed.folder)): clip.caption for clip in listed.clips}


def problems(listed: Listing) -> list[str]:
    return [str(problem).removeprefix(f"{listed.folder}{os.sep}") for problem in listed.problems]


def test_a_text_beside_each_clip(tmp_path: Path) -> None:
    put(
        tmp_path,
        boat_mp4="",
        boat_txt="\ufeffa red boat\n  at dawn\n",
        far__sea_webm="",
        far__sea_txt="the sea",
    )
    assert told(listing(tmp_path)) == {"boat.mp4": "a red boat at dawn", "far/sea.webm": "the sea"}
    assert problems(listing(tmp_path)) == []


def test_a_csv_of_file_names_and_texts(tmp_path: Path) -> None:
    rows = '\ufefftext,more,file_name\n"a red\nboat, small",1,a.mp4\nthe sea,2,below/b.mkv\n'
    put(tmp_path, metadata_csv=rows, a_mp4="", below__b_mkv="")
    assert told(listing(tmp_path)) == {"a.mp4": "a red boat, small", "below/b.mkv": "the sea"}


def test_a_json_line_a_clip_in_the_folder_of_the_clips(tmp_path: Path) -> None:
    rows = [{"file_name": "a.mp4", "text": "a boat", "seed": 1}, {"file_name": "./b.bin", "text": "the sea"}]
    lines = "\n\n".join(map(json.dumps, rows))
    put(tmp_path, below__metadata_jsonl=lines, below__a_mp4="", below__b_bin="")
    assert told(listing(tmp_path)) == {"below/a.mp4": "a boat", "below/b.bin": "the sea"}


def test_a_text_beside_a_clip_goes_before_a_list(tmp_path: Path) -> None:
    put(
        tmp_path,
        metadata_csv="file_name,text\na.mp4,listed\nb.mp4,listed",
        a_mp4="",
        b_mp4="",
        a_txt="beside",
    )
    assert told(listing(tmp_path)) == {"a.mp4": "beside", "b.mp4": "listed"}


def test_one_text_serves_a_clip_in_two_formats(tmp_path: Path) -> None:
    assert told(listing(put(tmp_path, a_mp4="", a_MOV="", a_txt="a boat"))) == {
        "a.MOV": "a boat",
        "a.mp4": "a boat",
    }


def test_whatever_is_wrong_with_one_clip_costs_that_clip(tmp_path: Path) -> None:
    lines = '{"file_name": "nowhere.mp4", "text": "x"}\nno json\n{"file_name": "a.mp4"}\n[1]\n'
    lines += '{"file_name": "../out.mp4", "text": "x"}\n{"file_name": "blank.mp4", "text": " "}\n'
    lines += '{"file_name": "boat.mp4", "text": "one"}\n{"file_name": "boat.mp4", "text": "two"}\n'
    folder = put(
        tmp_path / "clips",
        metadata_jsonl=lines,
        boat_mp4="",
        a_mp4="",
        blank_mp4="",
        empty_mp4="",
        empty_txt=" \n",
        latin_mp4="",
        latin_txt="caf\xe9".encode("latin-1"),
        alone_txt="a boat",
        notes_pdf="",
    )
    put(tmp_path, out_mp4="")
    assert told(listing(folder)) == {"boat.mp4": "one"}
    assert problems(listing(folder)) == [
        "a.mp4: has no caption; write one as a.txt beside it",
        "alone.txt: is a caption without a clip of its name beside it",
        "blank.mp4: has no caption; write one as blank.txt beside it",
        "empty.txt: is empty; write the caption into it",
        "latin.txt: is no UTF-8 text; save it as UTF-8",
        "metadata.jsonl:1: is a caption without a clip: there is no 'nowhere.mp4' here",
        'metadata.jsonl:2: is no {"file_name": ..., "text": ...}',
        "metadata.jsonl:3: text is nothing, and is to be text",
        'metadata.jsonl:4: is no {"file_name": ..., "text": ...}',
        "metadata.jsonl:5: is a caption without a clip: there is no '../out.mp4' here",
        "metadata.jsonl:6: 'blank.mp4' has an empty caption",
        "metadata.jsonl:8: is the second caption of 'boat.mp4'; the first one counts",
    ]


def test_hidden_files_are_left_out_and_linked_folders_read_once(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", a_mp4="", a_txt="a boat")
    folder = put(tmp_path / "clips", **{"__MACOSX__a_mp4": "", "_git__b_mp4": "", "_c_mp4": ""})
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(tmp_path / "elsewhere")
    (folder / "round").symlink_to(folder)
    os.mkfifo(folder / "pipe.txt")
    assert told(listing(folder)) == {"again/a.mp4": "a boat"}
    assert problems(listing(folder)) == []


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "DATA: holds no clip; put clips there, each with a caption beside as NAME.txt"),
        ({"boat_txt": "a boat", "notes_pdf": ""}, "DATA: holds no clip; put clips there, each with"),
        ({"a_mp4": ""}, "DATA: holds 1 clip and no caption for it; write one beside each as NAME.txt, or a"),
        (
            {"a_mp4": "", "metadata_jsonl": "{"},
            "DATA: no clip has a caption that can be read: DATA/metadata.jsonl:1: ",
        ),
        ({"a_mp4": "", "b_mov": ""}, "DATA: holds 2 clips and no caption for any; write one beside each as"),
        (
            {"a_mp4": "", "metadata_csv": ""},
            "DATA/metadata.csv:1: has no column file_name; its columns are none",
        ),
        (
            {"a_mp4": "", "metadata_csv": "file_name,caption\na.mp4,a boat\n"},
            "DATA/metadata.csv:1: has no column text; its columns are 'file_name', 'caption'",
        ),
        ({"a_mp4": "", "metadata_csv": b"\xff\xfe"}, "DATA/metadata.csv: is no UTF-8 text; save it as UTF-8"),
        ({"a_mp4": "", "metadata_jsonl": b"\xff\xfe"}, "DATA/metadata.jsonl: is no UTF-8 text; save it as"),
        (
            {"a_mp4": "", "metadata_csv": "file_name,text\na.mp4," + "x" * 140_000},
            "DATA/metadata.csv:2: is no CSV: field larger than field limit",
        ),
    ],
)
def test_folders_that_are_no_use(tmp_path: Path, files: dict[str, str | bytes], says: str) -> None:
    folder = put(tmp_path, **files)
    with pytest.raises(UserError) as raised:
        listing(folder)
    assert str(raised.value).replace(str(folder), "DATA").startswith(says)


def test_what_is_no_folder(tmp_path: Path) -> None:
    put(tmp_path, boat_mp4="")
    with pytest.raises(UserError, match=r"boat\.mp4: is no folder; name the folder that holds the clips"):
        listing(tmp_path / "boat.mp4")
    with pytest.raises(UserError, match="nowhere: there is no such folder"):
        listing(tmp_path / "nowhere")
