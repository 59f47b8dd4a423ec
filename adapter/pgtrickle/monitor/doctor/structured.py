"""What is wrong with the catalog itself."""

from __future__ import annotations

from collections.abc import Iterator

from pgtrickle import db
from pgtrickle.catalog import structure
from pgtrickle.monitor.doctor.checks import FIX, PLAIN, Check, Diagnosis, judge

STRUCTURE_CHECKS: dict[str, Check] = {
    "table": Check(
        "catalog_table",
        "ERROR",
        "{detail}",
        "Restore the catalog from a backup, or begin anew: pgtrickle uninstall, pgtrickle init.",
    ),
    "index": Check("catalog_index", "ERROR", "{detail}", FIX, "catalog"),
    "code": Check("catalog_code", "ERROR", "{detail}", FIX, "catalog"),
    "stray": Check("stray_object", "WARNING", "{detail}, and goes when that is uninstalled", "{target}"),
}


def examine_structure(conn: db.Connection) -> Iterator[Diagnosis]:
    """Tables, indexes, constraints, functions and views of the catalog."""
    with db.transaction(conn):
        db.execute(conn, PLAIN)
        found = list(structure.damages(conn))
    for damage in found:
        yield judge(STRUCTURE_CHECKS[damage.kind], damage.object_name, damage.text, damage.target)
