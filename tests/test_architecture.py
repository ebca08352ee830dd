"""The map of the house, docs/architecture.md, against the house."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "alignvec"


def rooms_told() -> set[str]:
    """Folders that the list of rooms has, as paths below the package; one in a room is indented by two more."""
    found: set[str] = set()
    room = ""
    for line in told().splitlines():
        if start := re.match(r"( {2}| {4})(\w+)/ ", line):
            room = start[2] if len(start[1]) == 2 else room
            found.add(room if len(start[1]) == 2 else f"{room}/{start[2]}")
    return found


def told() -> str:
    """The list of rooms."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return text.split("## Rooms")[1].split("```")[1]


def test_every_folder_of_the_package_is_a_room_of_the_list_and_no_other() -> None:
    folders = {path.parent.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py")} - {"."}
    assert rooms_told() == folders


def test_every_file_beside_the_rooms_is_told() -> None:
    files = {path.name for path in SOURCE.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert set(re.findall(r"\b\w+\.py\b", told())) == files
