"""One prompt a run: data, policy and reward are compared at set-up, before a model is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from datamodules.lean_synthetic import LeanSynthetic
from datamodules.samples import SampledSolutions
from datamodules.step_labels import OutcomeRows, StepwiseRows
from datamodules.synthetic import SyntheticWordProblems
from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.environments.pool import LeanPool
from lightning_gfn.interfaces import Reward, RewardNetwork
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.reward_model import RewardModelModule
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.reward_models.network import LanguageRewardNetwork
from lightning_gfn.policies.reward_models.trained import TrainedRewardNetwork
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.prompts.proof_prompt import ProofPrompt
from lightning_gfn.prompts.question_template import known_template
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rewards.learned import LearnedReward
from lightning_gfn.rewards.proof import ProofReward
from lightning_gfn.rewards.weighted_sum import SumReward, WeightedReward
from lightning_gfn.rollouts.proofs.proving import Proving

LONG = ProofPrompt(max_state_chars=900)
ROWS = [
    {
        "prompt": f"Q: {i} + {i}?\n",
        "completions": [f"{i}\n\n", f"{2 * i}"],
        "labels": [True, True],
        "problem_id": str(i),
    }
    for i in range(1, 9)
]


class Fake(RewardNetwork):
    """Trained on prompts of this template."""

    is_calibrated = True

    def __init__(self, prompt_template: str | None = None) -> None:
        self.prompt_template = prompt_template

    def score_steps(self, prompts: Sequence[str], steps: Sequence[Sequence[str]], device: Any) -> list[list[float]]:
        return [[0.0] * len(solution) for solution in steps]


def proving(prompt: ProofPrompt | None = None) -> Proving:
    return Proving(LeanPool(FakeLean(), num_workers=1), prompt=prompt)


def words(**settings: Any) -> SyntheticWordProblems:
    return SyntheticWordProblems(levels={1: 1.0}, num_train=8, num_val=4, num_test=4, **settings)


def written(path: Path, **columns: Any) -> str:
    path.write_text("".join(json.dumps({**row, **columns}) + "\n" for row in ROWS))
    return str(path)


@pytest.mark.parametrize(("in_data", "in_proving"), [(LONG, None), (None, LONG), (ProofPrompt(history=False), None)])
@pytest.mark.parametrize("kind", ["sft", "rollouts"])
def test_data_written_with_another_proof_prompt_are_refused(
    make_policy: Any, make_trainer: Any, in_data: Any, in_proving: Any, kind: str
) -> None:
    policy, how = make_policy(), proving(in_proving)
    module = SFTModule(policy, proving=how) if kind == "sft" else GFlowNetModule(
        policy, VarGrad(), ProofReward(), proving=how
    )  # fmt: skip
    data = LeanSynthetic(prompt=in_data, max_train_theorems=4, train_on="tactics" if kind == "sft" else "theorems")
    with pytest.raises(
        ValueError, match=r"data\.prompt \(LeanSynthetic\) is .*model\.proving\.prompt .*set both alike"
    ):
        make_trainer(1).fit(module, datamodule=data)
    assert policy.model is None, "refused before a model is loaded"


def test_equal_proof_prompts_pass(make_policy: Any, make_trainer: Any) -> None:
    class Reached(Exception):
        """The model would be loaded now."""

    for in_data, in_proving in ((None, None), (None, ProofPrompt()), (LONG, LONG)):
        module = SFTModule(make_policy(), proving=proving(in_proving))
        data = LeanSynthetic(prompt=in_data, max_train_theorems=4, train_on="tactics")

        def stop() -> None:
            raise Reached

        module.configure_model = stop  # type: ignore[method-assign]
        with pytest.raises(Reached):
            make_trainer(1).fit(module, datamodule=data)


def in_a_sum(reward: Reward) -> Reward:
    return SumReward({"other": WeightedReward(AnswerMatch()), "proof": WeightedReward(reward)})


@pytest.mark.parametrize("wrapped", [lambda reward: reward, in_a_sum], ids=["alone", "in a sum"])
def test_a_reward_network_reads_what_the_policy_reads(make_policy: Any, wrapped: Any) -> None:
    follows, equal = ProofReward(network=Fake()), ProofReward(network=Fake(), prompt=LONG)
    for reward in (follows, equal):
        GFlowNetModule(make_policy(), VarGrad(), wrapped(reward), proving=proving(LONG))
        assert reward.prompt == LONG
    other = ProofReward(network=Fake(), prompt=ProofPrompt(history=False))
    with pytest.raises(ValueError, match=r"model\.reward \(ProofReward\) has prompt .*model\.proving has .*Remove the"):
        PolicyGradientModule(make_policy(), GRPO(), wrapped(other), num_samples=4, proving=proving(LONG))
    without = ProofReward(prompt=ProofPrompt(history=False))
    GFlowNetModule(make_policy(), VarGrad(), wrapped(without), proving=proving(LONG))


def test_a_reward_network_of_other_prompts_is_refused(make_policy: Any, make_trainer: Any) -> None:
    policy = make_policy()
    reward = in_a_sum(LearnedReward(Fake("Question: {question}\nAnswer:\n")))
    module = GFlowNetModule(policy, VarGrad(), reward)
    wrong = (
        r"data\.prompt_template \(SyntheticWordProblems\) is '\{question\}\\n'.*trained on prompts 'Question.*set data"
    )
    with pytest.raises(ValueError, match=wrong):
        make_trainer(1).fit(module, datamodule=words())
    assert policy.model is None
    for network, template in ((Fake("{question}\n"), "{question}\n"), (Fake(), "Q: {question}\n")):
        GFlowNetModule(policy, VarGrad(), LearnedReward(network)).trainer = make_trainer(1)
        module = GFlowNetModule(policy, VarGrad(), LearnedReward(network))
        module.trainer = make_trainer(1)
        module.trainer.datamodule = words(prompt_template=template)  # type: ignore[attr-defined]
        module.setup("fit")


def test_what_is_known_of_a_template(tmp_path: Path) -> None:
    assert known_template(None) is None
    assert known_template(words(prompt_template="Q: {question}")) == "Q: {question}"
    assert known_template(LeanSynthetic()) is None, "theorems have a proof prompt"
    assert known_template(StepwiseRows(written(tmp_path / "rows.jsonl"))) is None, "rows hold whole prompts"
    assert known_template(SampledSolutions(words(prompt_template="Q: {question}"))) == "Q: {question}"
    wrapped = SampledSolutions(LeanSynthetic(prompt=LONG))
    assert wrapped.proof_prompt == LONG and known_template(wrapped) is None


@pytest.mark.parametrize("kind", [StepwiseRows, OutcomeRows])
def test_rows_say_how_their_prompts_were_made(kind: Any, tmp_path: Path) -> None:
    columns: dict[str, Any] = {"completion": "1\n2", "label": True}
    for template in ("Q: {question}\n", None):
        file = written(tmp_path / "rows.jsonl", **columns, **({"prompt_template": template} if template else {}))
        data = kind(file, val_fraction=0.0, test_fraction=0.0)
        data.problems("train")
        assert known_template(data) == template
    file = written(tmp_path / "rows.jsonl", **columns, prompt_template="Q: {question}\n")
    again = kind(file, prompt_template="{question}\n", val_fraction=0.0, test_fraction=0.0)
    with pytest.raises(ValueError, match=r"rows\.jsonl:1: .*made with 'Q: .*set data\.prompt_template"):
        again.problems("train")
    file = written(tmp_path / "rows.jsonl", **columns, prompt_template=3)
    with pytest.raises(ValueError, match="prompt_template.*expected text, found 3"):
        kind(file, val_fraction=0.0, test_fraction=0.0).problems("train")


def reward_model(**settings: Any) -> RewardModelModule:
    config = {
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 128,
    }  # fmt: skip
    network = LanguageRewardNetwork(
        config=config, tokenizer=TokenizerSettings(), max_prompt_tokens=32, max_completion_tokens=32
    )
    return RewardModelModule(network, **settings)


def test_a_reward_network_keeps_separator_and_template_of_its_data(make_trainer: Any, tmp_path: Path) -> None:
    """In its folder and in its checkpoint; a reward takes the separator over and refuses another one."""
    file = written(tmp_path / "rows.jsonl", prompt_template="Q: {question}\n")
    module, trainer = reward_model(), make_trainer(1)
    trainer.fit(module, datamodule=StepwiseRows(file, separator="\n\n", batch_size=4, val_fraction=0.0))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    module.network.save_pretrained(tmp_path / "prm" / "model")
    for path in ("prm", "last.ckpt"):
        network = TrainedRewardNetwork(str(tmp_path / path))
        assert (network.separator, network.prompt_template) == ("\n\n", "Q: {question}\n")
        assert len(network.score_steps(["Q"], [["1\n\n", "2"]], "cpu")[0]) == 2
        assert LearnedReward(network).separator == "\n\n"
        with pytest.raises(ValueError, match="reward.separator is .*trained on steps that end in"):
            LearnedReward(network, separator="\n")
    saved = tmp_path / "prm" / "model" / "reward_network.json"
    older = {k: v for k, v in json.loads(saved.read_text()).items() if k not in ("separator", "prompt_template")}
    saved.write_text(json.dumps(older))
    network = TrainedRewardNetwork(str(tmp_path / "prm"))
    assert network.separator is None and network.prompt_template is None, "folders of earlier runs are still read"


def test_separators_of_data_and_reward_model_are_compared(make_trainer: Any, tmp_path: Path) -> None:
    data = StepwiseRows(written(tmp_path / "rows.jsonl"), separator="\n\n", batch_size=4, val_fraction=0.0)
    module = reward_model(separator="\n")
    with pytest.raises(
        ValueError, match=r"model\.separator is '\\n', but data\.separator \(StepwiseRows\) is '\\n\\n'"
    ):
        make_trainer(1).fit(module, datamodule=data)
    assert module.network.model is None
    with pytest.raises(ValueError, match=r"model\.separator is empty"):
        reward_model(separator="")
