"""Sizes against the recorded tables, and against every published size of a picture."""

from __future__ import annotations

from dataclasses import astuple

import pytest

from longvid.backends.opensora import sizes
from longvid.backends.opensora.sizes import ClipLatents
from longvid.errors import UserError
from tests.backends.opensora.cases import Case

KIND = "sizes"

PUBLISHED = {
    "144p": "117x312 125x291 133x277 135x270 139x262 141x260 144x256 151x241 156x234 166x221 192x192 "
    "221x165 235x156 256x144 263x139 271x135 277x132",
    "240p": "196x522 210x490 222x462 226x452 232x438 236x436 240x426 252x404 262x393 276x368 320x320 "
    "370x278 392x262 426x240 440x232 452x226 462x222",
    "360p": "294x784 314x732 332x692 340x680 350x662 352x652 360x640 380x608 392x588 416x554 480x480 "
    "554x416 588x392 640x360 660x350 678x340 692x332",
    "480p": "392x1046 420x980 444x925 452x904 466x880 470x870 480x854 506x810 522x784 554x738 640x640 "
    "740x555 784x522 854x480 880x466 906x454 924x444",
    "720p": "588x1568 628x1466 666x1388 678x1356 698x1318 706x1306 720x1280 758x1212 784x1176 832x1110 "
    "960x960 1108x832 1176x784 1280x720 1320x698 1358x680 1386x666",
    "1080p": "882x2352 942x2198 998x2080 1018x2036 1048x1980 1058x1958 1080x1920 1138x1820 1176x1764 "
    "1248x1664 1440x1440 1662x1246 1764x1176 1920x1080 1980x1048 2036x1018 2078x998",
    "2k": "1176x3136 1256x2930 1330x2770 1358x2716 1398x2640 1412x2612 1440x2560 1518x2428 1568x2352 "
    "1662x2216 1920x1920 2218x1664 2352x1568 2560x1440 2638x1396 2716x1358 2772x1330",
    "4k": "1764x4704 1886x4400 1996x4158 2036x4072 2096x3960 2118x3918 2160x3840 2276x3642 2352x3528 "
    "2494x3326 2880x2880 3326x2494 3528x2352 3840x2160 3958x2096 4072x2036 4156x1994",
}
"""Height and width under the aspect ratios of `sizes.ASPECT_RATIOS`, in their order."""


def test_recording(case: Case) -> None:
    about = {"file", "seed", "config", "notes", "environment", "info", "keys"}
    for table, entries in case.about.items():
        for entry in entries if table not in about else []:
            match table:
                case "latent_sizes":
                    ours = sizes.latent_size(entry["frames"], entry["h"], entry["w"])
                    assert list(ours) == entry["latent"]
                case "image_sizes":
                    ours = sizes.image_size(entry["resolution"], entry["aspect_ratio"])
                    assert list(ours) == entry["size"]
                case "num_frames":
                    assert sizes.frames(entry["num_frames"]) == entry["frames"]
                case "dframe_to_frame":
                    assert sizes.chunk_frames(entry["latents"]) == entry["frames"]
                case "find_nearest_point":
                    ours = sizes.nearest_chunk_start(entry["value"], entry["point"], entry["max_value"])
                    assert ours == entry["result"]
                case "mask_strategy":
                    ours = sizes.mask_strategy(entry["strategy"])
                    assert [list(astuple(clip)) for clip in ours] == entry["parsed"]
                case _:
                    pytest.fail(f"{case.path}: no test knows what {table} is")


@pytest.mark.parametrize("resolution", PUBLISHED)
def test_the_rule_gives_every_published_size(resolution: str) -> None:
    published = [tuple(map(int, size.split("x"))) for size in PUBLISHED[resolution].split()]
    assert [sizes.image_size(resolution, name) for name in sizes.ASPECT_RATIOS] == published
    assert list(sizes.image_sizes(resolution).values()) == published


def test_sizes_named_by_a_square() -> None:
    assert sizes.image_size("256", "1:1") == (256, 256)
    assert sizes.image_size("1024", "1:2") == (704, 1408)
    assert sizes.image_size("512", "3.62") == (928, 256)
    assert sizes.image_size("2048", "0.25") == (1024, 4096)
    assert sizes.image_size("2880", "0.26") == (1408, 5568)
    assert {len(sizes.image_sizes(name)) for name in ("256", "512", "1024", "2048", "2880")} == {40}


def test_decimals_name_an_aspect_ratio_too() -> None:
    assert sizes.image_size("240p", "0.56") == sizes.image_size("240p", "9:16") == (240, 426)


def test_unknown_names_say_what_is_known() -> None:
    with pytest.raises(UserError, match="resolution '250p' is unknown; use 144p, 240p, "):
        sizes.image_size("250p", "9:16")
    with pytest.raises(UserError, match="240p has no aspect ratio '9:15'; use 3:8, 9:21, "):
        sizes.image_size("240p", "9:15")
    with pytest.raises(UserError, match=r"256 has no aspect ratio '9:16'; use 12:25, 1:2, 1:1, 2:1$"):
        sizes.image_size("256", "9:16")


def test_nominal_size_is_the_published_one_that_decodes_to_it() -> None:
    assert sizes.nominal_size(424, 240) == (240, 426)
    assert sizes.nominal_size(240, 424) == (426, 240)
    assert sizes.nominal_size(848, 480) == (480, 854)
    assert sizes.nominal_size(256, 144) == (144, 256)
    assert sizes.nominal_size(432, 232) == (232, 438), "the least of two"
    assert sizes.nominal_size(96, 64) == (64, 96)


def test_sides_in_latents_are_rounded_down() -> None:
    assert sizes.latent_size(17, 480, 854) == (5, 60, 106)


def test_half_a_chunk_goes_down() -> None:
    starts = [sizes.nearest_chunk_start(latent, 6, 18) for latent in (2, 3, 4, 9, 10, 16)]
    assert starts == [0, 0, 6, 6, 12, 12]


def test_lengths() -> None:
    assert [sizes.frames(length) for length in ("4s", "4x", "17", 17)] == [102, 204, 17, 17]
    for wrong in ("3s", "4m", "-1", "1.5", ""):
        with pytest.raises(UserError, match="length"):
            sizes.frames(wrong)
    with pytest.raises(ValueError, match="7 latents"):
        sizes.chunk_frames(7)


def test_mask_strategy_errors_name_the_entry() -> None:
    assert sizes.mask_strategy("1,0,2;0,1,-5,0,5,0.3") == [
        ClipLatents(loop=1, clip=0, clip_start=2, start=0, latents=1, edit=0.0),
        ClipLatents(loop=0, clip=1, clip_start=-5, start=0, latents=5, edit=0.3),
    ]
    for wrong in ("0,0,0,0,1,0,0", "a", "0,,1", "0,0.5", "0,0,0,0,1,x"):
        with pytest.raises(UserError, match=f"mask strategy '{wrong}'"):
            sizes.mask_strategy(f"0;{wrong}")
