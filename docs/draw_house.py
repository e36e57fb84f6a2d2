"""Draw the house: folders as rooms, modules inside, and arrows that are read from the imports.

The documentation runs `draw` at build time, so that the picture is always that of the code. To look
at it without a build::

    python docs/draw_house.py house.png
"""

from __future__ import annotations

import ast
import functools
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon

PACKAGE = Path(__file__).resolve().parents[1] / "sklearn_mtl"

# Where a room stands from left to right, on a street of 12. How high, the imports say. A room has
# to stand partly above each room that it needs, as all arrows point straight down.
PLACES = {
    "_addresses": (0.0, 2.0),
    "_memory": (2.1, 4.1),
    "networks": (0.7, 2.9),
    "augmentation": (0.0, 2.0),
    "losses": (4.4, 6.3),
    "_identity": (6.6, 9.0),
    "datasets": (10.0, 12.0),
    "kinds": (3.6, 9.0),
    "_data": (3.6, 12.0),
    "_predict": (3.0, 4.9),
    "_fitted_module": (5.0, 7.1),
    "_score": (7.2, 8.3),
    "_intervals": (8.4, 9.9),
    "_fitted": (3.6, 12.0),
    "_training": (0.0, 4.0),
    "_through": (4.1, 5.55),
    "_one_task": (5.65, 7.15),
    "_views": (6.0, 7.6),
    "model_selection": (7.25, 9.5),
    "_files": (0.0, 4.9),
    "metrics": (6.4, 10.4),
    "inspection": (8.5, 11.2),
    "plotting": (9.6, 12.0),
    "_results": (9.6, 12.0),
    "_callers": (6.3, 8.3),
    "_estimator": (0.0, 12.0),
}
THEMES = {
    "light": {"ink": "#1f2933", "faint": "#5b6673", "room": "#eef1f4", "public": "#d9e8fb"}
    | {"module": "#ffffff", "edge": "#9aa5b1", "arrow": "#46525f", "page": "#ffffff"},
    "dark": {"ink": "#e6e9ec", "faint": "#a9b3bd", "room": "#252b32", "public": "#1d3a5c"}
    | {"module": "#14181c", "edge": "#67727e", "arrow": "#b4bec8", "page": "#121212"},
}
LINE, MODULE, GAP = 0.26, 0.38, 0.44  # heights of a line of text, and a module; between floors


Box = tuple[float, float, float, float]  # x, y, width and height


class Room(NamedTuple):
    """A folder of the package, or a module in none."""

    name: str
    says: str  # the first sentence of its docstring
    modules: list[str]  # those that others are made of come first
    needs: set[str]  # rooms that it imports


@functools.cache
def read_rooms(package: Path = PACKAGE) -> dict[str, Room]:
    """Read all rooms of the package but its `__init__`, which is the roof."""
    trees = {
        ".".join(path.relative_to(package).with_suffix("").parts): ast.parse(path.read_text())
        for path in sorted(package.rglob("*.py"))
        if path != package / "__init__.py"
    }
    trees = {name.removesuffix(".__init__"): tree for name, tree in trees.items()}
    imports = {name: set(imported(tree, trees)) for name, tree in trees.items()}
    level = floors(imports)
    rooms = {}
    for name in (name for name in trees if "." not in name):
        inside = [module for module in trees if module.startswith(f"{name}.")]
        inside.sort(key=level.__getitem__)
        says = (ast.get_docstring(trees[name]) or "").partition("\n\n")[0]
        says = " ".join(says.split()).replace("`", "")
        needs = {n.partition(".")[0] for part in (name, *inside) for n in imports[part]} - {name}
        rooms[name] = Room(name, says, [m.partition(".")[2] for m in inside], needs)
    return rooms


def imported(tree: ast.AST, modules: Any) -> Iterator[str]:
    """Those of the modules that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}".removeprefix("sklearn_mtl.")
                name = whole if whole in modules else whole.rpartition(".")[0]
                if name in modules:
                    yield name


def floors(needs: dict[str, set[str]]) -> dict[str, int]:
    """Floor of each room or module: one above the highest that it needs."""

    @functools.cache
    def floor(name: str) -> int:
        return 1 + max(map(floor, needs[name]), default=-1)

    return {name: floor(name) for name in needs}


def direct(needs: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Leave out imports that lead where other arrows lead too: the fewest arrows that say all."""

    @functools.cache
    def reach(name: str) -> set[str]:
        return needs[name].union(*(reach(other) for other in needs[name]))

    return [
        (name, other)
        for name, others in needs.items()
        for other in sorted(others)
        if not any(other in reach(between) for between in others)
    ]


