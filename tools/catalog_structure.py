"""Write down what the catalog's tables look like, for the doctor: columns, constraints, indexes.

    PYTHONPATH=adapter python tools/catalog_structure.py DSN

where DSN is of a database in which ``pgtrickle init`` has just made the catalog.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pgtrickle import db
from pgtrickle.catalog.structure import present_tables

TARGET = Path(__file__).parents[1] / "adapter/pgtrickle/catalog/structure.json"


def main() -> None:
    """Read and write."""
    with db.connect(sys.argv[1]) as conn:
        TARGET.write_text(json.dumps(present_tables(conn), indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
