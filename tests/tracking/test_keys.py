from __future__ import annotations

import pytest

from lightning_gfn.tracking.keys import check_metric_key, clean_metric_key, clean_metrics

GOOD = ["train/loss", "test/pass_at_8", "test/distinct_correct_rouge_0.7", "val/solve_rate_t0.6", "budget/wall_seconds"]
BAD = ["loss", "pass@8", "test/pass@8", "trian/loss", "test/", "/loss", "test/logP(s)", "test//x", "test/a b", ""]


@pytest.mark.parametrize("key", GOOD)
def test_good_keys_pass_unchanged(key: str) -> None:
    assert check_metric_key(key) == key == clean_metric_key(key)


@pytest.mark.parametrize("key", BAD)
def test_bad_keys_are_refused_by_name(key: str) -> None:
    with pytest.raises(ValueError, match="metric key"):
        check_metric_key(key)


@pytest.mark.parametrize("key", [*GOOD, *BAD, "../up", "a\nb", "ü", "x" * 10])
def test_cleaned_keys_are_accepted_by_mlflow(key: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    cleaned = clean_metric_key(key)
    _validate_metric_name(cleaned)
    assert clean_metric_key(cleaned) == cleaned


def test_changed_keys_warn_and_keep_their_value() -> None:
    with pytest.warns(RuntimeWarning, match="pass@8"):
        assert clean_metrics({"test/pass@8": 0.5, "test/x": 1.0}) == {"test/pass_8": 0.5, "test/x": 1.0}
