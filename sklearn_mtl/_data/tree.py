"""What stands in `tasks_`: a list of tasks that prints as the tree that gates make of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

from sklearn_mtl._data.decoding import TargetDecoder
from sklearn_mtl._data.tasks import Task

__all__ = ["TaskList"]

STYLE = """\
<style>.mtl-tasks, .mtl-tasks ul {list-style: none; margin: 0; padding: 0}
.mtl-tasks {font-size: 90%; margin: .5em 0; line-height: 1.4}
.mtl-tasks ul {margin-left: .8em; padding-left: .8em; border-left: 1px solid currentColor}
.mtl-tasks div {display: inline-block; margin: .15em 0; padding: .15em .6em;
border: 1px solid currentColor; border-radius: .3em}
.mtl-tasks i {opacity: .75}
.mtl-tasks li > i {display: block; font-size: 90%}</style>"""


class Node(NamedTuple):
    """A task, what is to be said of it, and the tasks behind its gate."""

    task: Task
    holds: str
    observed: int
    applicable: int
    behind: list[Node]


class TaskList(list[Task]):
    """The tasks in output order.

    `str` returns the tree of tasks as text, a row per task: those that exist only where another one
    takes a label stand below that one. Notebooks show it as a diagram.
    """

    def __init__(self, tasks: Sequence[Task] = (), nodes: Sequence[Node] = ()) -> None:
        super().__init__(tasks)
        self._nodes = list(nodes)

    @classmethod
    def of(cls, encoder: TargetDecoder) -> TaskList:
        """Return the tasks of an encoder, with what it knows of them."""
        behind: dict[int | None, list[int]] = defaultdict(list)
        for k, gate in enumerate(encoder.gates):
            behind[gate].append(k)

        def below(gate: int | None) -> list[Node]:
            return [
                Node(
                    encoder.tasks_[k],
                    _holds(encoder.tasks_[k], encoder.kinds_[k]),
                    int(encoder.n_observed_[k]),
                    int(encoder.n_applicable_[k]),
                    below(k),
                )
                for k in behind.get(gate, ())
            ]

        return cls(encoder.tasks_, below(None))

    def __str__(self) -> str:
        if not self._nodes:
            return repr(self)
        head = ("task", "kind", "holds", "exists if", "applies", "observed")
        rows = [head, *_rows(self._nodes, "")]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(_line(row, widths) for row in rows)

    def to_html(self) -> str:
        """Return the tree as a diagram: nested lists of boxes."""
        return f"{STYLE}<ul class='mtl-tasks'>{''.join(map(_item, self._nodes))}</ul>"

    _repr_html_ = to_html


def _holds(task: Task, kind: Any) -> str:
    """Say what a fitted kind holds: classes, columns of bounds, or nothing more than its name."""
    if not kind.is_class:
        return "" if task.lower is None else f"{_shown(task.lower)} to {_shown(task.upper)}"
    labels = [_shown(label) for label in kind.classes_]
    threshold = getattr(kind, "threshold_", None)
    said = ", ".join(labels) if len(labels) <= 3 else f"{len(labels)} classes"
    return said if threshold is None else f"{said} from {threshold:.2g} on"


def _shown(value: Any) -> str:
    """Return a name or a label on one line."""
    text = str(value)
    return text if text.isprintable() else repr(text)[1:-1]


def _given(task: Task) -> str:
    if task.given is None:
        return ""
    return f"{_shown(task.given[0])} is {' or '.join(map(_shown, task.labels))}"


def _rows(nodes: Sequence[Node], indent: str) -> Iterator[tuple[str, ...]]:
    for k, node in enumerate(nodes):
        last = k == len(nodes) - 1
        top = node.task.given is None
        stem, more = ("", "") if top else ("└ ", "  ") if last else ("├ ", "│ ")
        counts = f"{node.applicable}", f"{node.observed}"
        name = f"{indent}{stem}{_shown(node.task.name)}"
        yield name, node.task.kind_name, node.holds, _given(node.task), *counts
        yield from _rows(node.behind, indent + more)


def _line(row: tuple[str, ...], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if k >= len(row) - 2 else cell.ljust(width)
        for k, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _item(node: Node) -> str:
    task = node.task
    said = f"<i>if {escape(_given(task))}</i>" if task.given is not None else ""
    holds = f": {escape(node.holds)}" if node.holds else ""
    behind = f"<ul>{''.join(map(_item, node.behind))}</ul>" if node.behind else ""
    counts = f"observed {node.observed:,} of {node.applicable:,}"
    return (
        f"<li>{said}<div><b>{escape(_shown(task.name))}</b> {escape(task.kind_name)}{holds} "
        f"<i>{counts}</i></div>{behind}</li>"
    )
