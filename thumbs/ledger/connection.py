"""A connection in use, and the statements of every job: compiled once by SQLAlchemy, then run by the driver alone.

What SQLAlchemy does for an execution is little where it is all that a process does: 90 µs to read a job. Beside
everything else that a job needs, neither its code nor its data is in the processor's caches: 550 µs then, of which the
driver and the database need 210. So the statements that each job needs are `Prepared`; the others go through
SQLAlchemy. `database` makes connections, the ledger's modules use them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, overload

import sqlalchemy as sa
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.exc import MultipleResultsFound, NoResultFound
from sqlalchemy.pool import PoolProxiedConnection

Values = Mapping[str, Any]
NO_VALUES: Final[Values] = {}
Convert = Callable[[Any], Any]
"""Turns a value of ours into one of the driver's, or back."""


class Row:
    """A row that the driver found, as SQLAlchemy's are: columns are attributes, and the members of `_mapping`."""

    __slots__ = ("_mapping",)

    def __init__(self, mapping: dict[str, Any]) -> None:
        self._mapping = mapping

    def __getattr__(self, name: str) -> Any:
        try:
            return self._mapping[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, index: int) -> Any:
        return tuple(self._mapping.values())[index]


AnyRow = Row | sa.Row[Any]


class Found:
    """What a prepared statement found, all of it, and how many rows it found or changed."""

    def __init__(self, rows: list[Row], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def all(self) -> list[Row]:
        """Get every row."""
        return self._rows

    def one(self) -> Row:
        """Get the only row; raises NoResultFound or MultipleResultsFound."""
        row = self.one_or_none()
        if row is None:
            raise NoResultFound
        return row

    def one_or_none(self) -> Row | None:
        """Get the only row; raises MultipleResultsFound."""
        if len(self._rows) > 1:
            raise MultipleResultsFound
        return self._rows[0] if self._rows else None


class Prepared:
    """A statement that is built once, and compiled once for each kind of database.

    All of its parameters are named, and values are given for the same names each time; an `IN` over a list has no
    fixed number of them, and cannot be prepared.
    """

    def __init__(self, statement: sa.Executable) -> None:
        self._statement = statement
        self._recipes: dict[str, _Recipe] = {}

    def run(self, cursor: Any, dialect: Dialect, values: Values | Sequence[Values]) -> Found:
        """Run it with a cursor of the driver, once for each of several rows."""
        rows = [values] if isinstance(values, Mapping) else values
        recipe = self._recipes.get(dialect.name)
        if recipe is None:
            recipe = self._recipes[dialect.name] = _Recipe(self._statement, dialect, rows[0])
        if len(rows) == 1:
            cursor.execute(recipe.text, recipe.bind(rows[0]))
        else:
            cursor.executemany(recipe.text, [recipe.bind(row) for row in rows])
        return Found(recipe.read(cursor) if cursor.description else [], cursor.rowcount)


class Connection:
    """A connection that the pool has lent, for one use by one thread."""

    def __init__(self, engine: Engine, lent: PoolProxiedConnection) -> None:
        self.dialect: Final = engine.dialect
        self._engine = engine
        self._lent = lent
        self._core: sa.Connection | None = None

    @overload
    def execute(self, statement: Prepared, values: Values | Sequence[Values] = NO_VALUES) -> Found: ...

    @overload
    def execute(
        self, statement: sa.Executable, values: Values | Sequence[Values] = NO_VALUES
    ) -> "sa.CursorResult[*tuple[Any, ...]]": ...

    def execute(
        self, statement: Prepared | sa.Executable, values: Values | Sequence[Values] = NO_VALUES
    ) -> "Found | sa.CursorResult[*tuple[Any, ...]]":
        """Run a statement."""
        if isinstance(statement, Prepared):
            return statement.run(self._lent.cursor(), self.dialect, values)
        if self._core is None:  # It shares the transaction, whose end is not its matter.
            self._core = sa.Connection(self._engine, connection=self._lent)
        return self._core.execute(statement, values)

    def scalar(self, statement: Prepared | sa.Executable, values: Values = NO_VALUES) -> Any:
        """Run a statement and get the first column of its only row; None when there is no row."""
        row = self.execute(statement, values).one_or_none()
        return None if row is None else row[0]

    def scalars(self, statement: Prepared | sa.Executable, values: Values = NO_VALUES) -> list[Any]:
        """Run a statement and get the first column of each row."""
        return [row[0] for row in self.execute(statement, values)]


class _Recipe:
    """A statement for one kind of database: its text, and how its values and its rows are converted."""

    def __init__(self, statement: Any, dialect: Dialect, values: Values) -> None:
        names = list(values) if isinstance(statement, sa.Insert) else None
        compiled = statement.compile(dialect=dialect, column_keys=names)
        self.text = str(compiled)
        self._constants: dict[str, Any] = {}
        self._given: list[tuple[str, Convert | None]] = []
        for bind, name in compiled.bind_names.items():
            convert = bind.type.dialect_impl(dialect).bind_processor(dialect)
            if bind.required:
                self._given.append((name, convert))
            else:
                self._constants[name] = convert(bind.value) if convert else bind.value
        self._dialect = dialect
        self._expected = list(getattr(statement, "exported_columns", ()))
        self._columns: list[tuple[str, Convert | None]] | None = None

    def bind(self, values: Values) -> dict[str, Any]:
        """Give the parameters, as the driver takes them."""
        bound = self._constants.copy()
        for name, convert in self._given:
            value = values[name]
            bound[name] = value if convert is None else convert(value)
        return bound

    def read(self, cursor: Any) -> list[Row]:
        """Read every row."""
        if self._columns is None:
            self._columns = [
                (each[0], self._find_reverse(place, each[1])) for place, each in enumerate(cursor.description)
            ]
        return [Row(self._name(self._columns, found)) for found in cursor.fetchall()]

    @staticmethod
    def _name(columns: "Sequence[tuple[str, Convert | None]]", found: Sequence[Any]) -> dict[str, Any]:
        pairs = zip(columns, found, strict=True)
        return {name: value if convert is None else convert(value) for (name, convert), value in pairs}

    def _find_reverse(self, place: int, driver_type: Any) -> Convert | None:
        """Find what turns a column's values into ours; nothing does for a text, whose columns nobody knows before."""
        if not self._expected:
            return None
        kind = self._expected[place].type.dialect_impl(self._dialect)
        found: Convert | None = kind.result_processor(self._dialect, driver_type)
        return found
