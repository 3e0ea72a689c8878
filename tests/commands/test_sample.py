"""``sample``: solutions in groups, the same for the same seed, and arguments checked before a model is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_models import write_small_model

from lightning_gfn import cli
from lightning_gfn.commands.asking.shown import indented
from lightning_gfn.commands.asking.sources import find_source
from lightning_gfn.commands.asking.ways import proof_groups, solution_groups, ways_of_solving
from lightning_gfn.lean_types import Episode
from lightning_gfn.similarity.counting import distinct_in_order, similarities
from lightning_gfn.types import EvalRecord, Problem

TEXTS = (
    "3 boxes of 4 pens: 3 * 4 = 12. The answer is: 12",
    "Four pens in each of three boxes, so 3 × 4 = 12.\nThe answer is: 12",
    "4 + 4 = 8, and 8 + 4 = 12. The answer is: 12",
    "3 boxes of 4 pens: 3 + 4 = 7. The answer is: 7",
    "The answer is: 12",
    "no idea",
    "THE answer   is: 12",
)
ANSWERS = ("12", "12", "12", "7", "12", None, "12")


def record(answer: str | None = "12") -> EvalRecord:
    return EvalRecord(
        problem=Problem("p", "How many?", answer),
        temperature=1.0,
        completions=TEXTS,
        correct=tuple(answer is not None and found == answer for found in ANSWERS),
        log_probs=(-9.0, -3.0, -5.0, -1.0, -2.0, -8.0, -7.0),
        lengths=(9,) * 7,
        entropies=(0.0,) * 7,
        truncated=(False,) * 7,
    )


def test_right_samples_are_grouped_by_their_equations_and_wrong_ones_by_their_answer() -> None:
    found = solution_groups(record(), ANSWERS, "equations", 0.7)
    assert [(group.verdict, group.members) for group in found] == [
        (True, (1, 0)),
        (True, (4, 6)),
        (True, (2,)),
        (False, (3,)),
        (False, (5,)),
    ]
    assert [group.label for group in found] == [
        "3*4=12", "no equations", "4+4=8; 8+4=12", "answer 7", "no answer read",
    ]  # fmt: skip
    unjudged = solution_groups(record(None), ANSWERS, "text", 0.7)
    assert {group.verdict for group in unjudged} == {None} and sum(len(group.members) for group in unjudged) == 7


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9, 1.0])
def test_ways_by_rouge_are_as_many_as_the_metric_counts(threshold: float) -> None:
    ways = ways_of_solving(TEXTS, "rouge", threshold)
    assert len(ways) == distinct_in_order(similarities(list(TEXTS), "unicode") >= threshold)
    assert sorted(index for way in ways for index in way) == list(range(len(TEXTS)))


def test_proofs_are_grouped_by_script_and_failures_by_what_lean_says() -> None:
    def tried(outcome: str, *tactics: str, message: str = "", kind: str | None = None) -> Episode:
        return Episode(("s",) * len(tactics), tactics, outcome, message, error_kind=kind)  # type: ignore[arg-type]

    episodes = (
        tried("proved", "intro h", "exact h"),
        tried("error", "foo", message="<tactic>:1:0: unknown tactic\nmore", kind="tactic"),
        tried("proved", "intro  x -- a name", "exact x"),
        tried("error", "simp", message="simp is barred", kind="forbidden"),
        tried("error", "bar", message="<tactic>:1:4: unknown tactic", kind="tactic"),
        tried("unfinished", "left"),
        tried("proved", "assumption"),
    )
    attempts = EvalRecord(
        Problem("p", ""), 1.0, ("",) * 7, tuple(one.outcome == "proved" for one in episodes),
        (-4.0, -1.0, -2.0, -1.0, -3.0, -1.0, -1.0), (1,) * 7, (0.0,) * 7, (False,) * 7, episodes=episodes,
    )  # fmt: skip
    assert [(group.verdict, group.label, group.members) for group in proof_groups(attempts)] == [
        (True, "", (2, 0)),
        (True, "", (6,)),
        (False, "Lean refuses the tactic: unknown tactic", (1, 4)),
        (False, "a rule bars the tactic: simp is barred", (3,)),
        (False, "goals are left when the last tactic is played", (5,)),
    ]


def test_texts_of_a_model_do_not_steer_the_terminal() -> None:
    assert indented("a\x1b[2Jb\rc\n\u202ed", "> ") == ["> a [2Jb c", ">  d"]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a small model and a file."""
    monkeypatch.chdir(tmp_path)
    write_small_model(tmp_path / "small")
    rows = [{"question": f"How many are {n} and {n} together?", "answer": 2 * n} for n in range(3)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def sampled(capsys: pytest.CaptureFixture[str], *args: str) -> list[dict[str, Any]]:
    """What ``sample`` prints as JSON."""
    assert cli.main(["sample", "small", *args, "--json", "--max_new_tokens", "8"]) == 0, capsys.readouterr().err
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_equal_seeds_give_equal_samples_and_more_samples_the_same_first_ones(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (few,) = sampled(capsys, "Say it.", "-k", "2")
    (more,) = sampled(capsys, "Say it.", "-k", "5")
    (other,) = sampled(capsys, "Say it.", "-k", "2", "--seed", "1")
    assert more["samples"][:2] == few["samples"] != other["samples"]
    assert few["model_input"] == "<bos>Say it.\n" and few["answer"] is None and few["num_correct"] is None
    assert sorted(i for group in more["groups"] for i in group["samples"]) == list(range(5))


def test_rows_bring_their_answers(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = sampled(capsys, "--file", "rows.jsonl", "--row", "3", "1", "-k", "2")
    assert [one["answer"] for one in found] == ["4", "0"] and found[0]["answer_style"] == "last_number"
    assert "2 and 2 together" in found[0]["prompt"] and found[0]["num_correct"] is not None


def test_a_reader_sees_prompt_counts_and_groups(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sample", "small", "Say it.", "--answer", "3", "-k", "4", "--max_new_tokens", "4"]) == 0
    text = capsys.readouterr().out
    assert "the model reads (9 tokens):\n  │ <bos>Say it." in text
    assert "4 samples at temperature 1, seed 0: none is right (answer 3, read by last_number)" in text
    assert "── wrong, " in text and "log q -" in text


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["small"], "give one of PROMPT…, --file FILE, and (of a run) --split"),
        (["small", "x", "--file", "rows.jsonl"], "give one of PROMPT…"),
        (["small", "--file", "nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["small", "--file", "rows.jsonl", "--row", "4"], "--row 4: there are 3 rows, counted from 1"),
        (["small", "--file", "rows.jsonl", "--columns", "question=q"], "there is no column 'q'"),
        (["small", "--split", "test"], "--split belongs to a run, but small is none"),
        (["small", "x", "y", "--answer", "3"], "2 prompts and 1 times --answer"),
        (["small", "x", "-k", "0"], "--num_samples is 0, expected a number above 0"),
        (["small", "x", "--temperature", "nan"], "--temperature is nan"),
        (["small", "x", "--top_p", "1.5"], "--top_p is 1.5, expected a number in (0, 1]"),
        (["small", "x", "--answer_style", "roman"], "unknown answer style 'roman'"),
        (["small", "x", "--checkpoint", "best"], "belongs to a run, but small is none"),
        (["nowhere/at/all", "x"], "no such folder"),
        (["empty", "x"], "empty holds neither a run (config.yaml) nor a model"),
        (["untrained", "x"], "the run has neither a checkpoint nor an exported model yet"),
        (["untrained", "x", "--checkpoint", "best"], "checkpoint untrained/checkpoints/best.ckpt does not exist"),
        (["broken", "x"], "broken/config.yaml cannot be read"),
        (["smollm3-135m", "x"], "did you mean 'smollm2-135m'?"),
    ],
)
def test_errors_come_before_the_model(
    small: Path, args: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **settings: Any) -> Any:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("lightning_gfn.commands.asking.policies.load_policy", refuse)
    (small / "empty").mkdir()
    for name, text in (("untrained", "model: {init_args: {}}"), ("broken", "a: [")):
        (small / name).mkdir()
        (small / name / "config.yaml").write_text(text)
    assert cli.main(["sample", *args]) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("lightning-gfn sample: ") and len(error.splitlines()) == 1


def test_a_broken_checkpoint_is_one_line(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (small / "run" / "checkpoints").mkdir(parents=True)
    (small / "run" / "checkpoints" / "last.ckpt").write_bytes(b"no checkpoint")
    policy = "{class_path: lightning_gfn.policies.causal_lm.CausalLM, init_args: {config: {model_type: llama}}}"
    (small / "run" / "config.yaml").write_text(f"model: {{init_args: {{policy: {policy}}}}}")
    assert cli.main(["sample", "run", "x", "--prompt_template", "{question}"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("lightning-gfn sample: run/checkpoints/last.ckpt cannot be read as a checkpoint")


def test_a_device_that_is_not_here_is_one_line(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for device in ("cuda:99", "toaster"):
        assert cli.main(["sample", "small", "x", "--device", device]) == 2
        error = capsys.readouterr().err
        assert f"--device {device} cannot be used here" in error and len(error.splitlines()) == 1


def test_a_run_without_a_policy_says_so(small: Path) -> None:
    (small / "run").mkdir()
    (small / "run" / "config.yaml").write_text("model: {class_path: x.RewardModelModule, init_args: {}}")
    (small / "run" / "model").mkdir()
    with pytest.raises(ValueError, match="trains x.RewardModelModule, which writes no text"):
        _ = find_source("run").policy_block


@pytest.mark.pretrained
def test_a_chat_model_reads_its_template(smollm2_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["sample", "smollm2-135m", "Say yes.", "-k", "1", "--max_new_tokens", "2", "--json"]
    assert cli.main(ask) == 0
    assert json.loads(capsys.readouterr().out)["model_input"].endswith(
        "user\nSay yes.<|im_end|>\n<|im_start|>assistant\n"
    )
