"""Which column a name means: the scope of one FROM clause."""

from __future__ import annotations

from dataclasses import dataclass

from pglast import ast

from pgtrickle.errors import UnsupportedQuery
from pgtrickle.ir.expr import Expr
from pgtrickle.parse.refuse import unsupported

#: What every table has, and no table can have a column of that name.
SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})


@dataclass(frozen=True, slots=True)
class Visible:
    """A name that a FROM item shows and the expression that it stands for.

    Attributes:
        name: the name.
        expr: the expression, over columns of the rows.
        computed: the expression may have a value where all columns in it are NULL: an outer join has to make it NULL.
        obstacle: why the name cannot be read, or None.
    """

    name: str
    expr: Expr
    computed: bool = False
    obstacle: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A FROM item as other clauses see it: its alias and its columns in order.

    ``row`` is the row as a whole, ``hidden`` are columns that no star shows.
    """

    alias: str
    columns: tuple[Visible, ...]
    schema: str | None = None
    row: Expr | None = None
    hidden: tuple[Visible, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """The FROM items of one SELECT, plus the merged columns of JOIN ... USING, which have no table."""

    tables: tuple[Table, ...]
    merged: tuple[Visible, ...] = ()

    def joined(self, other: Scope, merged: tuple[Visible, ...] = ()) -> Scope:
        """Both scopes side by side."""
        names = {column.name for column in merged}
        kept = tuple(column for column in (*self.merged, *other.merged) if column.name not in names)
        return Scope(self.tables + other.tables, merged + kept)

    def resolve(self, ref: ast.ColumnRef) -> Expr:
        """The expression that a column reference stands for.

        Raises:
            UnsupportedQuery: for whole rows, system columns and columns of an outer query.
        """
        if isinstance(ref.fields[-1], ast.A_Star):
            return self._row(ref.fields)
        return self.find(ref).expr

    def find(self, ref: ast.ColumnRef) -> Visible:
        """What a reference to one column means.

        Raises:
            UnsupportedQuery: for system columns, columns of an outer query and columns that cannot be read.
        """
        names = [field.sval for field in ref.fields]
        found = self._qualified(names) if len(names) > 1 else self._bare(names[0])
        if found is None:
            raise self._refusal(names)
        if found.obstacle is not None:
            raise unsupported("virtual generated column", found.obstacle, detail=".".join(names))
        return found

    def _row(self, fields: tuple[ast.Node, ...]) -> Expr:
        names = [field.sval for field in fields if isinstance(field, ast.String)]
        found = (t.row for t in self.tables if t.alias == names[-1] and names[:-1] in ([], [t.schema]))
        row = next(found, None)
        if row is None:
            raise UnsupportedQuery(
                "the whole row of this FROM item is not maintained incrementally",
                clause=".".join([*names, "*"]),
                hint="List the columns, for example ROW(t.a, t.b).",
            )
        return row

    def all_columns(self) -> tuple[Visible, ...]:
        """What ``*`` means here: merged columns first, then the tables' own."""
        hidden = {column.name for column in self.merged}
        own = [c for table in self.tables for c in table.columns if c.name not in hidden]
        return (*self.merged, *own)

    def _qualified(self, names: list[str]) -> Visible | None:
        alias, name = names[-2], names[-1]
        schema = names[-3] if len(names) > 2 else None
        for table in self.tables:
            if table.alias == alias and (schema is None or table.schema == schema):
                for column in (*table.columns, *table.hidden):
                    if column.name == name:
                        return column
        return None

    def _bare(self, name: str) -> Visible | None:
        for column in self.merged:
            if column.name == name:
                return column
        for columns in ([t.columns for t in self.tables], [t.hidden for t in self.tables]):
            found = [column for part in columns for column in part if column.name == name]
            if found:
                return found[0] if len(found) == 1 else None
        return None

    def _refusal(self, names: list[str]) -> UnsupportedQuery:
        if names[-1] in SYSTEM_COLUMNS:
            return UnsupportedQuery(
                f"the system column {names[-1]} changes without a change of the row",
                clause=".".join(names),
                hint="Use a column of your own.",
            )
        return UnsupportedQuery(
            "a reference to a column of an outer query is not maintained incrementally",
            clause=".".join(names),
            hint="Rewrite the correlated subquery as a join.",
        )
