"""Scalar expressions: PostgreSQL's own text, with holes where columns go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ref:
    """A hole: the unique name of a column of the operator below."""

    name: str


@dataclass(frozen=True, slots=True)
class Expr:
    """A scalar expression as text fragments and column holes.

    The compiler never looks inside the text. It only fills the holes, so PostgreSQL always evaluates what the user
    wrote.
    """

    parts: tuple[str | Ref, ...]
    #: For ``a = b`` with PostgreSQL's own ``=``: both sides, so that joins can be keyed.
    sides: tuple[Expr, Expr] | None = field(default=None, compare=False)
    #: The sides determine each other, but by more than ``=``: NULL meets NULL, or the operator is another.
    null_safe: bool = field(default=False, compare=False)
    #: For ``a AND b OR c AND d``: what each branch demands, so that it can be told what this means for one input.
    branches: tuple[tuple[Expr, ...], ...] = field(default=(), compare=False)

    @property
    def equality(self) -> tuple[Expr, Expr] | None:
        """The sides of a condition that is ``=`` and nothing else."""
        return None if self.null_safe else self.sides

    @property
    def refs(self) -> frozenset[str]:
        """The columns that the expression reads."""
        return frozenset(part.name for part in self.parts if isinstance(part, Ref))

    def implied(self, columns: AbstractSet[str]) -> Expr | None:
        """What is true of these columns alone wherever this is true; None if nothing is known.

        >>> either = Expr(("..",), branches=((text("x"), col("x"), col("y")), (col("x"),)))
        >>> either.implied({"x"}).refs, either.implied({"y"})
        (frozenset({'x'}), None)
        """
        mine = [[part for part in branch if part.refs and part.refs <= columns] for branch in self.branches]
        if not mine or not all(mine):
            return None
        return _connected([_connected(branch, " AND ") for branch in mine], " OR ")

    @property
    def column(self) -> str | None:
        """The column's name if the expression is nothing but a column, else None."""
        match self.parts:
            case (Ref(name),):
                return name
            case _:
                return None

    def substitute(self, replacements: Mapping[str, Expr]) -> Expr:
        """Fill holes with other expressions; those without a replacement stay.

        >>> text("a + ", Ref("x")).substitute({"x": col("y")}).parts
        ('a + ', Ref(name='y'))
        """
        parts: list[str | Ref] = []
        for part in self.parts:
            if isinstance(part, Ref) and part.name in replacements:
                inner = replacements[part.name]
                parts += inner.parts if inner.column is not None else ("(", *inner.parts, ")")
            else:
                parts.append(part)
        sides = self.sides and (self.sides[0].substitute(replacements), self.sides[1].substitute(replacements))
        branches = tuple(tuple(part.substitute(replacements) for part in branch) for branch in self.branches)
        return Expr(tuple(parts), sides, self.null_safe, branches)


def _connected(parts: Sequence[Expr], word: str) -> Expr:
    flat: list[str | Ref | Expr] = []
    for part in parts:
        flat += [word if flat else "", "(", part, ")"]
    return text(*flat)


def col(name: str) -> Expr:
    """The expression that is just this column."""
    return Expr((Ref(name),))


def text(*parts: str | Ref | Expr) -> Expr:
    """Concatenate fragments, holes and expressions into one expression."""
    flat: list[str | Ref] = []
    for part in parts:
        flat += part.parts if isinstance(part, Expr) else (part,)
    return Expr(tuple(flat))


def equals(left: Expr, right: Expr) -> Expr:
    """The condition ``left = right``, which knows its sides."""
    return Expr(text("(", left, ") = (", right, ")").parts, (left, right))
