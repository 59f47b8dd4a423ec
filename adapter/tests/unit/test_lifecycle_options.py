"""Every option of pg_trickle is implemented or refused with its replacement named."""

from __future__ import annotations

import pytest

from pgtrickle.errors import InvalidOption, NotYetSupported
from pgtrickle.lifecycle.options import check_mode, check_options, check_status, configure

REFUSED = {
    "cdc_mode": "wal",
    "append_only": True,
    "partition_by": "day",
    "fuse": "on",
    "fuse_ceiling": 10,
    "fuse_sensitivity": 3,
    "diamond_consistency": "STRICT",
    "diamond_schedule_policy": "slowest",
    "max_differential_joins": 4,
    "output_distribution_column": "id",
    "temporal": True,
    "storage_backend": "citus",
    "sink": "kafka",
    "tier": "cold",
    "post_refresh_action": "analyze",
    "reindex_drift_threshold": 5,
}


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_what_does_not_exist_yet_is_refused_with_a_replacement(key):
    with pytest.raises(NotYetSupported) as caught:
        check_options({key: REFUSED[key]})
    assert caught.value.object_name == key
    assert caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cdc_mode", "auto"),
        ("cdc_mode", "TRIGGER"),
        ("append_only", False),
        ("pooler_compatibility_mode", True),
        ("fuse", "off"),
        ("diamond_consistency", "atomic"),
        ("diamond_schedule_policy", "fastest"),
        ("storage_backend", "heap"),
        ("partition_by", None),
    ],
)
def test_what_this_engine_does_anyway_is_accepted(key, value):
    assert check_options({key: value}) == {}


def test_an_option_that_is_not_given_is_not_stored():
    assert check_options({"indexes": None, "max_delta_fraction": None}) == {}


def test_an_unknown_option_names_those_that_exist():
    with pytest.raises(InvalidOption) as caught:
        check_options({"shedule": "1m"})
    assert "cdc_mode" in (caught.value.hint or "")


@pytest.mark.parametrize("key", ["stream_table_name", "stream_table_schema"])
def test_names_are_given_by_dbt_not_by_options(key):
    with pytest.raises(InvalidOption, match=key):
        check_options({key: "x"})


def test_indexes_are_normalised():
    assert check_options({"indexes": [{"columns": "a"}]}) == {
        "indexes": [{"columns": ["a"], "unique": False, "type": "btree"}]
    }
    for wrong in ("a", {"columns": []}, {"columns": ["a"], "where": "x"}):
        with pytest.raises(InvalidOption):
            check_options({"indexes": [wrong]})


@pytest.mark.parametrize("fraction", [0, -1, 1.5, "much"])
def test_a_fraction_is_a_fraction(fraction):
    with pytest.raises(InvalidOption):
        check_options({"max_delta_fraction": fraction})


def test_modes_and_statuses_are_checked():
    assert check_mode("differential") == "DIFFERENTIAL"
    with pytest.raises(NotYetSupported, match="IMMEDIATE"):
        check_mode("immediate")
    with pytest.raises(InvalidOption):
        check_mode("fast")
    assert check_status("paused") == "SUSPENDED"
    with pytest.raises(InvalidOption):
        check_status("ERROR")


def test_the_pid_of_a_waiting_session_reaches_the_lock_policy():
    found = configure(schedule=None, mode=None, initialize=True, options={"backend_pid": 42, "install_timeout": 3})
    assert (found.policy.never_wait_for, found.policy.give_up_after_s) == (42, 3.0)
    assert found.kept == {}
