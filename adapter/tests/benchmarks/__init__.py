"""The benchmark suite: what a refresh costs next to REFRESH MATERIALIZED VIEW and to delta SQL written by hand.

Run it by ``make bench`` or ``python -m tests.benchmarks --help``. The parts: ``model`` (values), ``cases`` (scenarios
as data), ``changes`` (what happens to the tables), ``server`` and ``databases`` (where), ``methods`` and ``harness``
(measuring side by side), one module per goal that is no comparison of refreshes, ``goals`` (targets), ``report``,
``pictures`` and ``compare``.
"""
