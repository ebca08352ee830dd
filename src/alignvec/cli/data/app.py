"""The commands of `alignvec data`."""

from collections.abc import Callable
from typing import Any

import typer

from alignvec.cli.data.agreement import agreement
from alignvec.cli.data.build import build, personas, queries, replies
from alignvec.cli.data.card import card
from alignvec.cli.data.check import check
from alignvec.cli.data.exchange import review_export, review_import
from alignvec.cli.data.importing import import_
from alignvec.cli.data.review import review
from alignvec.cli.data.split import split

app = typer.Typer(help="Build, check, review and publish preference data.", no_args_is_help=True, rich_markup_mode=None)
COMMANDS: dict[str, Callable[..., Any]] = {
    "build": build,
    "personas": personas,
    "queries": queries,
    "replies": replies,
    "check": check,
    "review": review,
    "review-export": review_export,
    "review-import": review_import,
    "agreement": agreement,
    "split": split,
    "card": card,
    "import": import_,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
