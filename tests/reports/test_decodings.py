"""Runs that decode differently: refused unless asked for, and then each under its own way of decoding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn.reports.comparison import Options, compare_runs
from lightning_gfn.reports.decodings import decoding_text
from lightning_gfn.reports.files import write_comparison
from lightning_gfn.reports.rendering.plots import plane
from lightning_gfn.reports.rendering.targets import MOST_SAMPLES, centred, sample_calibration
from lightning_gfn.reports.runs import load_run
from tests.reports.conftest import write_run

BEAMS = {"num_groups": 8, "diversity_penalty": 1.0, "length_penalty": 0.0}


def run(
    tmp_path: Path, method: str, seed: int = 0, *, temperature: float = 1.0, slope: float = 1.0, **how: Any
) -> Path:
    """A run whose samples have log q = slope · log R, unjudged."""
    weights = [-10.0 - seed, -12.0, -20.0, -17.0]
    rows = [
        {
            "problem_id": f"p{n}", "temperature": temperature, "num_samples": 4, "num_correct": 0, "is_judged": False,
            "correct": [False] * 4, "completions": ["one", "two", "one", "three"], "prompt": "Say.",
            "log_rewards": weights, "log_probs": [slope * weight for weight in weights],
            "metrics": {
                "log_likelihood": -12.0 - n - seed, "log_likelihood_max": -9.0 + temperature,
                "sample_embedding_distance": 0.5 + 0.1 * temperature + 0.01 * n, "sample_self_bleu": 0.2,
                **({} if how or temperature != 1.0 else {"sample_log_z": 2.0, "sample_spread": 1.0 - slope}),
            },
        }
        for n in range(60)
    ]  # fmt: skip
    folder = tmp_path / f"{method}{seed}"
    decoding = {"num_samples": 4, "temperatures": [temperature], "top_k": None, "top_p": None, "seed": 0, **how}
    write_run(folder, rows, method=method, seed=seed, temperatures=[temperature], budget={}, decoding=decoding)
    return folder


def folders(tmp_path: Path) -> list[Path]:
    return [
        *(run(tmp_path, "base", seed, slope=0.8) for seed in (0, 1)),
        run(tmp_path, "cold", temperature=0.7, slope=0.8),
        run(tmp_path, "nucleus", top_p=0.9, slope=0.8),
        run(tmp_path, "diverse", beams=BEAMS, slope=0.8),
        *(run(tmp_path, "balanced", seed) for seed in (0, 1)),
    ]


def test_other_decodings_are_refused_unless_asked_for(tmp_path: Path) -> None:
    runs = [load_run(folder) for folder in folders(tmp_path)]
    with pytest.raises(ValueError, match="decoding.temperatures is"):
        compare_runs(runs, Options(num_resamples=200))
    c = compare_runs(runs, Options(num_resamples=200, own_decoding=True))
    assert c.own_decoding == {
        "base": "temperature 1",
        "cold": "temperature 0.7",
        "nucleus": "temperature 1, top-p 0.9",
        "diverse": "beam search with 4 beams in 8 groups, penalty 1",
        "balanced": "temperature 1",
    }
    assert c.headline["cold"]["log_likelihood_max"].value == pytest.approx(-8.3)
    assert c.headline["base"]["log_likelihood"].value == pytest.approx(-12.0 - 29.5 - 0.5)
    assert not {"sample_log_z", "sample_spread"} & set(c.measured("base")), "which the others have no value of"
    alone = compare_runs([run for run in runs if run.method in ("base", "balanced")], Options(num_resamples=200))
    assert alone.headline["base"]["sample_spread"].value == pytest.approx(0.2) and not alone.own_decoding
    assert "solve_rate" not in c.metrics and not c.equality and c.matched is None and c.best is None
    other = run(tmp_path / "more", "more", num_samples=8)
    with pytest.raises(ValueError, match="decoding.num_samples"):
        compare_runs([*runs, load_run(other)], Options(num_resamples=200, own_decoding=True))
    twice = run(tmp_path / "twice", "cold", 1, temperature=0.6)
    with pytest.raises(ValueError, match="'cold' decodes by temperature 0.7 in .* by temperature 0.6"):
        compare_runs([*runs, load_run(twice)], Options(num_resamples=200, own_decoding=True))


def test_likelihood_is_drawn_against_diversity_and_log_q_against_log_r(tmp_path: Path) -> None:
    c = compare_runs([load_run(f) for f in folders(tmp_path)], Options(num_resamples=200, own_decoding=True))
    assert c.planes[0] == ("log_likelihood_max", "sample_embedding_distance")
    figure = plane(c)
    assert figure is not None and figure.title == "Likelihood against diversity" and len(figure.drawings) == 4
    first = next(iter(figure.drawings.values()))
    assert all(name in first for name in c.methods) and "temperature 0.7" in first
    calibration = sample_calibration(c)
    assert calibration is not None and "target" in calibration.drawings[()]
    points = centred(next(iter(c.first_run.samples.values())))
    assert [p.y for p in points] == pytest.approx([0.8 * p.x for p in points])
    assert sum(p.x for p in points) == pytest.approx(0.0)
    assert MOST_SAMPLES < 60 * 4, "so that points are left out"
    assert centred({}) == [] and centred({"log_rewards": [1.0], "log_probs": [1.0]}) == []


def test_the_pages_of_unjudged_runs_speak_of_no_solutions(tmp_path: Path) -> None:
    given = folders(tmp_path)
    write_comparison(given, tmp_path / "out", options=Options(num_resamples=200, own_decoding=True))
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "by each method's own decoding: base: temperature 1; cold: temperature 0.7" in page
    assert "solve rate" not in page and "Distinct solutions" not in page
    assert "log-likelihood of the best sample" in page
    assert '"unjudged":true' in (tmp_path / "out" / "comparison.html").read_text()
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["own_decoding"]["diverse"].startswith("beam search")
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000


def test_decodings_in_words() -> None:
    known = {"num_samples": 8}
    assert decoding_text({**known, "beams": {"num_groups": 1}}, 1.0) == "beam search with 8 beams"
    text = decoding_text({**known, "beams": {**BEAMS, "length_penalty": 1.0}}, 1.0)
    assert text == "beam search with 8 beams in 8 groups, penalty 1, length penalty 1"
    assert decoding_text({**known, "top_k": 40, "top_p": 0.9}, 0.5) == "temperature 0.5, top-k 40, top-p 0.9"


@pytest.mark.parametrize("weights", [3, ["a"], [1.0], [1.0, 2.0, 3.0, None]])
def test_broken_log_rewards_are_named(tmp_path: Path, weights: Any) -> None:
    folder = run(tmp_path, "broken")
    file = folder / "results" / "test_problems.jsonl"
    first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps({**json.loads(first), "log_rewards": weights}), *rest]) + "\n")
    with pytest.raises(ValueError, match="line 1: field 'log_rewards'"):
        load_run(folder)


def test_a_shortest_answer_is_a_way_of_decoding(tmp_path: Path) -> None:
    """Modified SubTB needs the empty answer that other methods leave out."""
    runs = [load_run(run(tmp_path, name, min_new_tokens=least)) for name, least in (("subtb", 0), ("grpo", 1))]
    with pytest.raises(ValueError, match=r"decoding.min_new_tokens is"):
        compare_runs(runs, Options(num_resamples=200))
    found = compare_runs(runs, Options(num_resamples=200, own_decoding=True)).own_decoding
    assert found == {"subtb": "temperature 1", "grpo": "temperature 1, at least 1 token"}
    assert decoding_text({"min_new_tokens": 5, "top_p": 0.9}, 0.7) == "temperature 0.7, top-p 0.9, at least 5 tokens"
