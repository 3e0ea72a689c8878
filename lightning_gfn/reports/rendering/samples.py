"""The samples that the page's browser shows: distinct right ones, and wrong ones, of each run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_gfn.reports.comparison import Comparison
from lightning_gfn.reports.runs import EvaluatedRun
from lightning_gfn.reports.statistics.cube import DISTINCT
from lightning_gfn.similarity.counting import leaders, similarities
from lightning_gfn.similarity.rouge import Tokenizer

MAX_BYTES = 6_000_000
THRESHOLD = 0.7


def kept_in_order(texts: Sequence[str], threshold: float, tokenizer: Tokenizer = "rouge") -> list[list[Any]]:
    """Each text that is similar to no kept one before it, with the number of texts that it stands for.

    The same greedy rule as the metric: a text joins the first kept one whose ROUGE-L F1 with it reaches the threshold.
    """
    counts = Counter(leaders(similarities(texts, tokenizer) >= threshold))
    return [[texts[leader], count] for leader, count in counts.items()]


def classed(row: Mapping[str, Any], names: Sequence[str]) -> list[list[Any]]:
    """Each different right text in generation order: its samples' number, and its class by each map.

    Equal texts that a map of several calls labels differently stand apart.
    """
    texts = row.get("marked", row["completions"])
    labels = zip(*(row["classes"][name] for name in names), strict=True)
    right = [(text, found) for text, correct, found in zip(texts, row["correct"], labels, strict=True) if correct]
    return [[text, count, list(found)] for (text, found), count in Counter(right).items()]


def cell(
    row: Mapping[str, Any], threshold: float, tokenizer: Tokenizer = "rouge", names: Sequence[str] = ()
) -> dict[str, Any]:
    """The samples of one run on one problem, what tools wrote in them marked; their classes by the maps named."""
    judged, texts = row.get("is_judged", True), row.get("marked", row["completions"])
    pairs = [(text, correct or not judged) for text, correct in zip(texts, row["correct"], strict=True)]
    right = [text for text, correct in pairs if correct]
    wrong = Counter(text for text, correct in pairs if not correct)
    return {
        **({} if judged else {"unjudged": True}),
        "n": len(pairs),
        "right": len(right),
        "distinct": kept_in_order(right, threshold, tokenizer),
        "wrong": [[text, count] for text, count in wrong.most_common()],
        **({"classed": classed(row, names)} if names else {}),
    }


def sample_data(c: Comparison, *, max_bytes: int = MAX_BYTES) -> dict[str, Any] | None:
    """What the browser shows; None if the runs kept no completions.

    Args:
        c: the comparison.
        max_bytes: problems are added, in order, until they take so much room; at least one is shown.
    """
    runs = [run for group in c.cube.groups.values() for run in group]
    if not all("completions" in row and "correct" in row for run in runs for row in run.samples.values()):
        return None
    match = DISTINCT.fullmatch(c.diversity) if c.diversity is not None else None
    threshold = float(match[1]) if match else THRESHOLD
    tokenizer: Tokenizer = c.first_run.identity["metric_settings"].get("tokenizer", "rouge")
    names = class_maps(runs)
    shown: list[dict[str, Any]] = []
    room = max_bytes
    for problem in c.cube.problems:
        first = runs[0].samples[problem]
        entry = {
            "id": problem,
            "prompt": first.get("prompt", ""),
            "answer": first.get("answer", ""),
            "metadata": {name: first.get("metadata", {}).get(name) for name in c.strata.fields},
            "runs": {
                name: {str(run.seed): cell(run.samples[problem], threshold, tokenizer, names) for run in group}
                for name, group in c.cube.groups.items()
            },
        }
        room -= len(json.dumps(entry))
        if room < 0 and shown:
            break
        shown.append(entry)
    return {
        "methods": c.methods,
        "threshold": threshold,
        "total": len(c.cube.problems),
        "classes": names,
        "problems": shown,
    }


def class_maps(runs: Sequence[EvaluatedRun]) -> list[str]:
    """The class maps by which every run has labelled its samples of every problem."""
    rows = [row.get("classes", {}) for run in runs for row in run.samples.values()]
    return [name for name in rows[0] if all(name in row for row in rows)]