def wrapped(text: str, width: float) -> list[str]:
    """Break a text into lines for a room of some width."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > 10.7 * width - 3:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def shelves(modules: list[str], width: float) -> list[list[tuple[str, float]]]:
    """Put modules side by side: their names and widths, row by row."""
    rows: list[list[tuple[str, float]]] = [[]]
    for name in modules:
        size = 0.115 * len(name) + 0.22
        if rows[-1] and sum(s + 0.1 for _, s in rows[-1]) + size > width - 0.2:
            rows.append([])
        rows[-1].append((name, size))
    return rows


def height(room: Room) -> float:
    """Height that a room needs for what stands in it."""
    left, right = PLACES[room.name]
    n_shelves = len(shelves(room.modules, right - left)) if room.modules else 0
    n_lines = len(wrapped(room.says, right - left))
    return 0.46 + LINE * n_lines + (MODULE + 0.08) * n_shelves + 0.1


class Plan(NamedTuple):
    """Where everything stands: rooms by x, y, width and height, arrows by x, start and end."""

    rooms: dict[str, Room]
    boxes: dict[str, Box]
    arrows: list[tuple[float, float, float]]
    top: float


def plan_house(rooms: dict[str, Room]) -> Plan:
    """Place rooms by floor, and arrows where nothing is between."""
    if homeless := sorted(set(rooms) - set(PLACES)):
        raise ValueError(f"docs/draw_house.py: give {homeless} a place in PLACES.")
    needs = {name: room.needs for name, room in rooms.items()}
    level = floors(needs)
    tallest = [
        max(height(rooms[name]) for name in rooms if level[name] == floor)
        for floor in range(max(level.values()) + 1)
    ]
    ground = list(itertools.accumulate((h + GAP for h in tallest), initial=0.0))
    boxes = {
        name: (PLACES[name][0], ground[floor], PLACES[name][1] - PLACES[name][0], tallest[floor])
        for name, floor in level.items()
    }
    arrows = []
    for upper, lower in direct(needs):
        x = free_way(upper, lower, boxes)
        arrows.append((x, boxes[upper][1], boxes[lower][1] + boxes[lower][3]))
    return Plan(rooms, boxes, arrows, ground[-1] - GAP)


def free_way(upper: str, lower: str, boxes: dict[str, Box]) -> float:
    """Middle of the widest way straight down from one room to another."""
    (left, bottom, width, _), (other, y, other_width, tall) = boxes[upper], boxes[lower]
    ways = [(max(left, other), min(left + width, other + other_width))]
    for x, y_between, w, _ in boxes.values():
        if y + tall <= y_between < bottom:
            parts = [[(a, min(b, x - 0.1)), (max(a, x + w + 0.1), b)] for a, b in ways]
            ways = [way for pair in parts for way in pair]
    a, b = max(ways, key=lambda way: way[1] - way[0], default=(0, 0))
    if b - a < 0.3:
        raise ValueError(
            f"docs/draw_house.py: nothing leads from {upper} straight down to {lower}."
        )
    return (a + b) / 2


def draw_box(ax: Any, box: Box, color: str, theme: dict[str, str], rounding: float) -> None:
    """Draw a rounded box."""
    x, y, width, tall = box
    style = f"round,pad=0,rounding_size={rounding}"
    ax.add_patch(
        FancyBboxPatch(
            (x, y), width, tall, style, facecolor=color, edgecolor=theme["edge"], linewidth=0.8
        )
    )


def draw_room(ax: Any, room: Room, box: Box, theme: dict[str, str]) -> None:
    """Draw a room: its name, what it says of itself, and its modules."""
    x, y, width, tall = box
    draw_box(ax, box, theme["room" if room.name.startswith("_") else "public"], theme, 0.12)
    x, down = x + 0.18, y + tall - 0.29
    ax.text(x, down, room.name, fontsize=12.5, fontweight="bold", color=theme["ink"], va="center")
    for line in wrapped(room.says, width):
        down -= LINE
        ax.text(x, down - 0.03, line, fontsize=9.4, color=theme["faint"], va="center")
    for row in shelves(room.modules, width) if room.modules else ():
        down -= MODULE + 0.08
        right = x
        for name, size in row:
            draw_box(ax, (right, down - 0.14, size, MODULE - 0.04), theme["module"], theme, 0.08)
            style = {"fontsize": 9.6, "color": theme["ink"], "ha": "center", "va": "center"}
            ax.text(right + size / 2, down - 0.16 + MODULE / 2, name, **style)
            right += size + 0.1


def draw(path: Path, theme: str = "light") -> None:
    """Draw the house into a file."""
    colors, plan = THEMES[theme], plan_house(read_rooms())
    figure = Figure(figsize=(9.6, 0.8 * (plan.top + 1.8)))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(-0.15, 12.15), ylim=(-0.15, plan.top + 1.65))
    ax.axis("off")
    roof = [(-0.1, plan.top + 0.35), (12.1, plan.top + 0.35), (10.9, plan.top + 1.5)]
    roof.append((1.1, plan.top + 1.5))
    ax.add_patch(Polygon(roof, facecolor=colors["public"], edgecolor=colors["edge"]))
    lines = {"sklearn_mtl": (1.12, 14, "bold", "ink")}
    lines["MultiTaskCNNEstimator, Task, task_view, and the blue rooms"] = (0.7, 10, None, "ink")
    for line, (up, size, weight, color) in lines.items():
        style = {"fontsize": size, "fontweight": weight, "color": colors[color]}
        ax.text(6, plan.top + up, line, ha="center", va="center", **style)
    for x, start, end in plan.arrows:
        arrow = {"arrowstyle": "-|>", "color": colors["arrow"], "shrinkA": 0, "shrinkB": 1}
        ax.annotate("", (x, end), (x, start), arrowprops=arrow | {"linewidth": 1.4})
    for name, room in plan.rooms.items():
        draw_room(ax, room, plan.boxes[name], colors)
    with mpl.rc_context({"svg.hashsalt": "house"}):  # the same file from the same code
        form = {"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": 110}
        page = "none" if path.suffix == ".svg" else colors["page"]
        figure.savefig(path, facecolor=page, **form)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), *sys.argv[2:])
