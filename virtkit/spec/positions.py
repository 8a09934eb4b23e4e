"""Where in its files each part of a spec stands, for messages that come after it was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from virtkit.spec.nodes import Mark, Node, Path, dotted


@dataclass(frozen=True, slots=True)
class Positions:
    """The tree of a spec and its merged guests.

    Attributes:
        root: the whole spec, all its files merged; None where it was not read from text.
        guests: the merged entry of each guest, by final name and by key.
    """

    # Two specs that say the same are equal, however their files are laid out.
    root: Node | None = field(default=None, compare=False)
    guests: Mapping[str, Node] = field(default_factory=dict, compare=False)

    def find(self, path: Path) -> tuple[Mark | None, str]:
        """The place of ``path``, None where it has none, and the path by which its file has it."""
        if self.root is None:
            return None, dotted(path)
        start, below = self.root, path
        if len(path) > 1 and path[0] == "guests":
            merged = self.guests.get(str(path[1]))
            if merged is not None:
                start, below = merged, path[2:]
        node, rest = start.find(below)
        return (node.position if not rest else node.key), dotted((*node.path, *rest))
