"""`alignvec lm-eval`: EleutherAI's lm-evaluation-harness, with the model `alignvec` known to it."""

import sys
from typing import Annotated

import typer


def lm_eval(
    arguments: Annotated[list[str], typer.Argument(help="what the harness takes; -- before its own --help")],
) -> None:
    """Run lm-evaluation-harness on a model with knobs.

    Give it --model alignvec --model_args base=demo,knobs=medical:0.5. In --model_args, knobs are written
    medical:0.5+legal:-0.3; vectors names other folders, with + between them.
    """
    from alignvec.errors import ConfigError

    try:
        import lm_eval.models.huggingface  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(f"the harness needs {error.name}; install it with pip install 'alignvec[eval]'") from None
    from lm_eval.__main__ import cli_evaluate

    import alignvec.evaluate.harness  # noqa: F401  registers the model

    sys.argv = ["lm-eval", *arguments]
    cli_evaluate()
