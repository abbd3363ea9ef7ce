# ruff: noqa: E501 (a table of mistakes reads by the line)
from decimal import Decimal
from pathlib import Path

import pytest

from longvid import document
from longvid.document import MAX_NODES, Source, parse, read, show, spell
from longvid.errors import UserError


def plain(text: str) -> object:
    return parse(text)[0]


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("1:30", "1:30"),
        ("12", 12),
        ("-3", -3),
        ("+3", 3),
        ("007", 7),
        ("0x10", "0x10"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("0.1", Decimal("0.1")),
        ("1e3", Decimal("1e3")),
        ("1e99", Decimal("1e99")),
        (".5", Decimal("0.5")),
        ("5.", Decimal("5")),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("nan", "nan"),
        ("2001-12-14", "2001-12-14"),
        ("<<", "<<"),
        ("=", "="),
        ("'true'", "true"),
        ('"12"', "12"),
        ("120f", "120f"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(scalar: str, value: object) -> None:
    data = plain(f"key: {scalar}")
    assert data == {"key": value}
    assert type(data["key"]) is type(value)


def test_keys_are_text_whatever_they_look_like() -> None:
    assert plain("{1: a, true: b, no: c, <<: d}") == {"1": "a", "true": "b", "no": "c", "<<": "d"}


def test_lines_of_keys_and_items() -> None:
    data, source = parse("a: 1\nshots:\n  - prompt: x\n    seconds: 2\n  - {prompt: y,\n     at: 3}\n")
    assert data == {"a": 1, "shots": [{"prompt": "x", "seconds": 2}, {"prompt": "y", "at": 3}]}
    assert dict(source.lines) == {
        (): 1,
        ("a",): 1,
        ("shots",): 2,
        ("shots", 0): 3,
        ("shots", 0, "prompt"): 3,
        ("shots", 0, "seconds"): 4,
        ("shots", 1): 5,
        ("shots", 1, "prompt"): 5,
        ("shots", 1, "at"): 6,
    }
    assert str(source.error(("shots", 1, "at"), "is late")) == "timeline:6: shots[1].at: is late"
    assert str(source.error(("shots", 1, "until"), "is missing")) == "timeline:5: shots[1].until: is missing"
    assert str(source.error((), "is odd")) == "timeline:1: is odd"
    assert str(Source("film").error(("fps",), "is odd")) == "film: fps: is odd"


def test_too_many_values_end_at_the_first_too_many(monkeypatch) -> None:
    monkeypatch.setattr(document, "MAX_NODES", 100)
    with pytest.raises(UserError) as error:
        parse("a:\n" + "- x\n" * 200, "t.yaml")
    assert str(error.value) == "t.yaml:99: is more than 20 levels deep, or more than 100 values"


def test_aliases_work() -> None:
    assert plain("a: &x {b: 1}\nc: *x") == {"a": {"b": 1}, "c": {"b": 1}}


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.yaml: is empty; `longvid new` writes a timeline to start from"),
        ("# only a comment\n", "t.yaml: is empty; `longvid new` writes a timeline to start from"),
        ("- a\n- b\n", "t.yaml:1: is a list; a timeline is a mapping of keys such as `shots:`"),
        ("just text", "t.yaml:1: is a single value; a timeline is a mapping of keys such as `shots:`"),
        ("\n\n12\n", "t.yaml:3: is a single value; a timeline is a mapping of keys such as `shots:`"),
        ("a: 1\nb: 2\na: 3\n", "t.yaml:3: a: is given twice, first on line 1; keep one"),
        (
            "s:\n  - x: 1\n    'x': 2\n",
            "t.yaml:3: s[0].x: is given twice, first on line 2; keep one",
        ),
        ("a: 1\n\tb: 2\n", "t.yaml:2: a tab; YAML takes spaces"),
        ("a:\n\t- b\n", "t.yaml:2: a tab; YAML takes spaces"),
        ("a: !!python/object/apply:os.system [ls]", "t.yaml:1: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not allowed"),
        ("a: 1\nb: !!int x", "t.yaml:2: the tag 'tag:yaml.org,2002:int' is not allowed"),
        ("!x\na: 1", "t.yaml:1: the tag '!x' is not allowed"),
        ("a: &a [*a]", "t.yaml:1: is more than 20 levels deep, or holds itself through an alias"),
        ("&a {a: *a}", "t.yaml:1: is more than 20 levels deep, or holds itself through an alias"),
        ("a: " + "[" * 400_000, "t.yaml:1: is more than 20 levels deep, or more than 100000 values"),
        ("a: " + "{a: " * 30 + "1" + "}" * 30, "t.yaml:1: is more than 20 levels deep, or more than 100000 values"),
        (bomb(9), f"expands to more than {MAX_NODES} values; use fewer aliases"),
        ("a: *missing", "t.yaml:1: found undefined alias 'missing'"),
        ("a: b: c", "t.yaml:1: a colon and a space where no key can be; put a text that holds ': ' in quotes"),
        ("a: 'open", "t.yaml:1: found unexpected end of stream"),
        ("s:\n  - a: 1\n   b: 2\n", "t.yaml:3: does not belong here; the keys of one shot begin in the same column"),
        ("[a, b]: 1", "t.yaml:1: a key must be a word, not a list or mapping"),
        ("a: 1\n---\nb: 2\n", "t.yaml:2: a second document begins here; remove the second ---"),
        ("a: \x00\n", "t.yaml:1: holds a control character, so it is not YAML text"),
        ("a: 1\nb: \x1b[31m\n", "t.yaml:2: holds a control character, so it is not YAML text"),
        ('a: 1\nb: "\\e[31m"\n', "t.yaml:2: b: holds the control character U+001B"),
        ('a: "\\uD800"', "t.yaml:1: a: holds the control character U+D800"),
        ('"\\0": 1', "t.yaml:1: '\\x00': holds the control character U+0000"),
        ("a: " + "9" * 41, "t.yaml:1: a: is a number of 41 characters; at most 40"),
        ("a: 1e99999999999999999999", "t.yaml:1: a: 1e99999999999999999999 is too large or too small a number"),
    ],
)  # fmt: skip
def test_what_is_no_timeline(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse(text, "t.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    def said(path: Path) -> str:
        with pytest.raises(UserError) as error:
            read(path)
        return str(error.value).removeprefix(f"{path}")

    assert said(tmp_path) == ": is a folder, not a timeline"
    with pytest.raises(UserError, match=r"no\.yaml: no such file; a suite is a YAML file$"):
        read(tmp_path / "no.yaml", "suite")
    (tmp_path / "empty.yaml").touch()
    with pytest.raises(
        UserError, match=r"empty\.yaml: is empty; a suite is a mapping of keys such as `prompts:`$"
    ):
        read(tmp_path / "empty.yaml", "suite")
    assert (
        said(tmp_path / "no.yaml") == ": no such file; `longvid new no.yaml` writes a timeline to start from"
    )
    assert said(tmp_path / "no" / "no.yaml").startswith(": no such file")
    assert said(Path("/dev/null")) == ": is not an ordinary file"
    assert said(tmp_path / ("a" * 300)) == ": cannot be read: File name too long"
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    assert said(binary) == ":1: is not UTF-8 text; a timeline is a YAML file"
    utf16 = tmp_path / "utf16.yaml"
    utf16.write_bytes("shots: []".encode("utf-16"))
    assert said(utf16) == ":1: is not UTF-8 text; a timeline is a YAML file"
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(100_000_000)
    assert said(huge) == ": has 100,000,000 bytes; a timeline has at most 1,000,000"


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    film = tmp_path / "film.yaml"
    film.touch()
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        read(film)


def test_a_byte_order_mark_and_windows_lines_are_fine(tmp_path: Path) -> None:
    film = tmp_path / "film.yaml"
    film.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    data, source = read(film)
    assert data == {"a": 1, "b": 2}
    assert (source.name, source.folder, source.line(("b",))) == (str(film), tmp_path, 2)


def test_show_is_one_short_line() -> None:
    assert show("a\nb") == r"'a\nb'"
    assert (show(True), show(None), show(Decimal("1e99")), show(3)) == ("true", "nothing", "1e99", "3")
    assert len(show("x" * 1000)) == 60
    assert spell(("shots", 2, "a\nb")) == r"shots[2].'a\nb'"
