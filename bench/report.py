"""Figures as rows, rows as plain tables, and the marks beside them."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

Row = Mapping[str, str | float | None]
"""The figures of one thing that was measured, by their names."""


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
    return [Figure(table, row, column, value) for column, value in _summarize(values).items()]


def find_point(values: Sequence[float], column: str) -> float:
    """Find one of the figures that `summarize` makes: mean, p50, p90 or p99."""
    return _summarize(values)[column]


def show(
    about: dict[str, str],
    figures: Sequence[Figure],
    marks: Sequence[Mark],
    path: Path | None,
    rows: Sequence[Row] = (),
) -> None:
    """Print what was measured, and write it as JSON too when there is a path, with rows that sum it up."""
    print("\n".join(f"{name:<8} {text}" for name, text in about.items()), render(figures, marks), sep="\n\n")
    if path is not None:
        write_json(path, about, figures, marks, rows)


def render(figures: Sequence[Figure], marks: Sequence[Mark]) -> str:
    """Render a table for each that the figures name, and the marks."""
    tables = [_render_table(name, list(rows)) for name, rows in groupby(figures, lambda figure: figure.table)]
    return "\n\n".join([*tables, _render_marks(marks)])


def write_json(
    path: Path, about: dict[str, str], figures: Iterable[Figure], marks: Iterable[Mark], rows: Sequence[Row] = ()
) -> None:
    """Write the same as one JSON document of rows."""
    document = {
        "about": about,
        "rows": list(rows),
        "figures": [asdict(figure) for figure in figures],
        "marks": [asdict(mark) | {"is_met": mark.is_met} for mark in marks],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _summarize(values: Sequence[float]) -> dict[str, float]:
    points = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else [values[0]] * 99
    return {"mean": statistics.fmean(values), "p50": points[49], "p90": points[89], "p99": points[98]}


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
    wide = max((len(mark.name) for mark in marks), default=0)
    lines = ["marks"]
    for mark in marks:
        sign, verdict = "≥" if mark.is_minimum else "≤", "met" if mark.is_met else "MISSED"
        digits = 2 if mark.unit == "times" else 1  # Ratios are near their limits.
        lines.append(f"{mark.name:<{wide}}  {mark.value:>7.{digits}f} {sign} {mark.limit:g} {mark.unit}: {verdict}")
    return "\n".join(lines)
