"""Names of metrics that every tracking system accepts."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping

STAGES = ("train", "val", "test", "predict", "budget")
METRIC_KEY = re.compile(rf"(?:{'|'.join(STAGES)})(?:/[A-Za-z0-9_.-]+)+")
FORBIDDEN = re.compile(r"[^A-Za-z0-9_./ -]")


def check_metric_key(key: str) -> str:
    """The key, if it is ``<stage>/<name>`` in letters, digits and ``_ - . /``.

    Raises:
        ValueError: naming the key and the rule it breaks.
    """
    if METRIC_KEY.fullmatch(key) is None:
        raise ValueError(
            f"metric key {key!r} must be <stage>/<name> with a stage of {', '.join(STAGES)} and a name of letters, "
            "digits and _ - . / (MLflow refuses others): write test/pass_at_8, not pass@8"
        )
    return key


def clean_metric_key(key: str) -> str:
    """The key with characters that MLflow refuses replaced by ``_``, and without empty or dotted parts."""
    cleaned = FORBIDDEN.sub("_", key)
    parts = [part for part in cleaned.split("/") if part not in ("", ".", "..")]
    return "/".join(parts) if parts else "_"


def clean_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """The same metrics under keys that every tracking system accepts; warns of each key that had to be changed."""
    cleaned = {}
    for key, value in metrics.items():
        name = clean_metric_key(key)
        if name != key:
            message = f"metric key {key!r} is logged as {name!r}: use letters, digits and _ - . /"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        cleaned[name] = value
    return cleaned
