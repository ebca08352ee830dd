"""The fields of a record as a table, from its pydantic model: names, types, defaults, and what its docstrings say."""

import dataclasses
import importlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from griffe import Docstring, DocstringSectionKind
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", Any: "any"}


def table(what: str) -> str:
    """A table of the fields of a record.

    Args:
        what: module and class, such as `alignvec.vectors.card:Card`; after it, names of fields to leave out.

    Raises:
        ValueError: if a field is described nowhere.
    """
    place, *left_out = what.split()
    module, _, name = place.partition(":")
    record = getattr(importlib.import_module(module), name)
    told = _descriptions(record)
    lines = ["| field | type | meaning |", "| --- | --- | --- |"]
    for field, info in _fields(record).items():
        if field in left_out:
            continue
        if not (meaning := info.description or told.get(field)):
            raise ValueError(f"{what}: {field} is described nowhere; write it into the class's docstring")
        said = re.sub(r"\bNone\b", "null", " ".join(meaning.split()).rstrip(".").replace("|", "\\|"))
        lines.append(f"| `{field}` | {kind(info.annotation)}{_default(info)} | {sentence(said)} |")
    return "\n".join(lines)


def sentence(text: str) -> str:
    """A text with a capital letter, unless it begins with a symbol."""
    return text if text.startswith("λ") else text[:1].upper() + text[1:]


def _fields(record: Any) -> dict[str, FieldInfo]:
    if issubclass(record, BaseModel):
        return dict(record.model_fields)
    hints = get_type_hints(record)
    return {one.name: FieldInfo(annotation=hints[one.name]) for one in dataclasses.fields(record)}


def kind(annotation: Any) -> str:
    """A type in words."""
    origin, given = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(given[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys("null" if one is NoneType else kind(one) for one in given))
    if origin is Literal:
        return " or ".join(f"`{json.dumps(one)}`" for one in given)
    if origin is not None and issubclass(origin, Mapping):
        return f"mapping of {kind(given[0])} to {kind(given[1])}"
    if origin is tuple and given[-1] is not Ellipsis:
        return f"list of {len(given)}: {', '.join(dict.fromkeys(map(kind, given)))}"
    if origin is not None and issubclass(origin, Sequence):
        return f"list of {kind(given[0])}"
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return " or ".join(f"`{json.dumps(one.value)}`" for one in annotation)
    return NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(info: FieldInfo) -> str:
    """What holds if the field is left out, for the end of its type."""
    value = info.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return ""
    if value is None or isinstance(value, BaseModel) or value in ({}, (), []):
        return "; optional"
    written = json.dumps(value, ensure_ascii=False, default=list)
    return f"; default: `{written}`"


def _descriptions(record: type) -> dict[str, str]:
    """Field to what the docstrings of its class, and of those above, say under `Attributes`."""
    found: dict[str, str] = {}
    for one in reversed(record.__mro__):
        if one.__doc__ and one.__module__.startswith("alignvec."):
            for section in Docstring(inspect.cleandoc(one.__doc__), lineno=1).parse("google", warnings=False):
                if section.kind is DocstringSectionKind.attributes:
                    found |= {attribute.name: attribute.description for attribute in section.value}
    return found
