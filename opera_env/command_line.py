"""Settings from the command line: a dataclass becomes options with help that reads well at any width.

``tyro`` makes the options. This module fills the lines of help texts, names the values of options and
leaves out what says nothing, such as ``(default: None)``.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
import types
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import is_dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

Settings = TypeVar("Settings")

_METAVARS = {str: "TEXT", int: "INT", float: "FLOAT", Path: "PATH"}
"""Placeholders of values in the help, by type."""

_BOXES = ("╭", " options", " positional arguments")
"""Begins of the first line of a box, with and without characters for lines."""

_CODE_NOTICE = (
    "module:attribute runs the code of the module, which may lie in the current folder: name only modules "
    "that you trust."
)
"""Ends the help of every command that imports what it is told to."""

_INDENT = "    "
"""Begins what a docstring says about an example."""


def parse_settings(
    settings: type[Settings],
    arguments: Sequence[str] | None = None,
    *,
    program: str | None = None,
    description: str | None = None,
    paired_switches: bool = True,
) -> Settings:
    """Returns the settings that the command line names; ``--help`` prints them and ends the process.

    Args:
        settings: A dataclass with a docstring for each field, or a union of subcommands.
        arguments: The arguments; by default those of the process.
        program: How the program is called; by default as it was called.
        description: The text above the options; by default the docstring of the class.
        paired_switches: Whether a switch that is off by default has the form ``--no-NAME`` as well. One
            that is on by default always has both.

    Raises:
        SystemExit: With code 0 after ``--help``, with code 2 if the arguments are not valid.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    registry = ConstructorRegistry()
    registry.struct_rule(_ReadableFields(arguments, paired_switches))
    printed = _Printed()
    try:
        with redirect_stdout(printed):
            return tyro.cli(
                with_summaries(settings, arguments),
                prog=program or _program(),
                description=description,
                args=arguments,
                config=(tyro.conf.CascadeSubcommandArgs,),
                registry=registry,
            )
    finally:
        print(_fill_help(printed.getvalue()), end="")


def with_summaries(settings: Any, arguments: Sequence[str]) -> Any:
    """Shortens the descriptions of the subcommands of a union to their first paragraphs.

    Args:
        settings: A union of subcommands; another type is returned as it is.
        arguments: The arguments. A subcommand that they name keeps its whole description.
    """
    if get_origin(settings) is Annotated:
        inner, *metadata = get_args(settings)
        return Annotated[(with_summaries(inner, arguments), *metadata)]  # pyright: ignore
    if get_origin(settings) not in (Union, types.UnionType):
        return settings
    return Union[tuple(_with_summary(member, arguments) for member in get_args(settings))]  # noqa: UP007


def _with_summary(member: Any, arguments: Sequence[str]) -> Any:
    """Returns a member of a union, with a short description if it is a subcommand that is not called."""
    kind: Any = type(tyro.conf.subcommand())
    inner, *metadata = get_args(member) if get_origin(member) is Annotated else (member,)
    changed = [
        replace(item, description=item.description or (inner.__doc__ or "").split("\n\n")[0])
        if isinstance(item, kind) and item.name not in arguments
        else item
        for item in metadata
    ]
    return Annotated[(inner, *changed)] if changed else member  # pyright: ignore


class _Printed(StringIO):
    """Keeps what is printed; it has the abilities of the terminal, so that colours stay."""

    def __init__(self) -> None:
        super().__init__()
        self._terminal = sys.stdout

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (self._terminal.encoding or "ascii").lower()

    def isatty(self) -> bool:
        return self._terminal.isatty()


class _ReadableFields:
    """A rule of tyro: fields of dataclasses get filled help texts and readable placeholders."""

    def __init__(self, arguments: Sequence[str], paired_switches: bool) -> None:
        self.arguments = arguments
        self.paired_switches = paired_switches
        self.is_active = False

    def __call__(self, info: StructTypeInfo) -> StructConstructorSpec | None:
        if self.is_active or not is_dataclass(info.type):
            return None
        self.is_active = True  # the fields come from tyro's own rule for dataclasses
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            self.is_active = False
        if not isinstance(spec, StructConstructorSpec):
            return None
        return replace(spec, fields=tuple(self._readable(field) for field in spec.fields))

    def _readable(self, field: StructFieldSpec) -> StructFieldSpec:
        text = field.helptext() if callable(field.helptext) else field.helptext
        is_empty = field.default is None or field.default is False or field.default == ()
        hint = "(required)" if _is_required(field) else "" if is_empty else None
        metadata: list[Any] = [
            tyro.conf.arg(metavar=_metavar(field), help_behavior_hint=hint, help=_join(text))
        ]
        if field.default is False and not self.paired_switches:
            metadata.append(tyro.conf.FlagCreatePairsOff)
        return replace(field, type=Annotated[(with_summaries(field.type, self.arguments), *metadata)])


