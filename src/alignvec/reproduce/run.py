"""A whole reproduction: its stages one after the other, resumed where results are there."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from alignvec.errors import AlignvecError, ConfigError
from alignvec.files import storage_errors, write_text
from alignvec.progress import Advance
from alignvec.reproduce.place import Place
from alignvec.reproduce.report import write_report
from alignvec.reproduce.scale import Scale
from alignvec.reproduce.stage import (
    Finished,
    Stage,
    alone,
    dependents,
    first_difference,
    read_finished,
    require_scope,
    run_stage,
)
from alignvec.reproduce.stages import STAGES
from alignvec.shipped import ROOT
from alignvec.vectors.strict import Strict

SHIPPED = ROOT / "docs" / "results" / "data"
"""Results that come with the project, from which another machine goes on."""
SCALE = "scale.json"


def reproduce(
    scale: Scale,
    out: Path,
    *,
    only: Sequence[str] = (),
    again: Sequence[str] = (),
    shipped: Path | None = SHIPPED,
    advance: Advance = lambda *_: None,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Finished]:
    """Measure all stages, or some and those they need, and write the report.

    A stage with a result in `out` is not measured again; a killed one goes on from its journal. A new `out` begins with
    what `shipped` holds, if that is of the same scale.

    Args:
        scale: what to work on.
        out: folder for `report.html`, `data`, `figures` and `work`.
        only: names of stages; default all.
        again: stages to measure anew, with those made from them.
        shipped: folder of results to begin with; None for none.
        advance: called with a task's name, what was done and the total.
        tell: called with a line as each stage begins and ends.

    Returns:
        Results by the name of the stage.

    Raises:
        ConfigError: if a stage has no such name, or `out` holds results of another scale.
    """
    stages, anew = _chosen(only, again)
    place = Place(scale, out, advance)
    for stage in stages:  # a command that is not for this folder is refused before anything is removed or measured
        path = place.data(f"{stage.name}.json")
        if stage.name not in anew and path.is_file():
            require_scope(path, stage, _own(read_finished(path)), stage.settings(place))
    for name in anew:
        _forget(place, STAGES[name])
    _begin(place, shipped, anew)
    done: dict[str, Finished] = {}
    try:
        for stage in stages:
            known = place.data(f"{stage.name}.json").is_file()
            tell(f"{stage.name}: {'done before' if known else 'begins'}")
            done[stage.name] = run_stage(stage, place)
            if not known:
                tell(f"{stage.name}: done in {done[stage.name].seconds:.0f} s")
    except BaseException:
        with suppress(AlignvecError):  # what stopped the run is what has to be told
            write_report(scale, out, everything(place, tell))
        raise
    write_report(scale, out, everything(place, tell))
    return done


class Step(Strict):
    """A stage that would be run.

    Attributes:
        state: `done`, `shipped` (its result comes with the project), `other` (measured with other settings), `begun`
            (its journals, or vectors that it makes, are there), or `to do`.
    """

    name: str
    title: str
    state: str


def planned(
    scale: Scale, out: Path, *, only: Sequence[str] = (), again: Sequence[str] = (), shipped: Path | None = SHIPPED
) -> list[Step]:
    """What `reproduce` would do with the same arguments.

    Raises:
        ConfigError: if a stage has no such name.
    """
    stages, anew = _chosen(only, again)
    place = Place(scale, out, lambda *_: None)
    places = [(shipped, "shipped")] if shipped and _begins_with(place, shipped) else []
    places.append((place.data("."), "done"))
    steps = []
    for stage in stages:
        state = "to do"
        for folder, done in places:
            path = folder / f"{stage.name}.json"
            if stage.name not in anew and path.is_file():
                state = "other" if _differs(stage, place, read_finished(path)) else done
            elif (
                stage.name not in anew
                and state == "to do"
                and any(made.exists() for made in (path.with_suffix(""), *stage.makes(place)))
            ):
                state = "begun"
        steps.append(Step(name=stage.name, title=stage.title, state=state))
    return steps


def everything(place: Place, tell: Callable[[str], None] = lambda _: None) -> dict[str, Finished]:
    """All results in the folder that are of these settings, in the order of stages; others are told."""
    found = {}
    for name, stage in STAGES.items():
        path = place.data(f"{name}.json")
        if not path.is_file():
            continue
        finished = read_finished(path)
        if different := _differs(stage, place, finished):
            tell(f"{name}: measured with another {different!r}, so it is not in the report")
        else:
            found[name] = finished
    return found


def _differs(stage: Stage, place: Place, finished: Finished) -> str:
    """The first setting that a result was measured with another value of; results it was made from do not count."""
    return first_difference(_own(finished), stage.settings(place))


def _own(finished: Finished) -> dict[str, Any]:
    """What a result depends on but for other results."""
    return {key: value for key, value in finished.scope.items() if not key.startswith("of ")}


def _chosen(only: Sequence[str], again: Sequence[str]) -> tuple[list[Stage], list[str]]:
    """Stages to go through, and the names of those to measure anew."""
    for name in (*only, *again):
        if name not in STAGES:
            raise ConfigError(f"no stage {name!r} (have: {', '.join(STAGES)}); check --stage and --again")
    anew = dependents(again, STAGES.values())
    return (_needed([*only, *anew]) if only or again else list(STAGES.values())), anew


def _needed(names: Sequence[str]) -> list[Stage]:
    """Stages of these names and those they need, in order."""
    wanted = set(names)
    for stage in reversed(STAGES.values()):
        if stage.name in wanted:
            wanted.update(stage.needs)
    return [stage for stage in STAGES.values() if stage.name in wanted]


def _forget(place: Place, stage: Stage) -> None:
    """Remove a stage's result, its journals, and the models and vectors that it makes."""
    path = place.data(f"{stage.name}.json")
    with alone(stage.name, place), storage_errors(path):
        for file in (path, path.with_suffix(".seconds")):
            file.unlink(missing_ok=True)
        for folder in (path.with_suffix(""), *stage.makes(place)):
            if folder.exists():
                shutil.rmtree(folder)


def _begin(place: Place, shipped: Path | None, without: Sequence[str]) -> None:
    """Begin a new folder, with results and journals of the same scale that are shipped, but for some stages."""
    stored = place.data(SCALE)
    if stored.is_file():
        return
    with storage_errors(stored):
        if shipped and _begins_with(place, shipped):
            for source in sorted(shipped.rglob("*")):
                part = source.relative_to(shipped)
                target = place.data(str(part))
                if source.is_file() and part.parts[0].partition(".")[0] not in without and not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
    write_text(stored, place.scale.told())


def _begins_with(place: Place, shipped: Path) -> bool:
    """Whether the folder is new and the shipped results are of its scale."""
    scale = shipped / SCALE
    new = not place.data(SCALE).is_file()
    return new and scale.is_file() and scale.read_text(encoding="utf-8") == place.scale.told()
