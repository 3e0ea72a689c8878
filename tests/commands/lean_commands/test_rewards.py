"""``lean rewards``: the figures against counted pairs, the plot, and its refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_gfn.commands.lean import main
from lightning_gfn.commands.lean_commands.rewards import read_attempts, separation_by
from lightning_gfn.interfaces import RewardNetwork
from lightning_gfn.policies.reward_models.network import Seq2SeqRewardNetwork
from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.reports.partial_rewards import load_separation

A = {
    "problem_id": "a", "log_probs": [-1.0, -4.0, -6.0], "lengths": [3, 1, 2], "num_tactics": [1, 1, 2],
    "outcomes": ["proved", "error", "proved"],
}  # fmt: skip
B = {
    "problem_id": "b", "log_probs": [-1.0, -9.0], "lengths": [2, 1], "num_tactics": [2, 2],
    "outcomes": ["unfinished", "error"],
}  # fmt: skip
T5 = {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
SETTINGS: dict[str, Any] = {"method": "sft", "metric_settings": {}}


def write_run(folder: Path, rows: list[dict[str, Any]], temperatures: tuple[float, ...] = (1.0,)) -> Path:
    (folder / "results").mkdir(parents=True)
    problems = {"count": len({row["problem_id"] for row in rows})}
    identity = {**SETTINGS, "problems": problems, "decoding": {"temperatures": temperatures, "num_samples": 3}}
    (folder / "results" / "test_metrics.json").write_text(json.dumps(identity))
    whole = [{"temperature": temperatures[0], "metrics": {}, **row} for row in rows]
    (folder / "results" / "test_problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in whole))
    return folder


def test_auroc_counts_pairs_and_theorems_of_two_runs_stay_apart(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one", [A, B]), write_run(tmp_path / "two", [A])
    found = load_separation([one, two], "test")
    proved, failed, unfinished = [-0.25, -1.5, -0.25, -1.5], [-2.0, -3.0, -2.0], [-0.25]

    def auroc(others: list[float]) -> float:
        pairs = [(p > u) + 0.5 * (p == u) for p in proved for u in others]
        return sum(pairs) / len(pairs)

    assert found["proved"]["scores"] == sorted(proved) and found["error"]["scores"] == sorted(failed)
    assert found["auroc"] == pytest.approx(auroc(failed + unfinished))
    assert found["auroc_unfinished"] == pytest.approx(auroc(unfinished)) == 0.25
    assert found["auroc_within"] == 1.0 and found["theorems_with_both"] == 2


def test_one_temperature_is_read(tmp_path: Path) -> None:
    cold = {**A, "temperature": 0.5, "log_probs": [-10.0, -0.1, -10.0]}
    run = write_run(tmp_path / "run", [A, cold], (1.0, 0.5))
    assert load_separation([run], "test")["auroc"] == 1.0
    assert load_separation([run], "test", 0.5)["auroc"] == 0.0
    with pytest.raises(ValueError, match="not at 0.7"):
        load_separation([run], "test", 0.7)


class Marks(RewardNetwork):
    """Scores a tactic by a mark in it, if its prompt is the one that belongs to it."""

    is_calibrated = True

    def score_steps(self, prompts: Sequence[str], steps: Sequence[Sequence[str]], device: Any) -> list[list[float]]:
        assert all(len(solution) == 1 and solution[0].strip() for solution in steps if solution)
        scores = []
        for prompt, solution in zip(prompts, steps, strict=True):
            assert not solution or solution[0].startswith(prompt)
            scores.append([float(tactic.split()[1]) for tactic in solution])
        return scores


def attempt(problem: str, outcome: str, *scores: str, temperature: float = 1.0) -> dict[str, Any]:
    steps = [{"prompt": f"s{n}", "tactic": f"s{n} {score}" if score else ""} for n, score in enumerate(scores)]
    return {"problem_id": problem, "temperature": temperature, "outcome": outcome, "steps": steps}


def write_predictions(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "predictions").mkdir(parents=True)
    (folder / "predictions" / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_verifier_scores_attempts_by_the_mean_over_their_tactics(tmp_path: Path) -> None:
    rows = [
        attempt("a", "proved", "2", "0"), attempt("a", "unfinished", "1", ""), attempt("b", "error", "-3"),
        attempt("b", "proved", "9", temperature=0.5), attempt("c", "error"),
    ]  # fmt: skip
    folder = write_predictions(tmp_path / "run", rows)
    found = separation_by(Marks(), read_attempts([folder], None))
    log_sigma = [-math.log1p(math.exp(-score)) for score in (2, 0, 1, -3)]
    assert found["proved"]["scores"] == pytest.approx([(log_sigma[0] + log_sigma[1]) / 2])
    assert found["unfinished"]["scores"] == pytest.approx([log_sigma[2] / 2])
    assert found["error"]["scores"] == pytest.approx([log_sigma[3]])
    other = write_predictions(tmp_path / "other", rows)
    assert [row["problem_id"] for row in read_attempts([folder, other], 0.5)] == [f"{folder}/b", f"{other}/b"]
    with pytest.raises(ValueError, match="line 1: field 'steps' is missing"):
        read_attempts([write_predictions(tmp_path / "math", [{"problem_id": "a", "outcome": "x"}])], None)
    with pytest.raises(FileNotFoundError, match="lightning-gfn predict"):
        read_attempts([tmp_path], None)


def test_the_command_takes_a_verifier_by_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    tokenizer = TokenizerSettings(kind="byte")
    for name in ("trained", "start"):
        policy = Seq2SeqLM(config=T5, tokenizer=tokenizer, max_prompt_tokens=16, max_new_tokens=8)
        policy.build(())
        policy.save_pretrained(tmp_path / name / "model")
    network = Seq2SeqRewardNetwork(pretrained=str(tmp_path / "start" / "model"))
    network.build(())
    network.save_pretrained(tmp_path / "reward" / "model")
    rows = [attempt("a", "proved", "2"), attempt("a", "error", "1"), attempt("b", "unfinished", "7")]
    run = write_predictions(tmp_path / "run", rows)
    for verifier in (["reward"], ["trained", "--reference", str(tmp_path / "start")]):
        assert main(["rewards", str(run), "--verifier", str(tmp_path / verifier[0]), *verifier[1:]]) == 0
        assert "AUROC" in capsys.readouterr().out
    assert (run / "results" / "test_verifier_rewards.png").stat().st_size > 5_000
    with pytest.raises(SystemExit):
        main(["rewards", str(run), "--reference", "x"])
    assert "--reference needs --verifier" in capsys.readouterr().err


def test_the_command_draws_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rewards", str(write_run(tmp_path / "one", [A, B])), "--temperature", "1"]) == 0
    assert (tmp_path / "one" / "results" / "test_partial_rewards.png").stat().st_size > 5_000
    printed = capsys.readouterr().out
    assert "proved: n = 2, mean -0.875, median -0.875 nats" in printed and "AUROC 0.750; against" in printed


def test_errors_name_the_file_and_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error_of(folder: Path) -> str:
        assert main(["rewards", str(folder)]) == 1
        return capsys.readouterr().err

    assert "test_metrics.json does not exist: evaluate" in error_of(tmp_path)
    old = {name: value for name, value in A.items() if name != "num_tactics"}
    message = error_of(write_run(tmp_path / "old", [old]))
    assert "test_problems.jsonl, problem a: field 'num_tactics' is missing" in message
    broken = write_run(tmp_path / "broken", [A, B]) / "results" / "test_problems.jsonl"
    broken.write_text(broken.read_text()[:-30])
    assert f"{broken}, line 2: not JSON" in error_of(tmp_path / "broken")
    assert "proofs and failures are both needed" in error_of(write_run(tmp_path / "failures", [B]))
