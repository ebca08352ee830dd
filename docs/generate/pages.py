"""Pages of the reference with their generated blocks filled in."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from docs.generate import commands, fields, openapi

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "reference" / "openapi.json"
BLOCK = re.compile(
    r"(<!-- generate: (?P<kind>\w+)(?: (?P<what>[^\n]+))? -->\n)(?:(?!<!-- generate).)*?(<!-- end -->)", re.S
)
KINDS: dict[str, Callable[[str], str]] = {
    "commands": lambda _: commands.summary_tables(),
    "shared": lambda _: commands.shared_options(),
    "group": commands.group_page,
    "fields": fields.table,
    "endpoints": lambda _: openapi.endpoint_table(),
    "errors": lambda _: openapi.error_table(),
    "metrics": lambda _: openapi.metrics_table(),
}


def filled(text: str) -> str:
    """A page with every block as it would be generated now.

    Raises:
        KeyError: if a block asks for what there is not.
    """
    return BLOCK.sub(lambda found: f"{found[1]}\n{KINDS[found['kind']](found['what'])}\n\n{found[4]}", text)


def generated() -> Iterator[tuple[Path, str]]:
    """Every file with generated parts, and its text as it should be."""
    for path in sorted(ROOT.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if BLOCK.search(text):
            yield path, filled(text)
    yield SCHEMA, openapi.schema_text()


def write() -> list[Path]:
    """Write what is not as it should be; returns the files that were."""
    stale = [
        (path, text) for path, text in generated() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        path.write_text(text, encoding="utf-8")
    return [path for path, _ in stale]
