"""Nested values as YAML with remarks."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_gfn.commands.asking.shown import printable

WIDTH = 118
LONGEST_FLOW = 84
"""Characters up to which a mapping stands on one line."""
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


@dataclass(frozen=True)
class Noted:
    """A value with a remark that stands above its key.

    Args:
        value: what the key holds.
        note: the remark; none if empty.
    """

    value: Any
    note: str = ""


def remark(text: str, indent: str = "") -> list[str]:
    """A remark in comment lines."""
    head = f"{indent}# "
    return textwrap.wrap(
        printable(text), WIDTH, initial_indent=head, subsequent_indent=head, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def scalar(value: Any) -> str:
    """A value on one line; a float keeps a point, which YAML 1.1 wants in exponents, and a plain word its plainness."""
    if isinstance(value, float):
        text = repr(value)
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {scalar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in RESERVED:
        return value
    return json.dumps(value, ensure_ascii=False)


def fits_a_line(value: Mapping[str, Any], indent: str) -> bool:
    """Whether a mapping has no remarks inside and is short."""
    plain = not any(isinstance(item, (Noted, list)) for item in value.values())
    inner = all(fits_a_line(item, indent) for item in value.values() if isinstance(item, Mapping))
    return plain and inner and len(scalar(value)) + len(indent) <= LONGEST_FLOW


def to_yaml(values: Mapping[str, Any], indent: str = "") -> list[str]:
    """The lines of a mapping.

    Args:
        values: plain values, mappings, lists of mappings, each perhaps with a remark.
        indent: before every line.
    """
    lines: list[str] = []
    for key, value in values.items():
        if isinstance(value, Noted):
            lines += remark(value.note, indent) if value.note else []
            value = value.value
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            lines += [f"{indent}{key}:", *(f"{indent}  - {scalar(item)}" for item in value)]
        elif not isinstance(value, Mapping) or fits_a_line(value, indent):
            lines.append(f"{indent}{key}: {scalar(value)}")
        else:
            lines += [f"{indent}{key}:", *to_yaml(value, indent + "  ")]
    return lines
