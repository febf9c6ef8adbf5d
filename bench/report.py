"""Figures as rows, rows as plain tables, and the marks beside them."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value: `table` and `row` and `column` say where it stands."""

    table: str
    row: str
    column: str
    value: float


@dataclass(frozen=True, slots=True)
class Mark:
    """What we want of a value: at most, or at least, so much."""

    name: str
    value: float
    limit: float
    unit: str
    is_minimum: bool = False

    @property
    def is_met(self) -> bool:
        """Tell whether the value is as wanted."""
        return self.value >= self.limit if self.is_minimum else self.value <= self.limit


def summarize(table: str, row: str, values: Sequence[float]) -> list[Figure]:
    """Summarize values as mean, p50, p90, p99."""
    points = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else [values[0]] * 99
    columns = {"mean": statistics.fmean(values), "p50": points[49], "p90": points[89], "p99": points[98]}
    return [Figure(table, row, column, value) for column, value in columns.items()]


def render(figures: Sequence[Figure], marks: Sequence[Mark]) -> str:
    """Render a table for each that the figures name, and the marks."""
    tables = [_render_table(name, list(rows)) for name, rows in groupby(figures, lambda figure: figure.table)]
    return "\n\n".join([*tables, _render_marks(marks)])


def write_json(path: Path, about: dict[str, str], figures: Iterable[Figure], marks: Iterable[Mark]) -> None:
    """Write the same as one JSON document of rows."""
    document = {
        "about": about,
        "figures": [asdict(figure) for figure in figures],
        "marks": [asdict(mark) | {"is_met": mark.is_met} for mark in marks],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _render_table(name: str, figures: list[Figure]) -> str:
    columns = list(dict.fromkeys(figure.column for figure in figures))
    rows = list(dict.fromkeys(figure.row for figure in figures))
    cells = {(figure.row, figure.column): _show(figure.value) for figure in figures}
    wide = max(len(name), *(len(row) for row in rows))
    lines = [f"{name:<{wide}}" + "".join(f"{column:>11}" for column in columns)]
    lines += [f"{row:<{wide}}" + "".join(f"{cells.get((row, column), '–'):>11}" for column in columns) for row in rows]
    return "\n".join(lines)


def _show(value: float) -> str:
    return f"{value:.2f}" if 0 < abs(value) < 1 else f"{value:.1f}"


def _render_marks(marks: Sequence[Mark]) -> str:
    wide = max(len(mark.name) for mark in marks)
    lines = ["marks"]
    for mark in marks:
        sign, verdict = "≥" if mark.is_minimum else "≤", "met" if mark.is_met else "MISSED"
        lines.append(f"{mark.name:<{wide}}  {mark.value:>7.1f} {sign} {mark.limit:g} {mark.unit}: {verdict}")
    return "\n".join(lines)
