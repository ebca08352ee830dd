"""The commands of `alignvec` as Markdown, from the functions and options that Typer is given."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

import alignvec.cli.app as root
import alignvec.cli.common as common
import alignvec.cli.data.app as data
import alignvec.cli.data.options as build_options
import alignvec.cli.usable as usable
from docs.generate.fields import sentence

SHARED = [one for one in (*vars(common).values(), usable.StrictOption) if get_origin(one) is Annotated]
HOMES = {id(get_args(one)[1]): "index.md#shared-options" for one in SHARED}
"""Where an option that many commands share is described, by the identity of what Typer is told of it."""
BUILD = "#data-build"
KINDS = {str: "TEXT", int: "N", float: "X", Path: "PATH"}
PAGES = {"Use knobs": "use", "Make vectors": "make", "Measure": "measure", "Serve": "serve", "Build data": "data"}


@dataclass(frozen=True)
class Parameter:
    """One argument or option.

    Attributes:
        flags: how it is written, such as `--knob TEXT`.
        name: without its value.
        help: what it is.
        facts: default, bounds and whether it repeats, in words.
        default: as it is written; None if there is none.
        home: where a shared one is described.
        optional: it can be left out.
        argument: it has no name on the command line.
    """

    flags: str
    name: str
    help: str
    facts: str
    default: str | None
    home: str | None
    optional: bool
    argument: bool


def groups() -> dict[str, dict[str, Callable[..., None]]]:
    """Group to the commands in it by name, as on the command line."""
    found = {
        group: {one.__name__.replace("_", "-"): one for one in commands} for group, commands in root.GROUPS.items()
    }
    return found | {root.DATA: {f"data {name}": one for name, one in data.COMMANDS.items()}}


def summary_tables() -> str:
    """A table for each group: command and purpose."""
    parts = []
    for group, commands in groups().items():
        rows = [
            f"| [`{name}`]({PAGES[group]}.md#{anchor(name)}) | {_paragraphs(one)[0]} |"
            for name, one in commands.items()
        ]
        parts.append("\n".join([f"### {group}", "", "| command | what it does |", "| --- | --- |", *rows]))
    return "\n\n".join(parts)


def shared_options() -> str:
    """The options that many commands have."""
    parts = []
    for one in SHARED:
        annotation, info = get_args(one)
        parts.append(_described(_parameter("", annotation, info, inspect.Parameter.empty, shown=False)))
    return "\n\n".join(parts)


def group_page(group: str) -> str:
    """Every command of a group: purpose, usage, arguments, options."""
    return "\n\n".join(command(name, one) for name, one in groups()[group].items())


def command(name: str, function: Callable[..., None]) -> str:
    """One command.

    Args:
        name: as on the command line, without `alignvec`.
        function: what runs it.
    """
    given = list(parameters(name, function))
    own = [one for one in given if one.home is None]
    arguments = [one for one in own if one.argument]
    options = sorted((one for one in own if not one.argument), key=lambda one: one.optional)
    required = [one.flags for one in given if not one.optional and not one.argument]
    needed = " ".join([*required, *(one.flags for one in arguments)])
    parts = [f"## {name} {{ #{anchor(name)} }}", *_paragraphs(function)]
    parts.append(f"```text\nalignvec {name} [OPTIONS] {needed}".rstrip() + "\n```")
    parts += [_described(one) for one in (*arguments, *options)]
    for home, kind in (("index.md#shared-options", "Shared options"), (BUILD, "As in `data build`")):
        if shared := [one for one in given if one.home == home]:
            listed = ", ".join(f"`{one.name}`" + (f" ({one.default})" if one.default else "") for one in shared)
            parts.append(f"[{kind}]({home}): {listed}.")
    return "\n\n".join(parts)


def parameters(name: str, function: Callable[..., None]) -> Iterator[Parameter]:
    """Arguments and options of a command."""
    hints = get_type_hints(function, include_extras=True)
    for one in inspect.signature(function).parameters.values():
        if get_origin(hints[one.name]) is not Annotated:
            continue  # Typer's own context
        annotation, info = get_args(hints[one.name])[:2]
        home = HOMES.get(id(info))
        if name in ("data personas", "data queries", "data replies") and any(
            info in get_args(option) for option in vars(build_options).values()
        ):
            home = BUILD
        yield _parameter(one.name, annotation, info, one.default, home=home)


def anchor(name: str) -> str:
    """Where a command stands on its page."""
    return name.replace(" ", "-")


def _parameter(
    name: str,
    annotation: Any,
    info: ArgumentInfo | OptionInfo,
    default: Any,
    *,
    home: str | None = None,
    shown: bool = True,
) -> Parameter:
    kind, repeats = _kind(annotation)
    argument = isinstance(info, ArgumentInfo)
    required = shown and default is inspect.Parameter.empty
    if argument:
        names, flags = name.upper(), name.upper() + ("..." if repeats else "")
        flags = flags if required else f"[{flags}]"
    else:
        # in an Annotated, Typer finds the first name in the place of the default
        decls = [one for one in (info.default, *(info.param_decls or ())) if isinstance(one, str)]
        decls = decls or [f"--{name.replace('_', '-')}"]
        names = ", ".join(decls).replace("/", " / ")
        flags = names if kind is None else f"{names} {info.metavar or kind}"
    left_out = default is None or default is False or default is inspect.Parameter.empty
    written = None if left_out else _written(default)
    facts = ["required"] if required and not argument else []
    facts += ["repeatable"] if repeats and not argument and "repeatable" not in (info.help or "") else []
    facts += [f"default: `{written}`"] if written else []
    facts += [bounds] if (bounds := _bounds(info.min, info.max)) else []
    return Parameter(flags, names, info.help or "", "; ".join(facts), written, home, not required, argument)


def _described(one: Parameter) -> str:
    facts = f" *({one.facts})*" if one.facts else ""
    return f"`{one.flags}`\n:   {_escaped(sentence(one.help))}.{facts}"


def _kind(annotation: Any) -> tuple[str | None, bool]:
    """What a value is called, None for a flag; and whether the option repeats."""
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(one for one in get_args(annotation) if one is not type(None))
    if get_origin(annotation) is list:
        return _kind(get_args(annotation)[0])[0], True
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation)), False
    if issubclass(annotation, Enum):
        return "|".join(one.value for one in annotation), False
    return (None if annotation is bool else KINDS[annotation]), False


def _written(default: Any) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


def _bounds(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return f"at least {low:g}" if low is not None else f"at most {high:g}" if high is not None else ""


def _paragraphs(function: Callable[..., None]) -> list[str]:
    return [_escaped(" ".join(part.split())) for part in inspect.getdoc(function).split("\n\n")]  # type: ignore[union-attr]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
