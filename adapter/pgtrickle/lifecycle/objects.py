"""Types, operators, collations and text search objects that have other names than at the last refresh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgtrickle.parse.rename import Name, Renamed

_REG = {"ts_config": "regconfig", "ts_dict": "regdictionary"}


def renamed_objects(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> Renamed:
    """What of the facts that a refresh has recorded is called otherwise now.

    A name that something else has by now counts as it is written, as with relations.
    """
    text_search: dict[str, dict[Name, Name]] = {}
    for key, old, new in _pairs(recorded, present, "text_search"):
        text_search.setdefault(_REG[key.split()[0]], {})[old] = new
    return Renamed(
        types=_names(recorded, present, "types"),
        operators=_names(recorded, present, "operators"),
        collations=_names(recorded, present, "collations"),
        labels=_labels(recorded, present),
        text_search=text_search,
    )


def renamed_attributes(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> dict[Name, dict[str, str]]:
    """Present name of a composite type -> old name of an attribute -> present one."""
    found: dict[Name, dict[str, str]] = {}
    for key, facts in present["types"].items():
        if facts is None or not facts["attributes"] or not facts["free"] or not _known(recorded, "types", key):
            continue
        now = {attribute[0]: attribute[1] for attribute in facts["attributes"]}
        moved = {
            name: now[number]
            for number, name, *_ in recorded["types"][key]["attributes"] or []
            if number in now and now[number] != name and name not in now.values()
        }
        if moved:
            found[_name(facts)] = moved
    return found


def _names(recorded: Mapping[str, Any], present: Mapping[str, Any], part: str) -> dict[Name, Name]:
    return {old: new for _, old, new in _pairs(recorded, present, part)}


def _pairs(recorded: Mapping[str, Any], present: Mapping[str, Any], part: str) -> list[tuple[str, Name, Name]]:
    """Key, old and new name of what is there and has another name, which nothing else of that kind has taken."""
    found = {key: facts for key, facts in present[part].items() if facts is not None}
    taken = {_name(facts) for facts in found.values()}
    pairs = [
        (key, _name(recorded[part][key]), _name(facts)) for key, facts in found.items() if _known(recorded, part, key)
    ]
    return [(key, old, new) for key, old, new in pairs if old != new and old not in taken]


def _known(recorded: Mapping[str, Any], part: str, key: str) -> bool:
    return recorded.get(part, {}).get(key) is not None


def _name(facts: Mapping[str, Any]) -> Name:
    return facts["name"][0], facts["name"][1]


def _labels(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> dict[Name, dict[str, str]]:
    """By the names that the enums had; a label that the enum has again means what is written."""
    found: dict[Name, dict[str, str]] = {}
    for key, facts in present["types"].items():
        if facts is None or not facts["labels"] or not _known(recorded, "types", key):
            continue
        now = dict(facts["labels"])
        before = recorded["types"][key]
        moved = {
            label: now[oid]
            for oid, label in before["labels"] or []
            if oid in now and now[oid] != label and label not in now.values()
        }
        if moved:
            found[_name(before)] = moved
    return found
