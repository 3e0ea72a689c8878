"""Whether answers follow rationales, on policies whose answer is known by construction."""

from __future__ import annotations

import pytest
import torch
from answering_policy import AnsweringPolicy, Rule, copy_last_number, read_the_question

from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.rollouts.reasoning.faithfulness import (
    Subject,
    answers_behind,
    faithfulness_metrics,
    first_reasoned,
    perturbed,
)
from lightning_gfn.types import Problem

CHANGES = ("truncated", "corrupted", "swapped")


def subjects(count: int = 4, style: str = "metamath") -> list[Subject]:
    """Problem n is answered by n; its rationale has two steps that end in different numbers."""
    marker = {"metamath": "\nThe answer is: {n}", "gsm8k": "\n#### {n}"}[style]
    found = []
    for n in range(10, 10 + count):
        problem = Problem(id=f"p{n}", prompt=f"What is {n}? ", answer=str(n), answer_style=style)
        text = f"Half of it is {n + 50}.\nThe whole is {n}." + marker.format(n=n)
        subject = first_reasoned(problem, ["no answer", text])
        assert subject is not None
        found.append(subject)
    return found


@pytest.mark.parametrize("style", ["metamath", "gsm8k"])
@pytest.mark.parametrize(("rule", "share"), [(copy_last_number, 1.0), (read_the_question, 0.0)])
def test_a_copied_answer_follows_and_a_known_one_does_not(rule: Rule, share: float, style: str) -> None:
    asked = subjects(style=style)
    policy = AnsweringPolicy(rule)
    answered = answers_behind(policy, asked, perturbed(asked, seed=0), max_rows=3)
    for values in map(faithfulness_metrics, answered):
        assert values == {
            "accuracy_intact": 1.0,
            **{f"answer_follows_{change}": share for change in CHANGES},
            **{f"accuracy_{change}": 1.0 - share for change in CHANGES},
        }
    assert policy.max_new_tokens == 64, "lengths are as they were"
    cue = asked[0].parts.cue
    assert len(policy.asked) == 16 and all(text.endswith(cue) for text in policy.asked)
    assert policy.asked[0] == "What is 10? Half of it is 60.\nThe whole is 10." + cue


def test_changes_do_not_depend_on_the_batch_but_on_the_seed() -> None:
    asked = subjects(8)
    assert perturbed(asked, seed=0) == perturbed(asked, seed=0) != perturbed(asked, seed=1)
    assert [own["swapped"] for own in perturbed(asked, seed=0)] == [
        one.parts.rationale for one in [*asked[1:], asked[0]]
    ]
    assert "swapped" not in perturbed(asked[:1], seed=0)[0], "nothing to swap with"


def test_completions_without_reasoning_are_left_out() -> None:
    problem = Problem(id="p", prompt="x", answer="1")
    assert first_reasoned(problem, ["The answer is: 1", "no"]) is None
    assert first_reasoned(Problem(id="p", prompt="x"), ["so 1\nThe answer is: 1"]) is None


def test_a_language_model_goes_on_behind_the_changed_text() -> None:
    """Answers are those of greedy decoding behind the context, as long as the model has positions for it."""
    torch.manual_seed(0)
    config = {
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 96, "initializer_range": 0.5,
    }  # fmt: skip
    policy = CausalLM(config=config, max_prompt_tokens=32, max_new_tokens=64, allowed_tokens=list("0123456789 "))
    policy.build(())
    asked = subjects(2)
    rationales = perturbed(asked, seed=0)
    rationales[1]["swapped"] = "much too long " * 6
    answered = answers_behind(policy.eval(), asked, rationales, max_rows=2)
    assert list(answered[0]) == ["intact", *CHANGES] and list(answered[1]) == ["intact", "truncated", "corrupted"]
    prompt = policy.encode_prompt(asked[0].problem.prompt)
    for found in answered[0].values():
        context = [*prompt, *policy.encode_completion(found.rationale + asked[0].parts.cue)]
        with policy.shortened(6):
            drawn = policy.sample([context], torch.zeros(1, 7), top_k=1)
        written = policy.decode(drawn.action_ids_NT[0][drawn.action_mask_NT[0]].tolist())
        assert (found.answer or "").startswith(written.strip()[: len(found.answer or "")])
        assert found.follows == (found.answer != answered[0]["intact"].answer)
