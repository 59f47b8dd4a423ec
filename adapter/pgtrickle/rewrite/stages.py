"""Cut an operator tree into stages: linear and bilinear operators, with at most one grouping on top of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pgtrickle.delta.aggregates import rule_for
from pgtrickle.errors import InternalError
from pgtrickle.ir.expr import Expr, col
from pgtrickle.ir.keys import derive_key
from pgtrickle.ir.operators import (
    Aggregate,
    Apply,
    Expand,
    Filter,
    InputKey,
    Join,
    Keep,
    Operator,
    Pick,
    Project,
    Recursion,
    Scan,
    Values,
    Window,
    children_of,
    rebuild,
)
from pgtrickle.ir.recursion import reads_itself
from pgtrickle.ir.schema import Column, Equality
from pgtrickle.plan import Stage, Strategy
from pgtrickle.rewrite.attach import attach
from pgtrickle.rewrite.distinct_aggregates import distinct_aggregates
from pgtrickle.rewrite.equality import null_safe
from pgtrickle.rewrite.grouping_sets import grouping_sets
from pgtrickle.rewrite.images import refuse_without_equality, with_images
from pgtrickle.rewrite.prune import prune
from pgtrickle.rewrite.push import push
from pgtrickle.rewrite.recursion import obstacle, refuse_loose_texts, without_distinct
from pgtrickle.rewrite.uses import uses_of


@dataclass(frozen=True, slots=True)
class _Cut:
    """A stage before its unused columns are dropped."""

    operator: Operator
    strategy: Strategy
    reason: str


def cut_stages(root: Operator, names: tuple[str, ...]) -> tuple[Stage, ...]:
    """The stages of a typed tree, in topological order.

    Args:
        root: the tree of the whole query, its `unions` flattened.
        names: the column names of the stream table.
    """
    root = distinct_aggregates(attach(grouping_sets(root)))
    cutter = _Cutter(uses_of(root))
    columns = tuple(replace(column, name=name) for column, name in zip(root.columns, names, strict=True))
    cutter.cut(Project(root, root.columns, tuple(col(c.name) for c in root.columns)) if _is_bare(root) else root)
    return _finish(cutter.cuts, columns)


def _is_bare(root: Operator) -> bool:
    return not isinstance(root, Project | Aggregate)


@dataclass(slots=True)
class _Cutter:
    uses: Counter[int]
    cuts: list[_Cut] = field(default_factory=list)
    _lowered: dict[int, tuple[Operator, Operator]] = field(default_factory=dict)

    def cut(self, op: Operator) -> int:
        """Make a stage of this operator and of those below it; its number."""
        chain, grouping = self._chain(op)
        if grouping is None:
            return self._add(self._lower(op), Strategy.ROWS, "linear and bilinear operators only")
        below = self._lower(grouping.child)
        grouping = replace(grouping, child=below)
        if isinstance(grouping, Pick):
            return self._cut_pick(chain, grouping)
        strategy, reason = _strategy(grouping)
        top = _rebuild(chain, grouping)
        if strategy is not Strategy.KEYS or shown_keys(top, grouping.keys) is not None:
            return self._add(top, strategy, reason)
        wider = _with_keys(chain, grouping)
        scan = self._scan(self._add(wider, strategy, reason), wider.columns)
        shown = Project(scan, top.columns, tuple(col(column.name) for column in top.columns))
        return self._add(shown, Strategy.ROWS, "reads the groups that the stage before keeps")

    def _cut_pick(self, chain: tuple[Operator, ...], pick: Pick) -> int:
        """The rows that are kept show all that decides their order; what is above reads them."""
        merged = _pick_of_output(chain, pick)
        number = self._add(merged or pick, Strategy.PICK, "the first rows in an order are kept")
        if merged or not chain:
            return number
        scan = self._scan(number, pick.columns)
        return self._add(_rebuild(chain, scan), Strategy.ROWS, "reads the rows that the stage before keeps")

    def _chain(self, op: Operator) -> tuple[tuple[Operator, ...], Aggregate | Window | Pick | None]:
        """The projections and filters above a grouping, outermost first."""
        chain: list[Operator] = []
        node = op
        while isinstance(node, Project | Filter) and (node is op or self.uses[id(node)] <= 1):
            chain.append(node)
            node = node.child
        if isinstance(node, Aggregate | Window | Pick) and (node is op or self.uses[id(node)] <= 1):
            return tuple(chain), node
        return (), None

    def _lower(self, op: Operator) -> Operator:
        """The operator with every grouping below replaced by a scan of its stage."""
        if id(op) not in self._lowered:
            self._lowered[id(op)] = (op, self._lower_new(op))
        return self._lowered[id(op)][1]

    def _lower_new(self, op: Operator) -> Operator:
        if op.columns and self._chain(op)[1] is not None:  # a projection to nothing is no table: cut below it
            return self._scan(self.cut(op), op.columns)
        if isinstance(op, Keep):
            return self._scan(self.cut(op.child), op.columns)
        if isinstance(op, Apply) and any(call.inputs for call in op.calls):
            return self._lower_apply(op, self._lower(op.child))
        if isinstance(op, Recursion):
            return self._lower_recursion(op)
        if isinstance(op, Expand) and op.inputs:
            return self._lower_expand(op, self._lower(op.child))
        return rebuild(op, self._lower)

    def _lower_recursion(self, op: Recursion) -> Operator:
        """A recursion is a stage of its own, which keeps its rows."""
        refuse_loose_texts(op)
        op = without_distinct(op)
        lowered = replace(op, base=self._lower(op.base), step=self._lower_step(op.step, op.name))
        why = obstacle(lowered)
        if why is None:
            reason = "what the changes lead to is followed round by round"
            return self._scan(self._add(lowered, Strategy.RECURSION, reason), op.columns)
        return self._scan(self._add(lowered, Strategy.ALL, f"computed as a whole: {why}"), op.columns)

    def _lower_step(self, op: Operator, name: str) -> Operator:
        """What a step reads beside the recursion becomes stages as anywhere; what reads the recursion stays."""
        if not reads_itself(op, name):
            return self._lower(op)
        if isinstance(op, Apply) and not op.keys and any(call.inputs for call in op.calls):
            return self._lower_apply(op, self._lower_step(op.child, name))
        if isinstance(op, Expand) and op.inputs and not op.keys:
            return self._lower_expand(op, self._lower_step(op.child, name))
        return rebuild(op, lambda child: self._lower_step(child, name))

    def _lower_apply(self, op: Apply, child: Operator) -> Operator:
        """Values per combination of outer columns in a stage of their own, joined back to the rows."""
        refuse_without_equality(child, frozenset[str]().union(*(call.expr.refs for call in op.calls)))
        child, images = with_images(child, frozenset[str]().union(*(c.expr.refs - c.compared for c in op.calls)))
        number, keys = self._domain(op, child, images)
        stored = (*keys, *(call.column for call in op.calls))
        columns = (*(replace(key, name=f"{key.name}_of{number}") for key in keys), *stored[len(keys) :])
        values = Project(self._scan(number, stored), columns, tuple(col(column.name) for column in stored))
        conditions = null_safe(tuple((key, values.columns[i].name) for i, key in enumerate(keys)))
        return Join((child, values), conditions)

    def _lower_expand(self, op: Expand, child: Operator) -> Operator:
        """The rows of a lateral query per combination of the columns it reads, joined back to the rows.

        LEFT JOIN LATERAL is left in the stage: it has a row for every combination then, and an inner join loses none.
        """
        refuse_without_equality(child, op.query.refs)
        child, images = with_images(child, op.query.refs)
        number, keys = self._domain(op, child, images)
        stored = (*keys, *op.added)
        columns = (*(replace(key, name=f"{key.name}_of{number}") for key in keys), *op.added)
        rows = Project(self._scan(number, stored), columns, tuple(col(column.name) for column in stored))
        conditions = null_safe(tuple((key, rows.columns[i].name) for i, key in enumerate(keys)))
        return Join((child, rows), conditions)

    def _domain(self, op: Apply | Expand, child: Operator, images: tuple[str, ...]) -> tuple[int, tuple[Column, ...]]:
        by_name = {column.name: column for column in child.columns}
        keys = tuple(by_name[name] for name in (*op.keys, *images))
        if not keys:
            alone = _over(op, Values(((),), ()))
            return self._add(alone, Strategy.ALL, "a query that reads no outer column is computed as a whole"), ()
        project = Project(child, keys, tuple(col(key.name) for key in keys))
        domain = self.cut(Aggregate(project, (*op.keys, *images), ()))
        reason = "subqueries are evaluated again for affected outer values; for all, if a table inside changes"
        return self._add(_over(op, self._scan(domain, keys)), Strategy.KEYS, reason), keys

    def _scan(self, number: int, columns: tuple[Column, ...]) -> Scan:
        attributes = tuple((i + 1, f"c{i + 1}") for i in range(len(columns)))
        key = derive_key(self.cuts[number].operator)
        return Scan(
            InputKey("stage", number), attributes, columns, (key,) if key is not None else (), f"stage {number}"
        )

    def _add(self, op: Operator, strategy: Strategy, reason: str) -> int:
        self.cuts.append(_Cut(op, strategy, reason))
        return len(self.cuts) - 1


def _pick_of_output(chain: tuple[Operator, ...], pick: Pick) -> Pick | None:
    """The pick after the projection above it, if that shows all columns by which the rows are ordered."""
    above = chain[0] if len(chain) == 1 else None
    if not isinstance(above, Project) or not isinstance(pick.child, Project):
        return None
    below = dict(zip((column.name for column in pick.columns), pick.child.exprs, strict=True))
    shown = {below[e.column]: c.name for e, c in zip(above.exprs, above.columns, strict=True) if e.column is not None}
    names = frozenset[str]().union(*(item.refs for item in pick.items))
    if not all(below[name] in shown for name in names):
        return None
    replaced = {name: col(shown[below[name]]) for name in names}
    items = tuple(item.substitute(replaced) for item in pick.items)
    return Pick(Project(pick.child, above.columns, above.exprs), items, pick.limit)


def _rebuild(chain: tuple[Operator, ...], bottom: Operator) -> Operator:
    for node in reversed(chain):
        if not isinstance(node, Project | Filter):
            raise InternalError("only projections and filters stand above a grouping of the same stage")
        bottom = replace(node, child=bottom)
    return bottom


def _strategy(grouping: Aggregate | Window) -> tuple[Strategy, str]:
    """How the groups are kept, and why."""
    if isinstance(grouping, Window):
        return Strategy.KEYS, "window functions are computed again for " + (
            "each affected partition" if grouping.keys else "all rows: without PARTITION BY they are one partition"
        )
    by_name = {column.name: column for column in grouping.child.columns}
    coarse = [key for key in grouping.keys if by_name[key].type.equality is not Equality.EXACT]
    recomputed = [_label(call.expr) for call in grouping.calls if rule_for(call, grouping.child.columns) is None]
    if not coarse and not recomputed:
        return Strategy.AGGREGATE, "all aggregates are kept in a state table"
    reason = (
        "computed again per group: " + ", ".join(recomputed)
        if recomputed
        else "equal grouping keys may look different: " + ", ".join(by_name[key].type.name for key in coarse)
    )
    if grouping.scalar:
        reason = f"one group over everything; {reason}"
    return Strategy.KEYS, reason


def _label(expr: Expr) -> str:
    text = expr.parts[0] if expr.parts and isinstance(expr.parts[0], str) else "aggregate"
    return text.split("(")[0].strip() or "aggregate"


def _with_keys(chain: tuple[Operator, ...], grouping: Aggregate | Window) -> Operator:
    """What stands above a grouping, with those of its keys that the projections do not show."""
    top: Operator = grouping
    keys = grouping.keys
    for node in reversed(chain):
        if isinstance(node, Project):
            shown = {expr.column: column.name for expr, column in zip(node.exprs, node.columns, strict=True)}
            lost = tuple(column for column in top.columns if column.name in keys and column.name not in shown)
            # A column with a key's name that is computed may be there: the key in another type.
            shown |= {column.name: f"{column.name}_key" for column in lost}
            columns = (*node.columns, *(replace(column, name=shown[column.name]) for column in lost))
            top = Project(top, columns, (*node.exprs, *(col(column.name) for column in lost)))
            keys = tuple(shown[key] for key in keys)
        else:
            top = _rebuild((node,), top)
    return top


def shown_keys(top: Operator, keys: tuple[str, ...]) -> tuple[str, ...] | None:
    """The columns under which the keys of a stage's grouping come out of the projections above; None if one is lost."""
    if not isinstance(top, Project | Filter):
        return keys
    inner = shown_keys(top.child, keys)
    if inner is None or isinstance(top, Filter):
        return inner
    renames = {e.column: c.name for e, c in zip(top.exprs, top.columns, strict=True) if e.column}
    return tuple(renames[key] for key in inner) if all(key in renames for key in inner) else None


