"""Attempts at a theorem, by sampling or by search, as one plain record that is printed or written as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning_gfn.commands.asking.sources import ModelSource, section
from lightning_gfn.commands.asking.ways import grouped, proof_groups, reason
from lightning_gfn.types import EvalRecord, Problem

if TYPE_CHECKING:
    from lightning_gfn.lean_types import LeanError
    from lightning_gfn.rollouts.search.search_result import FoundProof
    from lightning_gfn.rollouts.search.search_tree import TacticResult

DEFAULT_STEPS = 8


def make_proving(environment: Any, source: ModelSource, max_steps: int | None) -> Any:
    """How theorems are attempted: with the prompt and the number of tactics of the run, where one is known.

    Args:
        environment: runs tactics.
        source: the model.
        max_steps: the most tactics of a proof; None for those of the run, or 8.
    """
    from lightning_gfn.commands.asking.classes import build
    from lightning_gfn.prompts.proof_prompt import ProofPrompt
    from lightning_gfn.rollouts.proofs.proving import Proving

    known = section(source.config, "model", "init_args", "proving")
    known = section(known, "init_args") or known
    prompt = known.get("prompt")
    if isinstance(prompt, Mapping):
        prompt = build(prompt) if "class_path" in prompt else ProofPrompt(**prompt)
    trained = known.get("evaluation_max_steps") or known.get("max_steps") or DEFAULT_STEPS
    steps = max_steps if max_steps is not None else int(trained)
    return Proving(environment, prompt=prompt, max_steps=steps)


def sampled_attempts(policy: Any, problem: Problem, proving: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Whole attempts at a theorem, tactic by tactic; see ``sample_proofs``."""
    from lightning_gfn.rollouts.proofs.proof_evaluation import sample_proofs

    [record] = sample_proofs(
        policy,
        [problem],
        proving,
        num_samples=options.num_samples,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
        max_rows=options.max_rows,
        entropy=False,
        device=getattr(policy, "device", "cpu"),
    )
    attempts = [attempt_row(record, i) for i in range(len(record.episodes))]
    groups = [{"proved": bool(g.verdict), "label": g.label, "attempts": list(g.members)} for g in proof_groups(record)]
    accepted = sum(len(e.tactics) - (e.outcome == "error") for e in record.episodes)
    states = [episode.states[0] for episode in record.episodes if episode.states]
    unstated = next((e.message for e in record.episodes if e.error_kind == "statement"), None)
    return {
        "how": f"{len(attempts)} attempts at temperature {options.temperature:g}, seed {options.seed}",
        "first_state": states[0] if states else None,
        "unstated": unstated,
        "tactics_accepted": accepted,
        "attempts": attempts,
        "groups": groups,
    }


def attempt_row(record: EvalRecord, i: int) -> dict[str, Any]:
    """A sampled attempt."""
    episode = record.episodes[i]
    return {
        "proved": record.correct[i],
        "tactics": list(episode.tactics),
        "log_prob": round(record.log_probs[i], 4),
        "tokens": record.lengths[i],
        "outcome": episode.outcome,
        "message": episode.message,
        "axioms": list(episode.axioms),
    }


def searched_attempts(policy: Any, problem: Problem, proving: Any, options: argparse.Namespace) -> dict[str, Any]:
    """A best-first search for proofs of a theorem; its attempts are the proofs and the tactics that failed."""
    from lightning_gfn.lean_types import LeanError
    from lightning_gfn.rollouts.search.proof_search import SearchSettings, search_proofs
    from lightning_gfn.rollouts.search.search_result import SearchBudget
    from lightning_gfn.similarity.tactic_scripts import normal_script

    settings = SearchSettings(
        branching=options.branching,
        max_depth=proving.max_steps,
        budget=SearchBudget(nodes=options.nodes, proofs=options.num_samples),
        seed=options.seed,
    )
    [result] = search_proofs(policy, proving.environment, proving.proof_prompt, [problem], settings, keep_tried=True)
    attempts = [proof_row(proof) for proof in result.proofs]
    proved = len(attempts)
    attempts += [failure_row(tried, tried.result) for tried in result.tried if isinstance(tried.result, LeanError)]
    scripts = grouped(range(proved), lambda i: normal_script(attempts[i]["tactics"], rename=True))
    reasons = grouped(range(proved, len(attempts)), lambda i: attempts[i]["reason"])
    reasons.sort(key=lambda group: -len(group))
    groups = [{"proved": True, "label": "", "attempts": group} for group in scripts]
    groups += [{"proved": False, "label": attempts[group[0]]["reason"], "attempts": group} for group in reasons]
    return {
        "how": f"best-first search: {result.nodes} states expanded, {result.environment_steps} tactics run, "
        f"{result.errors} refused ({result.status})",
        "first_state": next((tried.leaf.state.text for tried in result.tried if not tried.leaf.script), None),
        "unstated": result.message if result.status == "statement" else None,
        "tactics_accepted": result.environment_steps - result.errors,
        "attempts": attempts,
        "groups": groups,
    }


def proof_row(proof: FoundProof) -> dict[str, Any]:
    """A proof that a search found."""
    return {
        "proved": True,
        "tactics": list(proof.script),
        "log_prob": round(proof.log_prob, 4),
        "nodes": proof.nodes,
        "outcome": "proved",
        "message": "",
        "axioms": list(proof.axioms),
    }


def failure_row(tried: TacticResult, error: LeanError) -> dict[str, Any]:
    """A tactic that Lean refused in a search, with those that led to its state."""
    return {
        "proved": False,
        "tactics": [*tried.leaf.script, tried.proposal.tactic],
        "log_prob": round(tried.leaf.log_prob + tried.proposal.log_prob, 4),
        "outcome": "error",
        "message": error.message,
        "reason": reason(error.message, error.kind),
        "axioms": [],
    }
