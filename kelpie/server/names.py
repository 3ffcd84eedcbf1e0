"""Names within a batch: `#0` is its first job; nobody may wait for itself, however long the way round."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from kelpie.errors import InvalidFields, Issue

_After = Sequence[list[str] | None]


def refuse_wrong_names(after: _After, *, batch: bool) -> None:
    """Check the names in each job's `after`; raises InvalidFields."""
    issues = [
        Issue("invalid_string", problem, [*(["body", index] if batch else ["body"]), "after", number])
        for index, names in enumerate(after)
        for number, name in enumerate(names or [])
        if (problem := _problem(name, len(after) if batch else 0, index))
    ]
    if issues:
        raise InvalidFields(issues)
    _refuse_cycles(after)


def _problem(name: str, count: int, own: int) -> str:
    if not name.startswith("#"):
        return ""
    if not count:
        return "Expected the id of a job: names such as #0 are for the jobs of a batch"
    # Anything longer than the largest batch's numbers is none of them.
    if not (name[1:].isascii() and name[1:].isdigit() and len(name) <= len("#999")) or int(name[1:]) >= count:
        return f"Expected the id of a job, or #0 to #{count - 1} for a job of this batch"
    return "Expected another job than this one" if int(name[1:]) == own else ""


def _refuse_cycles(after: _After) -> None:
    graph = {
        index: [int(name[1:]) for name in names or [] if name.startswith("#")]
        for index, names in enumerate(after)
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = [int(index) for index in error.args[1]]
        shown = " needs ".join(f"#{index}" for index in reversed(circle))
        message = f"Expected no circle, but {shown}"
        raise InvalidFields([Issue("invalid_value", message, ["body", circle[0], "after"])]) from error
