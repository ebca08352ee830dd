"""The report: one HTML file with its figures inside, every table and figure linked to the JSON that it came from."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignvec.files import write_text
from alignvec.reproduce.scale import Scale
from alignvec.reproduce.stage import Finished, Section, parse_found
from alignvec.reproduce.stages import STAGES

TEMPLATE = Path(__file__).with_name("report.html")


def write_report(scale: Scale, out: Path, results: Mapping[str, Finished]) -> Path:
    """Draw the figures of all results and write `report.html`; returns its path.

    Args:
        scale: what the results are of.
        out: folder; `data` in it holds the results.
        results: by the name of the stage; stages that have none yet are named as missing.

    Raises:
        DataError: if a result does not hold what its stage has.
        StorageError: if a file cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    sections: list[dict[str, Any]] = []
    for name, stage in STAGES.items():
        finished = results.get(name)
        if finished is None:
            sections.append({"name": name, "title": stage.title, "finished": None})
            continue
        section: Section = stage.show(parse_found(out / "data" / f"{name}.json", stage, finished), out / "figures")
        pictures = [
            {
                "caption": figure.caption,
                "content": base64.b64encode(_in_few_colours(out / "figures" / figure.path)).decode(),
            }
            for figure in section.figures
        ]
        sections.append(
            {"name": name, "title": stage.title, "finished": finished, "section": section, "pictures": pictures}
        )
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    path = out / "report.html"
    machines = sorted({one.provenance.machine for one in results.values()})
    write_text(path, template.render(scale=scale, sections=sections, machines=machines))
    return path


def _in_few_colours(path: Path) -> bytes:
    """A picture with a palette, a quarter of its bytes, as the report is kept in version control."""
    from PIL import Image  # matplotlib writes its PNGs with it

    buffer = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(128).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
