"""What the prior reads, temperatures of the joint likelihood, and a small model that reaches the stories' posterior."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from statistics import fmean
from typing import Any

import pytest
import torch

from datamodules.generators.stories import StoryWorld
from datamodules.generators.story_words import MISHAPS, Place
from datamodules.inference.infilling import GeneratedStories, StoryTask
from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.callbacks.common.problem_rows import problem_digest
from lightning_gfn.metrics.functional.target import target_fit
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.objectives.subtb import ModifiedSubTB
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.rewards.joint import JointLikelihood
from lightning_gfn.rewards.schedules import Linear
from lightning_gfn.rewards.weighted_sum import SumReward, WeightedReward
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.reference import text_rollouts
from lightning_gfn.types import Problem

SHOWN = Problem(id="p", prompt="cd>ab", evidence="cd", prior_prompt="ab")


@pytest.fixture
def policy(make_policy: Any) -> Any:
    made = make_policy(max_new_tokens=3)
    made.build([])
    made.freeze_reference()
    return made.eval()


def joint_of(policy: Any, problem: Problem, texts: list[str], prefixes: bool = False) -> torch.Tensor:
    rollouts, _ = text_rollouts(policy, [problem], [0] * len(texts), texts, "cpu")
    (values,) = JointLikelihood().terms(rollouts, policy, prefixes=prefixes)[0].values()
    return values


def test_the_prior_reads_its_own_prompt(policy: Any) -> None:
    """As if the policy's prompt were the prior's, and as a plain pass over x, z and y."""
    texts = ["a", "cb", ""]
    for prefixes in (False, True):
        found = joint_of(policy, SHOWN, texts, prefixes)
        same = replace(SHOWN, prompt="ab", prior_prompt=None)
        assert torch.allclose(found, joint_of(policy, same, texts, prefixes), atol=1e-5)
        assert not torch.allclose(
            found, joint_of(policy, replace(SHOWN, prior_prompt=None), texts, prefixes), atol=1e-2
        )
    ids = policy.encode_prompt("ab")
    with torch.no_grad():
        for text, value in zip(texts, joint_of(policy, SHOWN, texts).tolist(), strict=True):
            behind = policy.encode_completion(text + "cd")
            log_p = policy.hugging_face(torch.tensor([ids + behind])).logits[0].double().log_softmax(-1)
            plain = sum(float(log_p[len(ids) + t - 1, token]) for t, token in enumerate(behind))
            assert value == pytest.approx(plain, abs=1e-4)


def test_what_the_prior_reads_is_part_of_a_problem() -> None:
    digests = {problem_digest(problem) for problem in (SHOWN, replace(SHOWN, prior_prompt="ba"))}
    assert len(digests) == 2 and problem_digest(replace(SHOWN, prior_prompt=None)) not in digests


def test_a_temperature_divides_the_joint_likelihood(policy: Any) -> None:
    reward = SumReward({"story": WeightedReward(JointLikelihood(), temperature=Linear(1.1, 0.85, 100))})
    assert reward.needs_reference and reward.provides == JointLikelihood.provides
    rollouts, _ = text_rollouts(policy, [SHOWN], [0, 0], ["a", "bcb"], "cpu")
    terms, _ = reward.terms(rollouts, policy, prefixes=True)
    plain = joint_of(policy, SHOWN, ["a", "bcb"], prefixes=True)
    for step, temperature in ((0, 1.1), (50, 0.975), (100, 0.85), (500, 0.85)):
        found = reward.combine(terms, rollouts, step).prefix_BT1
        assert found is not None and torch.allclose(found, plain / temperature, atol=1e-4)


# ---------------------------------------------------------------- the posterior of a small world


CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip


@pytest.fixture(scope="module")
def data() -> GeneratedStories:
    made = GeneratedStories()
    made.world = StoryWorld({"Ben": "he"}, {"park": Place("gardener", ("kite",))}, {"lost": MISHAPS["lost"]})
    return made


@pytest.fixture(scope="module")
def prior(data: GeneratedStories, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a small model trained on whole stories of that world."""
    from lightning import Trainer

    random = Random(0)
    stories = [data.world.draw(random) for _ in range(4000)]
    task = StoryTask(part="story")
    texts = [task.problem(data, str(n), story.sentences) for n, story in enumerate(stories)]
    torch.manual_seed(0)
    policy = CausalLM(
        config=CONFIG, tokenizer=TokenizerSettings(kind="bpe", vocab_size=700), max_prompt_tokens=48, max_new_tokens=64
    )
    corpus = [problem.prompt + problem.solutions[0] for problem in texts[:500]]
    policy.build([*corpus, "Ending: Story:"])
    folder = tmp_path_factory.mktemp("prior")
    policy.save_pretrained(folder)
    policy = CausalLM(pretrained=str(folder), max_prompt_tokens=48, max_new_tokens=64)
    module = SFTModule(policy, optimizer=OptimizerSettings(lr=3e-3, warmup_steps=20, schedule="linear"))
    trainer = Trainer(
        max_steps=300, max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu", devices=1, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(texts, batch_size=64, shuffle=True, collate_fn=list))
    policy.save_pretrained(folder / "trained")
    return str(folder / "trained")


def distances(policy: Any, problems: list[Problem], *, reference: bool) -> list[float]:
    """Exact total variation of the policy from each problem's posterior under the generator."""
    found = []
    for problem in problems:
        target = problem.target or {}
        prompt = policy.encode_prompt(problem.prompt)
        rows = pad_steps([prompt] * len(target), [policy.encode_completion(text) for text in target], "cpu")
        with torch.no_grad():
            log_q = policy.score(rows, reference=reference).log_prob_N(rows.action_mask_NT, dtype=torch.float64)
        found.append(target_fit(list(target.values()), log_q.tolist()).total_variation)
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("objective", [VarGrad(), ModifiedSubTB()], ids=["vargrad", "subtb"])
def test_a_small_model_reaches_the_posterior(
    data: GeneratedStories, prior: str, make_trainer: Any, objective: Any
) -> None:
    """Mean total variation from the exact posterior, over all outcomes: below 0.15, from above 0.5 at the start."""
    endings = {story.outcome: story for story, _ in data.world.enumerate()}
    problems = [data.problem_of(story) for story in endings.values()]
    assert {problem.metadata["outcome"] for problem in problems} == {"back", "new", "none"}
    policy = CausalLM(pretrained=prior, max_prompt_tokens=64, max_new_tokens=14, end_tokens=["."])
    module = GFlowNetModule(
        policy, objective, JointLikelihood(), num_samples=32,
        optimizer=OptimizerSettings(lr=3e-3, warmup_steps=10, schedule="linear"),
        behaviour=BehaviourMix(
            on_policy=0.5, tempered=0.25, replay=0.25, temperature_low=1.0, temperature_high=2.0
        ),
        buffer=ReplayBuffer(capacity=32, replacement=False),
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(problems * 300, batch_size=3, collate_fn=list)
    make_trainer(300, gradient_clip_val=1.0).fit(module, loader)
    before, after = (fmean(distances(policy, problems, reference=reference)) for reference in (True, False))
    assert after < 0.15 < 0.5 < before