def _finish(cuts: list[_Cut], root_columns: tuple[Column, ...]) -> tuple[Stage, ...]:
    """Drop unused columns, the last stage first: what a stage needs is known when all its readers are done."""
    needed: dict[int, set[str]] = {len(cuts) - 1: {column.name for column in cuts[-1].operator.columns}}
    pruned: dict[int, Operator] = {}
    for number in range(len(cuts) - 1, -1, -1):
        wanted = frozenset(needed.get(number, set())) | _kept(cuts[number])
        # A table without columns could not be compared; one column always stays.
        wanted = wanted or frozenset({cuts[number].operator.columns[0].name})
        op = prune(push(cuts[number].operator), wanted)
        pruned[number] = op
        for scan in scans_of(op):
            if scan.input.kind == "stage":
                needed.setdefault(scan.input.ident, set()).update(column.name for column in scan.columns)
    positions = {number: {c.name: i + 1 for i, c in enumerate(op.columns)} for number, op in pruned.items()}
    stages = []
    for number, cut in enumerate(cuts):
        op = _renumbered(pruned[number], positions)
        key = derive_key(op)
        columns = root_columns if number == len(cuts) - 1 else op.columns
        shown = {mine.name: other.name for mine, other in zip(op.columns, columns, strict=True)}
        ordered = None if key is None else tuple(shown[c.name] for c in op.columns if c.name in key)
        columns = tuple(replace(c, name=o.name) for c, o in zip(op.columns, columns, strict=True))
        inputs = frozenset(scan.input for scan in scans_of(op)) | subquery_inputs(op)
        group = group_of(op) if cut.strategy is Strategy.KEYS else None
        found = None if group is None else tuple(shown[name] for name in group)
        stages.append(Stage(number, cut.strategy, cut.reason, columns, ordered, inputs, op, found))
    return tuple(stages)


