# SPDX-License-Identifier: Apache-2.0
"""Shows that the rooms of src/ include only what lies below them.

The order is that of the table in docs/design.md, from the top down. Each room
is one library, named after it, so that none is hidden inside another.
"""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"


def rooms() -> list[str]:
    """Returns the rooms of the table, the lowest first."""
    text = (ROOT / "docs" / "design.md").read_text()
    return re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)[::-1]


def included(path: pathlib.Path) -> list[str]:
    """Returns the rooms that a file includes headers of."""
    return re.findall(r'^#include "(\w+)/', path.read_text(), re.MULTILINE)


class Rooms(unittest.TestCase):
    def test_table_has_every_room(self) -> None:
        folders = {p.parent.name for p in SOURCE.glob("*/CMakeLists.txt")}
        self.assertEqual(set(rooms()), folders)

    def test_includes_go_down(self) -> None:
        floor = {room: i for i, room in enumerate(rooms())}
        upward = []
        for path in sorted(SOURCE.rglob("*")):
            if path.suffix not in (".cc", ".h", ".inc", ".in"):
                continue
            own = path.relative_to(SOURCE).parts[0]
            upward += [
                f"{path.relative_to(ROOT)} includes {other}/"
                for other in included(path)
                if floor.get(other, len(floor)) > floor[own]
            ]
        self.assertEqual(upward, [])

    def test_a_room_is_one_library(self) -> None:
        for path in sorted(SOURCE.glob("*/CMakeLists.txt")):
            libraries = re.findall(r"^vtf_room\(\s*(\w+)", path.read_text(), re.MULTILINE)
            self.assertEqual(libraries, [path.parent.name], path)


if __name__ == "__main__":
    unittest.main()
