"""The configuration itself, as nested values with a remark for some keys."""

from __future__ import annotations

from typing import Any

from lightning_gfn.commands.doctor_parts.machine import Device
from lightning_gfn.commands.init_parts.data_facts import DataFacts
from lightning_gfn.commands.init_parts.methods import Method
from lightning_gfn.commands.init_parts.model_facts import ModelFacts
from lightning_gfn.commands.init_parts.sizes import Lengths, Sizes, learning_rate
from lightning_gfn.commands.init_parts.yaml_text import Noted

CALLBACKS = "lightning_gfn.callbacks"
WORTH_BFLOAT16 = 10_000_000
"""Parameters below which the precision hardly shows in the time of a step."""
LIKELIHOOD = {"class_path": "lightning_gfn.rewards.likelihood.ReferenceLikelihood"}
ANSWER = {"class_path": "lightning_gfn.rewards.answer_match.AnswerMatch"}
PROOF = {"class_path": "lightning_gfn.rewards.proof.ProofSuccess"}
PROVING = {
    "environment": {
        "class_path": "lightning_gfn.environments.pool.LeanPool",
        "init_args": {
            "backend": {
                "class_path": "lightning_gfn.environments.embedded.EmbeddedLean",
                "init_args": {"heartbeats": 2000},
            },
            "rules": {"class_path": "lightning_gfn.environments.rules.TacticRules"},
        },
    },
    "max_steps": 6,
}


def precision_of(device: Device, model: ModelFacts, sizes: Sizes) -> Any:
    """bfloat16 for adapters, and for models of some size on a processor that is several times faster at it."""
    from lightning_gfn.policies.numerics.processor import cpu_has_bfloat16

    if not sizes.lora and device.kind == "cpu" and model.parameters >= WORTH_BFLOAT16 and cpu_has_bfloat16():
        return Noted("bf16-mixed", "this processor multiplies bfloat16 in hardware; weights stay float32")
    return "bf16-mixed" if sizes.lora else "32-true"


def trainer_block(device: Device, model: ModelFacts, sizes: Sizes, *, proofs: bool) -> dict[str, Any]:
    """The trainer: a first try on this machine."""
    callbacks = ["evaluation.Evaluation", "tables.SampleTable", "budget.Budget", "export.ExportModel"]
    callbacks += ["predictions.PredictionWriter", *(["proof_files.ProofFiles"] if proofs else [])]
    return {
        "accelerator": Noted("auto", f"here: {device.kind}"),
        "devices": 1,
        "precision": precision_of(device, model, sizes),
        "max_steps": Noted(
            sizes.max_steps, "optimiser steps of a first try; real training takes hundreds to thousands"
        ),
        "gradient_clip_val": 1.0,
        "log_every_n_steps": 1,
        "limit_val_batches": Noted(0, "no validation on the way; else set data.init_args.val_fraction, too"),
        "check_val_every_n_epoch": None,
        "enable_model_summary": False,
        "callbacks": [{"class_path": f"{CALLBACKS}.{name}"} for name in callbacks],
    }


def data_block(facts: DataFacts, sizes: Sizes) -> dict[str, Any]:
    """The data set with its sizes."""
    settings = {name: Noted(value, facts.notes.get(name, "")) for name, value in facts.settings.items()}
    problems = facts.settings.get("problems")
    limits = {
        "max_test": Noted(sizes.max_test, "problems of the test; null for all"),
        "eval_batch_size": sizes.batch_size * 2,
    }
    if isinstance(problems, dict):
        inner = {name: Noted(value, facts.notes.get(name, "")) for name, value in problems["init_args"].items()}
        node = {"class_path": problems["class_path"], "init_args": {**inner, "max_test": limits.pop("max_test")}}
        settings["problems"] = Noted(node, facts.notes.get("problems", ""))
    sized = {"batch_size": Noted(sizes.batch_size, "rows of a training batch")}
    return {"class_path": facts.class_path, "init_args": {**settings, **sized, **limits}}


def policy_block(model: ModelFacts, lengths: Lengths, sizes: Sizes) -> dict[str, Any]:
    """The policy."""
    settings: dict[str, Any] = {"pretrained": model.source.pretrained}
    if sizes.lora:
        settings |= {"lora": {"rank": 16, "alpha": 32}, "dtype": "bfloat16", "gradient_checkpointing": True}
    settings["max_prompt_tokens"] = Noted(lengths.max_prompt, lengths.prompt_note)
    settings["max_new_tokens"] = Noted(lengths.max_new, lengths.new_note)
    return {"class_path": model.class_path, "init_args": settings}


def reward_block(method: Method, facts: DataFacts, reward: str | None) -> Noted:
    """What completions earn."""
    judge: dict[str, Any] = PROOF if facts.guessed.kind == "theorems" else ANSWER
    if reward is not None:
        arguments = {"function": reward, **({"prefixes": True} if method.prefixes else {})}
        judge = {"class_path": "lightning_gfn.rewards.function.FunctionReward", "init_args": arguments}
    if not method.tempered:
        return Noted(judge, "1 for a right answer, 0 for a wrong one" if reward is None else "your function's value")
    terms: dict[str, dict[str, Any]] = {
        "likelihood": {"reward": LIKELIHOOD, "temperature": 0.9},
        "answer": {"reward": judge},
    }
    if reward is None:
        terms["answer"]["weight"] = 5.0
    node = {"class_path": "lightning_gfn.rewards.weighted_sum.SumReward", "init_args": {"terms": terms}}
    return Noted(
        node, "log R = log p_ref / 0.9 + 5 if it is right: right answers in the proportions that the model has"
    )


def model_block(
    name: str, method: Method, model: ModelFacts, facts: DataFacts, lengths: Lengths, sizes: Sizes, reward: str | None
) -> dict[str, Any]:
    """Module, policy, objective and reward."""
    settings: dict[str, Any] = {"method": name, "policy": policy_block(model, lengths, sizes)}
    if method.objective is not None:
        settings["objective"] = method.objective
    if method.samples:
        settings["reward"] = reward_block(method, facts, reward)
        settings["num_samples"] = Noted(sizes.num_samples, "completions of each problem in a training batch")
    settings |= method.more
    if facts.guessed.kind == "theorems":
        settings["proving"] = PROVING
    lr = learning_rate(model, sizes, name)
    settings["optimizer"] = {"lr": lr, "warmup_steps": min(5, sizes.max_steps // 4)}
    shown = max(4, sizes.num_samples)
    settings["evaluation"] = {"num_samples": Noted(shown, "completions of each test problem"), "max_rows": 64}
    return {"class_path": method.module, "init_args": settings}
