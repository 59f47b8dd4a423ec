"""Prints operator trees as SELECT statements. Semantics were decided before; here is only text."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from psycopg.sql import SQL, Composable, Composed, Placeholder

from pgtrickle.emit.blocks import Block, Value, is_inlined, joined
from pgtrickle.emit.consolidate import consolidate
from pgtrickle.emit.fragments import (
    WEIGHT,
    Name,
    Rendered,
    commas,
    conjunction,
    hashed,
    is_null,
    names,
    same,
    scalar,
    table,
    verbatim,
)
from pgtrickle.errors import InternalError
from pgtrickle.ir import operators as ir
from pgtrickle.ir.operators import Operator, OuterKind, children_of
from pgtrickle.ir.schema import Column
from pgtrickle.names import NUMBER_COLUMN, TABLEOID, WEIGHT_COLUMN, XID_COLUMN, change_column
from pgtrickle.plan import Bindings

_WINDOW = SQL("({xid} >= %(xmax)s::pg_catalog.xid8 OR {xid} = ANY (%(xip)s::pg_catalog.xid8[])) AND {weight} <> 0")
_FEW = SQL(
    "({xid} >= %(xmax)s::pg_catalog.xid8 AND {xid} < %(until)s::pg_catalog.xid8"
    " OR {xid} = ANY (%(xip)s::pg_catalog.xid8[])"
    " AND {xid} >= %(xmin)s::pg_catalog.xid8 AND {xid} < %(xmax)s::pg_catalog.xid8) AND {weight} <> 0"
)


class Printer:
    """Prints one statement. Sub-results that are read more than once become common table expressions.

    Only what is derived from changes is shared; what reads tables stays inline, so that
    PostgreSQL can use their indexes.

    Args:
        bindings: names in the database.
        few: the windows are known to be small. Their upper ends are said, too, which leaves out nothing: a plan without
            values takes a range with two ends for a two-hundredth of a table, and one that is open for a third.
    """

    def __init__(self, bindings: Bindings, *, few: bool = False) -> None:
        self._bindings = bindings
        self.few = few
        self._aliases = 0
        self._uses: Counter[int] = Counter()
        self._seen: list[Operator] = []
        self._from_changes: dict[int, bool] = {}
        self._names: dict[int, Name] = {}
        self._ctes: list[tuple[Name, Composable]] = []
        self._recursive = False
        self._recursions: set[str] = set()
        #: With the operator itself: it has to live as long as its id is used.
        self._printed: dict[tuple[int, frozenset[str]], tuple[Operator, Rendered]] = {}
        self._inside: dict[tuple[int, frozenset[str]], tuple[Operator, Block]] = {}

    # --- statement -------------------------------------------------------------------------------------------------

    def plan_sharing(self, op: Operator) -> None:
        """Count how often each node is used. To be called once for every tree of the statement, before printing."""
        self._uses[id(op)] += 1
        if self._uses[id(op)] == 1:
            self._seen.append(op)  # keeps the node alive, so that its id stays its own
            for child in children_of(op):
                self.plan_sharing(child)

    def define(self, name: str, query: Composable, *, recursive: bool = False, fenced: bool = True) -> Name:
        """Add a common table expression of one's own.

        Args:
            name: what it is called.
            query: what it is.
            recursive: it may read itself.
            fenced: it is planned and kept apart. Otherwise PostgreSQL puts it in its place if it is used once: large
                windows need not be copied, and are planned with their statistics.
        """
        identifier = Name(name)
        self._recursive |= recursive
        self._ctes.append((identifier, SQL("MATERIALIZED (\n{}\n)" if fenced else "(\n{}\n)").format(query)))
        return identifier

    def statement(self, body: Composable) -> Composed:
        """The body, preceded by everything it refers to."""
        if not self._ctes:
            return Composed([body])
        parts = [SQL("{} AS {}").format(name, query) for name, query in self._ctes]
        clause = SQL("WITH RECURSIVE {}\n{}") if self._recursive else SQL("WITH {}\n{}")
        return clause.format(SQL(",\n").join(parts), body)

    # --- relations -------------------------------------------------------------------------------------------------

    def source(self, op: Operator) -> tuple[Composable, str]:
        """The operator as a FROM item, with the alias it got."""
        alias = self._alias()
        if self._is_shared(op):
            return SQL("{} AS {}").format(self._shared(op), Name(alias)), alias
        return SQL("({}) AS {}").format(self._print(op), Name(alias)), alias

    def _block(self, op: Operator) -> Block:
        """The operator as a SELECT to be gone on with; each time with other aliases."""
        flat = getattr(self, f"_block_{type(op).__name__.lower()}", None)
        if flat is None or self._is_shared(op):
            source, alias = self.source(op)
            return Block.of(source, alias, op.columns, weighted=op.weighted)
        block: Block = flat(op)
        return block

    def _enclosed(self, op: Operator) -> Block:
        """The operator as a SELECT inside EXISTS, each time with the same aliases: made once, however deep it is.

        The SELECT around it has others, each time new ones, so that none of these is hidden.
        """
        place = (id(op), frozenset(self._recursions))
        if place not in self._inside:
            block = self._block(op)
            rendered = tuple(map(Rendered, block.conditions))
            self._inside[place] = (op, replace(block, sources=(Rendered(block.tables),), conditions=rendered))
        return self._inside[place][1]

    def _alias(self) -> str:
        self._aliases += 1
        return f"pgt_hole_r{self._aliases}"

    def select(self, op: Operator) -> Composable:
        """The operator as a SELECT; weighted relations have a last column ``__w``."""
        if self._is_shared(op):
            return SQL("SELECT * FROM {}").format(self._shared(op))
        return self._print(op)

    def _is_shared(self, op: Operator) -> bool:
        if isinstance(op, ir.Change):
            return True
        if isinstance(op, ir.Named):
            return False
        return self._uses[id(op)] > 1 and self._reads_changes(op)

    def _reads_changes(self, op: Operator) -> bool:
        known = self._from_changes.get(id(op))
        if known is None:
            known = isinstance(op, ir.Change | ir.Named) or any(map(self._reads_changes, children_of(op)))
            self._from_changes[id(op)] = known
        return known

    def _shared(self, op: Operator) -> Name:
        if id(op) not in self._names:
            query = self._print(op)
            self._names[id(op)] = self.define(f"d{len(self._ctes) + 1}", query, fenced=False)
        return self._names[id(op)]

    # --- one method per operator -----------------------------------------------------------------------------------

    def _print(self, op: Operator) -> Composable:
        """Print an operator, or show what was printed of it before: rules use a tree in many places."""
        place = (id(op), frozenset(self._recursions))
        if place not in self._printed:
            self._printed[place] = (op, Rendered(self._print_new(op)))
        return self._printed[place][1]

    def _print_new(self, op: Operator) -> Composable:
        kind = type(op).__name__.lower()
        flat = getattr(self, f"_block_{kind}", None)
        if flat is not None:
            block: Block = flat(op)
            return block.select(op.columns)
        printer = getattr(self, f"_print_{kind}", None)
        if printer is None:
            raise InternalError(f"the operator {type(op).__name__} has no printer")
        printed: Composable = printer(op)
        return printed

    def _block_scan(self, op: ir.Scan) -> Block:
        relation = {
            "table": lambda: self._bindings.tables[op.input.ident].relation,
            "stream_table": lambda: self._bindings.stream_tables[op.input.ident].relation,
            "stage": lambda: self._bindings.stages[op.input.ident].output,
        }[op.input.kind]()
        alias = self._alias()
        pairs = zip(op.attributes, op.columns, strict=True)
        values = {column.name: Value(Name(alias, name)) for (_, name), column in pairs}
        only = SQL("ONLY ") if op.only else SQL("")
        return Block((SQL("{}{} AS {}").format(only, table(relation), Name(alias)),), values)

    def _print_change(self, op: ir.Change) -> Composable:
        scan = op.scan
        columns = [
            SQL("b.{} AS {}").format(Name(change_column(number)), Name(column.name))
            for (number, _), column in zip(scan.attributes, scan.columns, strict=True)
        ]
        weight = SQL("b.{}::pg_catalog.int8 AS {}").format(Name(WEIGHT_COLUMN), WEIGHT)
        source, window = self._window(scan)
        return SQL("SELECT {} FROM {} AS b WHERE {}").format(commas([*columns, weight]), source, window)

    def _window(self, scan: ir.Scan) -> tuple[Composable, Composable]:
        number = Name("b", NUMBER_COLUMN)
        if scan.input.kind == "stage":
            log = self._bindings.stages[scan.input.ident].log
            if log is None:
                raise InternalError("a stage that is read has no log")
            return table(log), SQL("{} = %(refresh_no)s").format(number)
        if scan.input.kind == "stream_table":
            consumed = Placeholder(f"consumed_{scan.input.ident}")
            window = SQL("{} > {}").format(number, consumed)
            if self.few:
                window += SQL(" AND {} <= {}").format(number, Placeholder(f"until_{scan.input.ident}"))
            return table(self._bindings.stream_tables[scan.input.ident].log), window
        buffer = self._bindings.tables[scan.input.ident].buffer
        if buffer is None:
            raise InternalError("a table whose changes are read has no change buffer")
        xid, weight = Name("b", XID_COLUMN), Name("b", WEIGHT_COLUMN)
        window = (_FEW if self.few else _WINDOW).format(xid=xid, weight=weight)
        if scan.only:
            own = SQL(" AND {} = {}::pg_catalog.oid")
            window += own.format(Name("b", change_column(TABLEOID)), verbatim(f"'{scan.input.ident}'"))
        return table(buffer), window

    def _print_empty(self, op: ir.Empty) -> Composable:
        columns = [SQL("NULL::{} AS {}").format(verbatim(column.type.name), Name(column.name)) for column in op.columns]
        return SQL("SELECT {} WHERE FALSE").format(commas([*columns, SQL("0::pg_catalog.int8 AS {}").format(WEIGHT)]))

    def _print_values(self, op: ir.Values) -> Composable:
        if not op.columns:
            return SQL("SELECT")
        rows = commas(SQL("({})").format(commas(scalar(expr) for expr in row)) for row in op.rows)
        return SQL("SELECT * FROM (VALUES {}) AS v ({})").format(rows, names(op.columns))

    def _block_filter(self, op: ir.Filter) -> Block:
        block = self._block(op.child)
        return block.where(*map(block.filled, op.conditions))

    def _block_project(self, op: ir.Project) -> Block:
        block = self._block(op.child)
        values = [block.shows(expr) for expr in op.exprs]
        if all(is_inlined(expr, value) for expr, value in zip(op.exprs, values, strict=True)):
            return replace(block, values={c.name: value for c, value in zip(op.columns, values, strict=True)})
        alias = self._alias()
        shown = replace(block, values={c.name: value for c, value in zip(op.columns, values, strict=True)})
        source = SQL("({}) AS {}").format(shown.select(op.columns), Name(alias))
        return Block.of(source, alias, op.columns, weighted=op.weighted)

    def _block_join(self, op: ir.Join) -> Block:
        block = joined(map(self._block, op.inputs))
        return block.where(*map(block.filled, op.conditions))

    def _print_outerjoin(self, op: ir.OuterJoin) -> Composable:
        left, right = self.source(op.left)[0], self.source(op.right)[0]
        kind = SQL("FULL JOIN") if op.kind is OuterKind.FULL else SQL("LEFT JOIN")
        conditions = conjunction(scalar(condition) for condition in op.conditions)
        return SQL("SELECT {} FROM {} {} {} ON {}").format(names(op.columns), left, kind, right, conditions)

    def _block_anti(self, op: ir.Anti) -> Block:
        left, right = self._block(op.left), self._enclosed(op.right)
        both = joined((left, replace(right, weight=None)))
        conditions = conjunction((*right.conditions, *map(both.filled, op.conditions)))
        exists = SQL("EXISTS") if op.semi else SQL("NOT EXISTS")
        return left.where(SQL("{} (SELECT 1 FROM {} WHERE {})").format(exists, right.tables, conditions))

    def _print_unionall(self, op: ir.UnionAll) -> Composable:
        branches = [self._block(child).select(op.columns, child.columns) for child in op.children]
        return SQL("\nUNION ALL\n").join(branches)

    def _block_negate(self, op: ir.Negate) -> Block:
        block = self._block(op.child)
        return replace(block, weight=SQL("(-{})").format(block.weight))

    def _print_consolidate(self, op: ir.Consolidate) -> Composable:
        return consolidate(op.columns, self.select(op.child))

    def _print_fence(self, op: ir.Fence) -> Composable:
        return SQL("{} OFFSET 0").format(self._block(op.child).select(op.columns))

    def _block_weigh(self, op: ir.Weigh) -> Block:
        block = self._block(op.child)
        weight = SQL("({})::pg_catalog.int8").format(block.filled(op.weight))
        return replace(block.where(SQL("{} <> 0").format(weight)), weight=weight)

    def _block_expose(self, op: ir.Expose) -> Block:
        block = self._block(op.child)
        if block.weight is None:
            raise InternalError("a weight is read of rows that have none")
        return replace(
            block,
            values={**block.values, op.weight.name: Value(SQL("({})").format(block.weight), plain=False)},
            weight=None,
        )

    def _print_aggregate(self, op: ir.Aggregate) -> Composable:
        block = self._block(op.child)
        if not all(block.values[key].plain for key in op.keys):
            # GROUP BY takes a constant for the number of a column.
            source, alias = self.source(op.child)
            block = Block.of(source, alias, op.child.columns, weighted=op.child.weighted)
        keys = [SQL("{} AS {}").format(block.values[key].sql, Name(key)) for key in op.keys]
        calls = [SQL("{} AS {}").format(block.filled(call.expr), Name(call.column.name)) for call in op.calls]
        query = SQL("SELECT {} FROM {}").format(commas([*keys, *calls]), block.tables)
        if block.conditions:
            query = SQL("{} WHERE {}").format(query, conjunction(block.conditions))
        if op.scalar:
            # Without a call nothing but the clause says that there is one row.
            return query if calls else SQL("{} GROUP BY ()").format(query)
        return SQL("{} GROUP BY {}").format(query, commas(block.values[key].sql for key in op.keys))

    def _print_window(self, op: ir.Window) -> Composable:
        source, _ = self.source(op.child)
        calls = [SQL("{} AS {}").format(scalar(call.expr), Name(call.column.name)) for call in op.calls]
        shown = [Name(column.name) for column in op.child.columns]
        return SQL("SELECT {} FROM {}").format(commas([*shown, *calls]), source)

    def _print_pick(self, op: ir.Pick) -> Composable:
        source, _ = self.source(op.child)
        order = commas(map(scalar, op.items))
        return SQL("SELECT {} FROM {} ORDER BY {} LIMIT {}").format(
            self._columns(op), source, order, SQL("({})").format(scalar(op.limit))
        )

    def _print_apply(self, op: ir.Apply) -> Composable:
        # Qualified, because inside the subquery an unqualified name could be that of a column there.
        source, alias = self.source(op.child)
        calls = [SQL("({}) AS {}").format(scalar(call.expr, alias), Name(call.column.name)) for call in op.calls]
        shown = [Name(alias, column.name) for column in op.child.columns]
        weight = [Name(alias, "__w")] if op.weighted else []
        return SQL("SELECT {} FROM {}").format(commas([*shown, *calls, *weight]), source)

    def _print_expand(self, op: ir.Expand) -> Composable:
        source, alias = self.source(op.child)
        kind = SQL("LEFT JOIN LATERAL {} AS {} ({}) ON TRUE") if op.outer else SQL("CROSS JOIN LATERAL {} AS {} ({})")
        joined = kind.format(scalar(op.query, alias), Name(f"{alias}_of"), names(op.added))
        return SQL("SELECT {} FROM {} {}").format(self._columns(op), source, joined)

    def _print_attach(self, op: ir.Attach) -> Composable:
        child, mine = self.source(op.child)
        rows, theirs = self.source(op.rows)
        pairs = [SQL("{} IS NOT DISTINCT FROM {}").format(Name(mine, a), Name(theirs, b)) for a, b in op.pairs]
        conditions = conjunction([*pairs, *(scalar(condition) for condition in op.conditions)])
        return SQL("SELECT {} FROM {} JOIN {} ON {}").format(self._columns(op), child, rows, conditions)

    def _print_single(self, op: ir.Single) -> Composable:
        child, mine = self.source(op.child)
        rows, theirs = self.source(op.rows)
        pairs = conjunction(
            SQL("{} IS NOT DISTINCT FROM {}").format(Name(mine, a), Name(theirs, b)) for a, b, _ in op.triples
        )
        return SQL("SELECT {} FROM {} LEFT JOIN {} ON {}").format(self._columns(op), child, rows, pairs)

    def _print_keep(self, op: ir.Keep) -> Composable:
        return self.select(op.child)

    def _print_pad(self, op: ir.Pad) -> Composable:
        child, other = self.source(op.child)[0], self.source(op.other)[0]
        return SQL("SELECT {} FROM {} LEFT JOIN {} ON FALSE").format(self._columns(op), child, other)

    def _print_groupingsets(self, op: ir.GroupingSets) -> Composable:
        source, _ = self.source(op.child)
        calls = [SQL("{} AS {}").format(scalar(call.expr), Name(call.column.name)) for call in op.calls]
        markers = [
            SQL("GROUPING({}) AS {}").format(commas(map(Name, keys)), Name(column.name)) for column, keys in op.markers
        ]
        sets = commas(SQL("({})").format(commas(map(Name, keys))) for keys in op.sets)
        shown = commas([*map(Name, op.keys), *calls, *markers])
        return SQL("SELECT {} FROM {} GROUP BY GROUPING SETS ({})").format(shown, source, sets)

    def _print_lookup(self, op: ir.Lookup) -> Composable:
        """Counts per row of ``left``, by a join that PostgreSQL can do by hash or index, whatever it joins by.

        The rows are numbered, so that equal ones stay apart; those that meet nothing have 0 of everything.
        """
        self._aliases += 1
        number = self._aliases
        rows = SQL("SELECT l.*, pg_catalog.row_number() OVER () AS __i FROM {} AS l").format(self._derived(op.left))
        numbered = self.define(f"rows{number}", rows)
        calls = [SQL("{} AS {}").format(scalar(call.expr), Name(call.column.name)) for call in op.calls]
        conditions = conjunction(scalar(condition) for condition in op.conditions)
        found = SQL("SELECT __i, {} FROM {} CROSS JOIN {} WHERE {} GROUP BY __i").format(
            commas(calls), numbered, self.source(op.right)[0], conditions
        )
        counts = [
            SQL("COALESCE(f.{}, 0) AS {}").format(Name(call.column.name), Name(call.column.name)) for call in op.calls
        ]
        shown = [SQL("n.{}").format(Name(column.name)) for column in op.left.columns]
        weight: list[Composable] = [SQL("n.{}").format(WEIGHT)] if op.weighted else []
        return SQL("SELECT {} FROM {} AS n LEFT JOIN ({}) AS f ON f.__i = n.__i").format(
            commas([*shown, *counts, *weight]), numbered, found
        )

    def _derived(self, op: Operator) -> Composable:
        return self._shared(op) if self._is_shared(op) else SQL("({})").format(self._print(op))

    def _print_restrict(self, op: ir.Restrict) -> Composable:
        """Keys without NULL are joined by ``=`` (indexes work); those with a NULL in a second arm, by hash."""
        keys = [column for name in op.key for column in op.keys.columns if column.name == name]
        mine = {column.name: column for column in op.columns}
        shown = [mine[name] for name in op.key]
        arms = [self._restrict_arm(op, shown, keys, nulls=False)]
        if any(column.nullable for column in keys):
            arms.append(self._restrict_arm(op, shown, keys, nulls=True))
        return SQL("\nUNION ALL\n").join(arms)

    def _restrict_arm(self, op: ir.Restrict, shown: list[Column], keys: list[Column], *, nulls: bool) -> Composable:
        child, left = self.source(op.child)
        wanted, right = self.source(op.keys)
        pairs = [
            same(column, Name(left, column.name), Name(right, key.name), nullable=nulls)
            for column, key in zip(shown, keys, strict=True)
        ]
        if nulls:
            any_null = SQL(" OR ").join(is_null(Name(right, key.name)) for key in keys)
            pairs = [SQL("{} = {}").format(hashed(shown, left), hashed(keys, right)), *pairs, any_null]
            again, alias = self.source(op.keys)
            gate = SQL(" OR ").join(is_null(Name(alias, key.name)) for key in keys)
            pairs.append(SQL("EXISTS (SELECT 1 FROM {} WHERE {})").format(again, gate))
        columns = names(op.columns, left)
        return SQL("SELECT {} FROM {} CROSS JOIN {} WHERE {}").format(columns, child, wanted, conjunction(pairs))

    def _print_named(self, op: ir.Named) -> Composable:
        return SQL("SELECT {} FROM {}").format(self._columns(op), Name(op.name))

    def _print_recursion(self, op: ir.Recursion) -> Composable:
        name = Name(op.name)
        shown = commas(Name(f"c{i + 1}") for i in range(len(op.columns)))
        renamed = commas(
            SQL("{} AS {}").format(Name(f"c{i + 1}"), Name(column.name)) for i, column in enumerate(op.columns)
        )
        self._recursions.add(op.name)
        query = SQL(
            "WITH RECURSIVE {} ({}) AS (\nSELECT {} FROM ({}) AS base\n{}\nSELECT {} FROM ({}) AS step\n)\n"
            "SELECT {} FROM {}"
        ).format(
            name,
            shown,
            names(op.base.columns),
            self._print(op.base),
            SQL("UNION") if op.distinct else SQL("UNION ALL"),
            names(op.step.columns),
            self._print(op.step),
            renamed,
            name,
        )
        self._recursions.discard(op.name)
        return query

    def _print_selfreference(self, op: ir.SelfReference) -> Composable:
        """Outside its recursion only the types of its columns are of interest."""
        if op.name not in self._recursions:
            nulls = commas(SQL("NULL::{} AS {}").format(verbatim(c.type.name), Name(c.name)) for c in op.columns)
            return SQL("SELECT {} WHERE FALSE").format(nulls)
        columns = [SQL("r.{} AS {}").format(Name(f"c{i + 1}"), Name(c.name)) for i, c in enumerate(op.columns)]
        return SQL("SELECT {} FROM {} AS r").format(commas(columns), Name(op.name))

    def _print_opaque(self, op: ir.Opaque) -> Composable:
        return SQL("SELECT * FROM ({}) AS q ({})").format(verbatim(op.query), names(op.columns))

    def _columns(self, op: Operator) -> Composable:
        parts: list[Composable] = [Name(column.name) for column in op.columns]
        return commas([*parts, WEIGHT] if op.weighted else parts)
