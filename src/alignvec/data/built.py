"""The plan that a build keeps beside its rows: what made them, read back by those who check or judge them."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alignvec.data.domain import Domain
from alignvec.errors import DataError

PLAN = "build.json"
"""Name of the plan in the folder of a build."""

_UNUSED = {"description": "unknown", "topics": ["unknown"], "personas": {"unknown": ["unknown"]}}
"""What the plan of a build from given queries does not have, and neither gates nor reviewers need."""


def built_domain(folder: Path) -> Domain | None:
    """Domain that the rows of a build's folder were made for; None if no build has made rows there.

    Raises:
        DataError: if there is a plan of rows that does not say what it is.
    """
    path = folder / PLAN
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        if "rows" not in plan:
            return None
        parts: dict[str, Any] = dict(_UNUSED)
        for stage in (plan["rows"], plan.get("personas", {}), plan.get("queries", {})):
            parts |= {key.removeprefix("domain."): stage[key] for key in stage if key.startswith("domain.")}
        return Domain.model_validate(parts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError, ValidationError) as error:
        cause = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise DataError(
            f"{path} does not say what the rows were made for ({cause}); name the domain with --domain"
        ) from None
