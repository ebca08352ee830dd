"""`alignvec key`: an API key, and what the policy file keeps of it."""

from typing import Annotated

import typer

from alignvec.cli.common import JsonOption, print_json


def key(
    name: Annotated[str, typer.Option("--name", help="the key's name in the policy file and the audit log")] = "public",
    json: JsonOption = False,
) -> None:
    """Make an API key for a server's policy file.

    It is shown once and kept nowhere; the policy file holds its hash.
    """
    import re

    import yaml

    from alignvec.errors import ConfigError
    from alignvec.serve.policy.keys import NAME, key_hash, new_key

    if not re.fullmatch(NAME, name):
        raise ConfigError("--name must be up to 64 letters, digits, dots, dashes and underscores, such as public")
    made = new_key()
    if json:
        print_json({"name": name, "key": made, "hash": key_hash(made)})
        return
    lines = yaml.safe_dump([{"name": name, "hash": key_hash(made)}], sort_keys=False)
    typer.echo(f"{made}\n\n{lines}", nl=False)
    typer.echo(
        "keep the first line, it is not shown again; the entry below it goes under `keys:` in the policy file", err=True
    )
