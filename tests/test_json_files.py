"""Reading JSON of others: every damage is one error that names the file and the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opera_env.errors import AgentError, ToolboxError
from opera_env.json_files import MAX_BYTES, JsonObject, parse_object, read_object

REMEDY = "Write it again."


def parse(**data: Any) -> JsonObject:
    return parse_object(json.dumps(data), "card.json", AgentError, REMEDY)


def test_values_of_the_right_type_are_returned() -> None:
    card = parse(
        name="a", count=3, share=0.5, whole=2, on=True, tools=["x", "y"], more={"k": 1}, rows=[{"i": 0}]
    )
    assert card.text("name") == "a"
    assert card.integer("count", 1, 3) == 3
    assert (card.number("share"), card.number("whole")) == (0.5, 2)
    assert card.flag("on") is True
    assert card.names("tools") == ("x", "y")
    assert card.mapping("more") == {"k": 1}
    assert card.object("more").integer("k", 0, 1) == 1
    assert [row.integer("i", 0, 9) for row in card.objects("rows", 1)] == [0]


def test_defaults_stand_in_for_absent_keys_only() -> None:
    assert parse().integer("count", 1, 9, default=6) == 6
    with pytest.raises(AgentError, match="count"):
        parse(count=None).integer("count", 1, 9, default=6)


@pytest.mark.parametrize("value", [None, "4", 4.0, True, [], {}, 0, 17, 10**30], ids=repr)
def test_a_whole_number_of_another_type_or_range(value: Any) -> None:
    with pytest.raises(
        AgentError, match=r"^card\.json: expected 'scale' to be a whole number from 1 to 16, found"
    ):
        parse(scale=value).integer("scale", 1, 16)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        ("text", None),
        ("text", 3),
        ("number", "1.5"),
        ("number", True),
        ("flag", 1),
        ("flag", "true"),
        ("names", "abc"),
        ("names", ["a", 1]),
        ("names", {"a": 1}),
        ("mapping", []),
        ("object", 3),
    ],
)
def test_a_value_of_another_type(read: str, value: Any) -> None:
    with pytest.raises(
        AgentError, match=r"^card\.json: expected 'key' to be .*, found .* Write it again\.$"
    ):
        getattr(parse(key=value), read)("key")


def test_an_absent_key_is_named() -> None:
    with pytest.raises(
        AgentError,
        match=r"expected the key 'tools' \(a list of at most 1024 names\), found \['a'\]",
    ):
        parse(a=1).names("tools")


def test_places_inside_the_document_are_named() -> None:
    with pytest.raises(AgentError, match=r"card\.json: tools\[1\]: expected 'scale'"):
        parse(tools=[{"scale": 1}, {"scale": "x"}]).objects("tools", 9)[1].integer("scale", 1, 2)
    with pytest.raises(AgentError, match=r"card\.json: tools\[0\]: expected an object, found 7"):
        parse(tools=[7]).objects("tools", 9)
    with pytest.raises(AgentError, match="at most 1 objects"):
        parse(tools=[{}, {}]).objects("tools", 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": ' + "[" * 200_000,
        '{"a": ' + "[" * 50_000 + "]" * 50_000 + "}",
        '{"a": ' + '{"a":' * 100_000,
        '{"a": ' + "9" * 10_000 + "}",
        b"\xff\xfe\x00{",
        b"\x80abc",
        b"PK\x03\x04",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_what_is_not_an_object_of_finite_numbers_is_refused(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "toolbox.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ToolboxError, match=r"toolbox\.json: .*Write it again\.") as caught:
        read_object(path, ToolboxError, REMEDY)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_long_and_strange_values_are_shortened_and_escaped() -> None:
    with pytest.raises(AgentError) as caught:
        parse(name=["\x1b[2J" * 10_000]).text("name")
    assert len(str(caught.value)) < 300 and "\x1b" not in str(caught.value)


def test_a_large_file_is_refused_without_reading_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(AgentError, match=f"at most {MAX_BYTES:,} bytes"):
        read_object(path, AgentError, REMEDY)


def test_folders_and_absent_files(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="cannot be read"):
        read_object(tmp_path, AgentError, REMEDY)
    with pytest.raises(FileNotFoundError):
        read_object(tmp_path / "absent.json", AgentError, REMEDY)
