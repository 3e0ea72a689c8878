"""A chat model as a policy: its end of turn, its prompts, supervised fine-tuning on messages, feedback in the turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import chat_tokenizers as KIT
import lightning as L
import pytest
import torch

from datamodules.files.problem_file import ProblemFile
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.prompts.chat import ChatPrompt, Message
from lightning_gfn.prompts.math_feedback import DEFAULT_TEMPLATE, with_feedback
from lightning_gfn.rollouts.reference import reference_rollouts
from lightning_gfn.types import Problem

TURNS = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "The answer is: 12"}]


@pytest.fixture(params=KIT.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(family: str, tmp_path: Path) -> Path:
    """A saved model with random weights beside the tokenizer of the family."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = KIT.chat_tokenizer(family)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def built(folder: Path, **settings: Any) -> CausalLM:
    policy = CausalLM(pretrained=str(folder), max_new_tokens=12, max_prompt_tokens=64, **settings)
    policy.build([])
    return policy.eval()


def test_the_end_of_the_turn_is_an_end_token_and_prompts_are_the_template_s(folder: Path, family: str) -> None:
    policy, style = built(folder), KIT.FAMILIES[family]
    ends = policy.tokenizer.convert_ids_to_tokens(policy.space.end_ids.tolist())
    assert set(ends) == {style.eos, style.end_of_turn}
    prompt = ChatPrompt([Message("user", "How many?")])
    ids = policy.tokenizer.apply_chat_template(prompt.dicts(), add_generation_prompt=True, return_dict=False)
    assert policy.encode_prompt(prompt) == ids == policy.encode_context(prompt)
    sampled = policy.sample([ids], torch.rand(1, 13, generator=torch.Generator().manual_seed(0)))
    assert sampled.action_mask_NT.any() and torch.isfinite(sampled.scores.log_pf_NT).all()


def test_reference_rollouts_are_the_template_s_conversation(folder: Path, family: str) -> None:
    """Context, action and end token are the whole conversation as the template writes it."""
    policy = built(folder, end_tokens=[KIT.FAMILIES[family].end_of_turn])
    problem = Problem("p", ChatPrompt([Message("user", "How many?")]), solutions=(TURNS[1]["content"],))
    rollouts, cut = reference_rollouts(policy, [problem], seed=0, epoch=0, device="cpu")
    ids = [*rollouts.context_ids_NC[0].tolist(), *rollouts.action_lists()[0], policy.space.stop_id]
    assert cut == 0 and policy.tokenizer.apply_chat_template(TURNS, return_dict=False)[: len(ids)] == ids


@pytest.mark.filterwarnings("ignore")
def test_messages_are_learned_and_the_model_stops(folder: Path, family: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": TURNS}) + "\n")
    data = ProblemFile(str(tmp_path / "rows.jsonl"), val_fraction=0, batch_size=1)
    module = SFTModule(built(folder).train())
    module.optimizer_settings = type(module.optimizer_settings)(lr=0.03)
    trainer = L.Trainer(
        max_steps=120,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        devices=1,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)
    policy = module.policy
    (problem,) = data.problems("train")
    sampled = policy.sample([policy.encode_prompt(problem.prompt)], torch.full((1, 13), 0.5), top_k=1)
    assert policy.decode(sampled.action_ids_NT[0, sampled.action_mask_NT[0]].tolist()) == TURNS[1]["content"]


def test_feedback_stands_in_the_turn_of_the_user() -> None:
    turns = [
        Message("system", "Add."),
        Message("user", "1 {feedback}?"),
        Message("assistant", "2"),
        Message("user", "3?"),
    ]
    told = with_feedback(DEFAULT_TEMPLATE, ChatPrompt(turns), "It is {prompt}.")
    assert isinstance(told, ChatPrompt) and told.messages[:3] == tuple(turns[:3])
    assert told.messages[3] == Message("user", with_feedback(DEFAULT_TEMPLATE, "3?", "It is {prompt}."))
