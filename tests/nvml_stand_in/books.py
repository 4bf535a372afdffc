"""What the stand-in wrote down of its GPUs, independently of who reads them. Its C file explains the keys."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class BoardBooks:
    """One GPU, from the moment the process first saw it to the process's latest energy call."""

    uuid: str
    since_nanoseconds: int
    true_microjoules: int
    displayed_microjoules: int
    before_first_read_microjoules: int
    lost_before_resets_microjoules: int
    lost_after_resets_microjoules: int
    lost_in_stalls_microjoules: int
    unread_microjoules: int
    jumped_microjoules: int
    fallen_microjoules: int
    value_millijoules: int
    reads: int
    resets: int
    jumps: int
    stalls: int
    errors: int

    @property
    def accounted_microjoules(self) -> int:
        """Where all that was spent or leapt went: `true + jumped`, but for the rounding of each part."""
        return (
            self.before_first_read_microjoules
            + self.displayed_microjoules
            - self.fallen_microjoules
            + self.lost_before_resets_microjoules
            + self.lost_after_resets_microjoules
            + self.lost_in_stalls_microjoules
            + self.unread_microjoules
        )


@dataclass(frozen=True, slots=True)
class ProcessBooks:
    """The books of one process that asked for energy; the instant is its latest such call, on the stand-in's clock."""

    process_id: int
    at_nanoseconds: int
    boards: tuple[BoardBooks, ...]

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        boards = tuple(BoardBooks(**board) for board in content["boards"])
        return cls(content["process_id"], content["at_nanoseconds"], boards)


def read_books(folder: Path) -> list[ProcessBooks]:
    """The books of every process that has asked for energy. They are replaced whole, so none is half written."""
    return [ProcessBooks.from_json(json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
