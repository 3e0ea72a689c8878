"""The sensitivity table shows how the order of methods depends on the ROUGE-L threshold and the temperature."""

from __future__ import annotations

import re

import numpy as np

from lightning_gfn.reports.comparison import Comparison
from lightning_gfn.reports.rendering.tables import TextTable, agreement_text, mean_ranks

THRESHOLD = re.compile(r"distinct_correct_rouge_([\d.]+)")


def sensitivity_table(c: Comparison) -> TextTable | None:
    """Distinct-correct of each method at every threshold and temperature, and how its order agrees with the first row.

    The first row is the compared setting. None if there is only one threshold and one temperature.

    Source: the check of Takase et al. 2024, arXiv:2410.20147 (several thresholds and temperatures).
    """
    known = {m: float(found[1]) for m in c.cube.metrics if (found := THRESHOLD.fullmatch(m))}
    settings = [(t, m) for t in sorted(c.cube.temperatures) for m in known if c.cube.is_on_grid(m)]
    if c.diversity not in known or len(settings) < 2 or len(c.methods) < 2:
        return None
    first = (c.cube.temperature, c.diversity)
    means = {
        key: [float(np.nanmean(c.cube.matrix(name, key[1], temperature=key[0]))) for name in c.methods]
        for key in [first, *(key for key in settings if key != first)]
    }
    ranks = {key: mean_ranks([-value for value in values]) for key, values in means.items()}
    rows = [
        [
            f"T = {temperature:g}, ROUGE-L < {known[metric]:g}",
            *(f"{value:.2f}" for value in means[temperature, metric]),
            agreement_text(ranks[first], ranks[temperature, metric]),
        ]
        for temperature, metric in means
    ]
    note = "Means over seeds and problems. Order: Spearman's rank correlation of the methods with the first row."
    return TextTable(["setting", *c.methods, "order"], rows, notes=[note])
