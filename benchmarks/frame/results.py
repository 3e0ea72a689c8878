"""The table, and the file of one run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.frame.measure import Outcome
from benchmarks.frame.row import Measured, MeterName

HEADINGS = ("row", "what", "ours", "peer", "ratio", "spread", "floor", "share", "target", "met")


def figure(value: float) -> str:
    """A number with three digits, more only before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cost(measured: Measured | None, outcome: Outcome) -> str:
    """What a side cost, as a rate where the row counts work."""
    return short_cost(measured.values if measured is not None else None, record(outcome))


def cells(outcome: Outcome) -> list[str]:
    """One line of the table."""
    row, target = outcome.row, outcome.row.target.text()
    if outcome.reason is not None:
        word = "failed" if outcome.failed else "not run"
        return [row.name, row.what, f"{word}: {outcome.reason}", "", "", "", "", "", target, "–"]
    peer = cost(outcome.peer, outcome) + (f" ({outcome.peer.name})" if outcome.peer is not None else "")
    found = outcome.ratio
    met = {True: "yes", False: "**no**", None: "–"}[outcome.is_met]
    return [
        row.name,
        row.what,
        cost(outcome.ours, outcome),
        peer,
        quotient(found.median) if found is not None else "–",
        f"{quotient(found.low)}–{quotient(found.high)}" if found is not None else "–",
        outcome.floor.name if outcome.floor is not None else "–",
        f"{100 * outcome.share:.0f}%" if outcome.share is not None else "–",
        target,
        met,
    ]


def table(outcomes: Iterable[Outcome]) -> str:
    """All rows of a run as a table in Markdown."""
    lines = [list(HEADINGS), ["---"] * len(HEADINGS), *map(cells, outcomes)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def record(outcome: Outcome) -> dict[str, Any]:
    """A row of the file of results."""
    meter: MeterName = outcome.row.meter
    found: dict[str, Any] = {"name": outcome.row.name, "what": outcome.row.what, "meter": meter}
    found |= {"target": outcome.row.target.text(), "seconds_spent": round(outcome.seconds, 1)}
    found["cpu_seconds_spent"] = round(outcome.cpu_seconds, 1)
    if outcome.reason is not None:
        return found | {"status": "failed" if outcome.failed else "not run", "reason": outcome.reason}
    assert outcome.ours is not None
    found |= {"status": "measured", "run": outcome.ours.run, "ours": list(outcome.ours.values)}
    if outcome.peer is not None and outcome.ratio is not None:
        found |= {"peer": list(outcome.peer.values), "peer_setting": outcome.peer.name}
        found |= {"ratio": outcome.ratio.median, "ratio_range": [outcome.ratio.low, outcome.ratio.high]}
    if outcome.tried:
        found["peer_settings_tried"] = dict(outcome.tried)
    if outcome.amount is not None:
        found |= {"amount": outcome.amount, "unit": outcome.unit}
    if outcome.floor is not None:
        found |= {"floor": outcome.floor.name, "floor_value": outcome.floor.value, "share": outcome.share}
    return found | {"met": outcome.is_met}


def write(path: Path, run: str, head: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Write the file of a run.

    Args:
        path: of the file.
        run: names the run.
        head: date, command, machine and its speed.
        outcomes: all rows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"run": run, **head, "rows": [record(outcome) for outcome in outcomes]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def quotient(value: float) -> str:
    """A ratio with two digits after the point, large ones with none."""
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def short_cost(values: Sequence[float] | None, row: dict[str, Any]) -> str:
    """What a side of a row of the file cost."""
    if not values:
        return "–"
    median = statistics.median(values)
    if row["meter"] in ("added_bytes", "device_bytes"):
        return f"{figure(median / 2**20)} MiB"
    if "amount" in row:
        return f"{figure(row['amount'] / median)} {row['unit']}/s"
    return f"{median:.1f} s" if median >= 10 else f"{figure(1e3 * median)} ms"


def short_table(content: dict[str, Any]) -> str:
    """The file of a run as a table whose lines fit a page; the names say what is compared."""
    lines = [["row", "ours", "peer", "ratio (range)", "of floor", "target", "met"], ["---"] * 7]
    for row in content["rows"]:
        if row["status"] != "measured":
            lines.append([row["name"], row["status"], row["reason"], "", "", row["target"], "–"])
            continue
        spread = "–"
        if "ratio" in row:
            low, high = row["ratio_range"]
            spread = f"{quotient(row['ratio'])} ({quotient(low)}–{quotient(high)})"
        share = f"{100 * row['share']:.0f}%" if row.get("share") is not None else "–"
        met = {True: "yes", False: "**no**", None: "–"}[row["met"]]
        peer, target = short_cost(row.get("peer"), row), row["target"].replace(" of the floor", "")
        lines.append([row["name"], short_cost(row["ours"], row), peer, spread, share, target, met])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


class ResultsError(ValueError):
    """A file of results that cannot be used; the message says why and what to do."""


def read(path: Path) -> dict[str, Any]:
    """Read the file of a run.

    Raises:
        ResultsError: it cannot be read, or holds rows of several runs.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        run, kind, rows = content["run"], content["machine"]["kind"], content["rows"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{path} is no file of results ({type(error).__name__}: {error}): make bench writes one"
        ) from None
    assert isinstance(kind, str)
    for row in rows:
        if row.get("status") == "measured" and row.get("run") != run:
            raise ResultsError(
                f"{path}: row {row.get('name')} is of run {row.get('run')}, the file of run {run}: figures of "
                "different runs are not comparable; measure all rows in one run"
            )
    return content
