"""What the files of an evaluated run must hold before anything is computed from them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

MOST_COUNT = 10**9
MOST_NATS = 700.0
"""exp of more is no number."""


def is_number(value: Any) -> bool:
    """A finite number that is no truth value."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max


def is_count(value: Any) -> bool:
    """A whole number from 0 to a thousand millions."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_COUNT


def is_text(value: Any) -> bool:
    """A text with something in it that a file can hold."""
    return isinstance(value, str) and bool(value.strip()) and not any("\ud800" <= c <= "\udfff" for c in value)


def is_temperatures(value: Any) -> bool:
    """One temperature or more, all different."""
    return isinstance(value, list) and bool(value) and all(map(is_number, value)) and len(set(value)) == len(value)


def is_target(value: Any) -> bool:
    """Two numbers by completion, a weight and a probability in nats, which are no large positive numbers."""
    return isinstance(value, dict) and all(
        isinstance(pair, list) and len(pair) == 2 and all(is_number(x) and x < MOST_NATS for x in pair)
        for pair in value.values()
    )


def is_scored(value: Any) -> bool:
    """A path, or nothing, and a log-probability in nats, nothing for -inf, by reference solution."""
    return isinstance(value, dict) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and (pair[0] is None or isinstance(pair[0], str))
        and (pair[1] is None or (is_number(pair[1]) and pair[1] < MOST_NATS))
        for pair in value.values()
    )


def is_labelled(value: Any, count: int) -> bool:
    """A list of so many labels, texts or nothing, by name."""
    return isinstance(value, dict) and all(
        isinstance(labels, list)
        and len(labels) == count
        and all(label is None or isinstance(label, str) for label in labels)
        for labels in value.values()
    )


Check = tuple[Callable[[Any], bool], str]
TEXT: Check = (is_text, "a text")
POSITIVE: Check = (lambda value: is_count(value) and value > 0, "a whole number of at least 1")
OBJECT: Check = (lambda value: isinstance(value, dict), "an object")
NAME: Check = (lambda value: is_text(value) and value.isprintable() and any(map(str.isalnum, value)),
               "a name of one line with a letter or digit")  # fmt: skip
IDENTITY: Mapping[str, Check] = {
    "method": NAME,
    "problems": OBJECT,
    "problems.count": POSITIVE,
    "decoding": OBJECT,
    "decoding.temperatures": (is_temperatures, "a list of different numbers"),
    "decoding.num_samples": POSITIVE,
    "metric_settings": OBJECT,
}
COUNT_OR_NONE: Check = (lambda value: value is None or is_count(value), "a whole number of at least 0 or null")
OPTIONAL: Mapping[str, Check] = {"seed": COUNT_OR_NONE, "parameters": COUNT_OR_NONE}


def fault_of_identity(content: Mapping[str, Any]) -> str | None:
    """What is wrong with ``<stage>_metrics.json``, as a clause; None if nothing is."""
    for path, (holds, what) in {**IDENTITY, **OPTIONAL}.items():
        value: Any = content
        for name in path.split("."):
            if path in OPTIONAL and name not in value:
                value = None
                break
            if name not in value:
                return f"field {path!r} is missing"
            value = value[name]
        if not holds(value):
            return f"field {path!r} is {shown(value)}, expected {what}"
    return None


def fault_of_row(row: Mapping[str, Any], temperatures: list[float]) -> str | None:
    """What is wrong with a row of ``<stage>_problems.jsonl``, as a clause; None if nothing is."""
    for name, (holds, what) in {
        "problem_id": TEXT,
        "temperature": (lambda value: value in temperatures, f"one of {temperatures}"),
        "metrics": OBJECT,
    }.items():
        if name not in row:
            return f"field {name!r} is missing"
        if not holds(row[name]):
            return f"field {name!r} is {shown(row[name])}, expected {what}"
    for name, value in row["metrics"].items():
        if value is not None and not is_number(value):
            return f"metric {name!r} is {shown(value)}, expected a number or null"
    if not is_target(row.get("target", {})):
        return f"field 'target' is {shown(row['target'])}, expected two numbers for each completion"
    if not is_scored(row.get("references", {})):
        return f"field 'references' is {shown(row['references'])}, expected a path and a number, or nulls, by solution"
    weights = row.get("log_rewards", [])
    if not (isinstance(weights, list) and all(map(is_number, weights))):
        return f"field 'log_rewards' is {shown(weights)}, expected a list of numbers"
    if weights and len(weights) != len(row.get("log_probs", ())):
        return f"field 'log_rewards' has {len(weights)} entries, 'log_probs' {len(row.get('log_probs', ()))}"
    if "num_samples" not in row:
        return None
    total, correct = row["num_samples"], row.get("num_correct")
    if not is_count(total) or not is_count(correct) or not total or correct > total:
        return f"num_correct is {shown(correct)} and num_samples {shown(total)}, expected 0 ≤ num_correct ≤ num_samples"
    for name, kind in (("correct", bool), ("completions", str)):
        values = row.get(name)
        if values is not None and not (isinstance(values, list) and all(isinstance(value, kind) for value in values)):
            return f"field {name!r} is {shown(values)}, expected a list of {kind.__name__}"
        if values is not None and len(values) != total:
            return f"field {name!r} has {len(values)} entries for num_samples={total}"
    if not is_labelled(row.get("classes", {}), total):
        return f"field 'classes' is {shown(row['classes'])}, expected {total} texts or nulls by class map"
    if row.get("correct") is not None and sum(row["correct"]) != correct:
        return f"num_correct is {correct}, but {sum(row['correct'])} entries of 'correct' are true"
    return None


def shown(value: Any) -> str:
    """A value within a sentence."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