def _kept(cut: _Cut) -> frozenset[str]:
    """Columns that a stage keeps though nobody reads them: the keys by which its stored rows are found."""
    key = derive_key(cut.operator) or frozenset()
    if isinstance(cut.operator, Pick):
        return key.union(*(item.refs for item in cut.operator.items))
    if isinstance(cut.operator, Apply | Expand):
        return frozenset(column.name for column in cut.operator.columns)
    return key | frozenset(group_of(cut.operator) or ()) if cut.strategy is Strategy.KEYS else frozenset()


def group_of(op: Operator) -> tuple[str, ...] | None:
    """The output columns that show the keys of the grouping or the partition on top of a stage."""
    node = op
    while isinstance(node, Project | Filter):
        node = node.child
    return shown_keys(op, node.keys) if isinstance(node, Aggregate | Window | Apply | Expand) else None


def scans_of(op: Operator) -> tuple[Scan, ...]:
    """All scans of a tree, each once, in order."""
    found: dict[int, Scan] = {}
    stack: list[Operator] = [op]
    while stack:
        node = stack.pop()
        if isinstance(node, Scan):
            found.setdefault(id(node), node)
        stack.extend(reversed(children_of(node)))
    return tuple(found.values())


def subquery_inputs(op: Operator) -> frozenset[InputKey]:
    """The tables that the subqueries of a tree read."""
    own = frozenset[InputKey]()
    if isinstance(op, Apply):
        own = own.union(*(call.inputs for call in op.calls))
    if isinstance(op, Expand):
        own = op.inputs
    return own.union(*(subquery_inputs(child) for child in children_of(op)))


def _over(op: Apply | Expand, child: Operator) -> Operator:
    return Apply(child, op.calls) if isinstance(op, Apply) else replace(op, child=child)


def _renumbered(op: Operator, positions: dict[int, dict[str, int]]) -> Operator:
    """Scans of stages read output columns by position; pruning has moved them."""

    def renumber(scan: Operator) -> Operator:
        if not isinstance(scan, Scan) or scan.input.kind != "stage":
            return scan
        places = [positions[scan.input.ident][column.name] for column in scan.columns]
        return replace(scan, attributes=tuple((place, f"c{place}") for place in places))

    return map_leaves(op, renumber, {})


def map_leaves(op: Operator, change: Callable[[Operator], Operator], done: dict[int, Operator]) -> Operator:
    """Rebuild a tree with its scans changed; nodes that were shared stay shared."""
    if id(op) in done:
        return done[id(op)]
    result = rebuild(op, lambda child: map_leaves(child, change, done)) if children_of(op) else change(op)
    done[id(op)] = result
    return result