def _join(text: str | None) -> str | None:
    return None if text is None else " ".join(text.replace("``", "`").split())


def _metavar(field: StructFieldSpec) -> str | None:
    """Returns the placeholder of the values of a field; None leaves the choice to tyro."""
    kind, markers = _strip_annotations(field.type)
    if tyro.conf.Positional not in markers:
        return _placeholder(kind)
    name = field.name.upper().replace("_", "-")
    if get_origin(kind) is Literal:
        name = _placeholder(kind) or name
    if get_origin(kind) is tuple:
        name += " ..."
    return name if _is_required(field) else f"[{name}]"


def _is_required(field: StructFieldSpec) -> bool:
    return field.default in (tyro.MISSING, tyro.MISSING_NONPROP)


def _strip_annotations(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    markers: tuple[Any, ...] = ()
    while get_origin(kind) is Annotated:
        kind, *added = get_args(kind)
        markers += tuple(added)
    return kind, markers


def _placeholder(kind: Any) -> str | None:
    """Returns the placeholder of a type: INT, "PATH PATH", "TEXT ...", {a,b}; None for other types."""
    kind, _ = _strip_annotations(kind)
    members = get_args(kind)
    if get_origin(kind) is Literal:
        return "{" + ",".join(str(member) for member in members) + "}"
    if get_origin(kind) in (Union, types.UnionType):
        parts = [_placeholder(member) for member in members if member is not type(None)]
        return None if None in parts else "|".join(part for part in parts if part)
    if get_origin(kind) is tuple and members[-1] is Ellipsis:
        part = _placeholder(members[0])
        return None if part is None else f"{part} ..."
    if get_origin(kind) is tuple:
        parts = [_placeholder(member) for member in members]
        return None if None in parts else " ".join(part for part in parts if part)
    return _METAVARS.get(kind)


def _program() -> str:
    """Returns how the program was called, without the folder that it lies in."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return f"python -m {spec.name.removesuffix('.__main__')}"
    path = Path(sys.argv[0])
    return f"python {path}" if path.suffix == ".py" else path.name


def _fill_help(text: str) -> str:
    """Fills the lines above the boxes of a help text to the width of the terminal, and adds the notice."""
    if "usage:" not in text[:20]:
        return text
    width = shutil.get_terminal_size().columns
    lines = text.split("\n")
    first_box = next(row for row, line in enumerate(lines) if _without_colours(line).startswith(_BOXES))
    # A line of a box that is empty is left where tyro was given an empty hint.
    boxes = [line for line in lines[first_box:] if not re.fullmatch("│ +│", _without_colours(line))]
    paragraphs: list[str] = []
    for line in lines[:first_box]:
        if line.startswith(_INDENT) and paragraphs[-1].startswith(_INDENT):
            paragraphs[-1] += f" {line.strip()}"
        else:
            paragraphs.append(line)
    notices = [_fill(_CODE_NOTICE, width), ""] if "module:attribute" in text else []
    return "\n".join([*(_fill(paragraph, width) for paragraph in paragraphs), *boxes, *notices])


def _fill(line: str, width: int) -> str:
    """Fills one paragraph; a command continues after a backslash, so that it can be copied."""
    bare = _without_colours(line)
    if len(bare) <= width:
        return line
    if bare.startswith("usage:"):  # tyro joins the commands without spaces
        bare = re.sub(r"\{.*?\}", lambda commands: commands.group().replace(",", ", "), bare)
    is_command = bare.startswith(("opera-env ", "python "))
    parts = textwrap.wrap(
        bare,
        width - 2 if is_command else width,
        subsequent_indent=2 * _INDENT
        if is_command
        else _INDENT
        if bare.startswith(("usage:", _INDENT))
        else "",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return (" \\\n" if is_command else "\n").join(parts)


def _without_colours(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)
