"""The `alignvec` command: parse, call one function, print."""

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, NoReturn

import typer

from alignvec import __version__
from alignvec.cli.ask import ask
from alignvec.cli.bench_serve import bench_serve
from alignvec.cli.calibrate import calibrate
from alignvec.cli.capability import capability
from alignvec.cli.chat import chat
from alignvec.cli.check_goals import check_goals
from alignvec.cli.compare import compare
from alignvec.cli.compress import compress
from alignvec.cli.convert import convert
from alignvec.cli.data.app import app as data
from alignvec.cli.demo import demo
from alignvec.cli.disentangle import disentangle
from alignvec.cli.estimate import estimate
from alignvec.cli.export import export
from alignvec.cli.extract import extract
from alignvec.cli.generate import generate
from alignvec.cli.grouped import Grouped
from alignvec.cli.inspect import inspect
from alignvec.cli.judge import judge
from alignvec.cli.keep import keep
from alignvec.cli.key import key
from alignvec.cli.launched import one_voice, share_or_leave
from alignvec.cli.level_rates import level_rates
from alignvec.cli.llama_request import llama_request
from alignvec.cli.lm_eval import lm_eval
from alignvec.cli.merge import merge
from alignvec.cli.pull import pull
from alignvec.cli.push import push
from alignvec.cli.reproduce import reproduce
from alignvec.cli.route import route
from alignvec.cli.safety import safety
from alignvec.cli.serve import serve
from alignvec.cli.shipped import shipped
from alignvec.cli.solve import solve
from alignvec.cli.spillover import spillover
from alignvec.cli.sweep import sweep
from alignvec.cli.train import train
from alignvec.cli.transfer import transfer
from alignvec.cli.verify import verify
from alignvec.errors import AlignvecError, ConfigError

app = typer.Typer(
    name="alignvec",
    cls=Grouped,
    help="Alignment as a knob: train, subtract, and turn preferences up, down or past zero at inference.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
STOPPED = "stopped; the same command goes on where it can"
GROUPS: dict[str, tuple[Callable[..., None], ...]] = {
    "Use knobs": (demo, ask, chat, inspect, compare, verify, shipped, pull, push),
    "Make vectors": (train, estimate, keep, extract, disentangle, compress, merge, export, convert),
    "Measure": (
        sweep, generate, level_rates, judge, calibrate, spillover, capability, safety, transfer, solve, check_goals,
        route, reproduce, lm_eval,
    ),
    "Serve": (serve, key, bench_serve, llama_request),
}  # fmt: skip
"""What each command is for; the help and the reference list them so."""
DATA = "Build data"
SETTINGS = {serve: {"allow_extra_args": True}, lm_eval: {"ignore_unknown_options": True}}
for group, commands in GROUPS.items():
    for command in commands:
        app.command(rich_help_panel=group, context_settings=SETTINGS.get(command))(command)
app.add_typer(data, name="data", rich_help_panel=DATA)


def tell_version(asked: bool) -> None:
    """Print the version, and nothing else, if it was asked for."""
    if asked:
        typer.echo(f"alignvec {__version__}")
        raise typer.Exit


@app.callback()
def begin(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=tell_version, is_eager=True, help="print the version and stop")
    ] = False,
) -> None:
    """Called before every command."""
    share_or_leave(context)


def fail(error: AlignvecError) -> NoReturn:
    """Tell a user's mistake in one line on stderr, with exit code 2."""
    from alignvec.shipped import hint

    message = " ".join(str(error).split())
    print(f"error: {type(error).__name__}: {message}{hint(message, sys.argv[2:])}", file=sys.stderr)
    sys.exit(2)


def require_values(arguments: Sequence[str]) -> None:
    """Check that no argument is empty: a variable of the shell that is not set would else pass for `.` or for nothing.

    Raises:
        ConfigError: naming the option.
    """
    for before, argument in pairwise(("", *arguments)):
        option, separator, value = argument.partition("=")
        if not argument or (argument.startswith("--") and separator and not value):
            named = option or (before if before.startswith("-") else "an argument")
            raise ConfigError(f"{named} is empty; give it a value, or leave it out")


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    try:
        require_values(sys.argv[1:])
        with one_voice():
            app()
    except AlignvecError as error:
        fail(error)
    except ModuleNotFoundError as error:
        from alignvec.extras import missing_extra

        if not (told := missing_extra(error)):
            raise
        fail(told)
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        sys.exit(130)
    except SystemExit as stop:
        if stop.code == 130:  # typer has caught the interrupt
            print(STOPPED, file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
