"""Learning from preferences: one scoring pass for all completions, a frozen reference scored once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_gfn.interfaces import Objective, Policy
from lightning_gfn.modules.policy_module import PolicyModule
from lightning_gfn.modules.reference_scores import ReferenceScores
from lightning_gfn.modules.settings import EvaluationSettings, OptimizerSettings
from lightning_gfn.modules.training_batch.columns import trajectory_log_prob
from lightning_gfn.modules.training_batch.trajectory_layout import JoinedLayout
from lightning_gfn.objectives.regimes import PREFERENCE, check_regime
from lightning_gfn.preference_types import LabelledCompletion, Preference
from lightning_gfn.rollouts.proofs.proving import Proving
from lightning_gfn.rollouts.reference import text_rollouts
from lightning_gfn.types import Problem, Rollouts

Examples = Sequence[Preference | LabelledCompletion]
PROVIDED = frozenset(
    {"log_pf_B", "ref_log_pf_B", "pair_B", "chosen_B", "unrelated_log_ratio_B", "mask_BT", "forced_stop_B"}
)


class PreferenceModule(PolicyModule):
    """Trains a policy on preferences or on labelled completions, against the policy that it starts as.

    The reference is scored once for each completion; its log-probabilities are part of the checkpoint.

    Args:
        policy: the language model.
        objective: DPO, IPO or KTO.
        optimizer: AdamW settings.
        evaluation: how completions are drawn in validation, test and prediction.
        method: the name under which results are compared; the class of the objective if None.
        proving: environment and prompt, where problems are theorems.
    """

    overlong_targets = "cut"

    def __init__(
        self,
        policy: Policy,
        objective: Objective,
        *,
        optimizer: OptimizerSettings | None = None,
        evaluation: EvaluationSettings | None = None,
        method: str | None = None,
        proving: Proving | None = None,
    ) -> None:
        name = method if method is not None else type(objective).__name__
        super().__init__(policy, optimizer=optimizer, evaluation=evaluation, method=name, proving=proving)
        check_regime(objective, {PREFERENCE}, type(self).__name__)
        if missing := objective.requires - PROVIDED:
            raise ValueError(
                f"objective {type(objective).__name__} needs {sorted(missing)}, which preferences do not give: choose "
                "DPO, IPO or KTO of lightning_gfn.objectives.preference"
            )
        self.objective = objective
        self.reference = ReferenceScores()

    @property
    def needs_reference(self) -> bool:
        """True: every objective over preferences compares with the reference."""
        return True

    def setup(self, stage: str) -> None:
        """Refuse training data of the wrong kind, before a model is loaded.

        Raises:
            ValueError: the objective compares pairs and the data are single completions, or the other way round.
        """
        super().setup(stage)
        examples = getattr(getattr(self.trainer, "datamodule", None), "examples", None)
        if stage == "fit" and examples:
            self.check_examples(examples[:1])

    def check_examples(self, examples: Examples) -> None:
        """Refuse examples that the objective cannot read.

        Raises:
            ValueError: says which kind it needs.
        """
        name = type(self.objective).__name__
        paired = isinstance(examples[0], Preference)
        if "pair_B" in self.objective.requires and not paired:
            raise ValueError(
                f"objective {name} compares two completions of a prompt, and the data are single labelled ones: "
                "give rows with chosen and rejected, or choose KTO"
            )
        if "unrelated_log_ratio_B" in self.objective.requires and paired:
            raise ValueError(
                f"objective {name} reads single labelled completions, and the data are pairs: "
                "set data.unpair to true, or choose DPO or IPO"
            )

    def training_step(self, batch: Examples, batch_idx: int) -> dict[str, Any]:
        """One pass over the completions of all examples, and the objective's loss."""
        self.check_examples(batch)
        problems, index, texts, chosen = rows_of(batch)
        rollouts, num_cut = text_rollouts(self.policy, problems, index, texts, self.device)
        columns = {
            "pair_B": rollouts.problem_index_B,
            "chosen_B": torch.tensor(chosen, device=rollouts.problem_index_B.device),
            "mask_BT": JoinedLayout(rollouts).mask_BT,
            "forced_stop_B": rollouts.action_mask_NT.sum(1) >= self.policy.max_new_tokens,
        }
        with self.whole_weights():
            columns["ref_log_pf_B"] = self.reference_log_pf(problems, index, texts)
            if "unrelated_log_ratio_B" in self.objective.requires:
                columns["unrelated_log_ratio_B"] = self.unrelated_log_ratio(batch, problems)
        output = self.objective({**columns, "log_pf_B": self.log_pf(rollouts)})
        self.log_output(output, truncated_completions=float(num_cut), truncated_share=num_cut / len(texts))
        tokens = int(rollouts.action_mask_NT.sum() + rollouts.context_mask_NC.sum())
        counts = {"generated_tokens": 0, "reward_calls": 0, "gradient_tokens": tokens}
        return {"loss": self.window_loss(output), **counts}

    def log_pf(self, rollouts: Rollouts) -> Tensor:
        """log q of each whole completion under the present policy, (B,), nats."""
        return trajectory_log_prob(self.policy.score(rollouts.steps), rollouts)

    def reference_log_pf(self, problems: Sequence[Problem], index: Sequence[int], texts: Sequence[str]) -> Tensor:
        """log q_ref of each whole completion, (B,), nats, constant."""
        frozen = ((n, p) for n, p in self.named_parameters() if n.startswith("policy.") and not p.requires_grad)
        return self.reference.log_pf(self.policy, frozen, problems, index, texts, self.device)

    @torch.no_grad()
    def unrelated_log_ratio(self, batch: Examples, problems: Sequence[Problem]) -> Tensor:
        """log q - log q_ref of each example's completion of another prompt, (B,), nats, constant.

        Raises:
            ValueError: an example has no completion of another prompt.
        """
        texts = [example.unrelated for example in batch if isinstance(example, LabelledCompletion)]
        given = [text for text in texts if text is not None]
        if len(given) < len(batch):
            raise ValueError("an example has no completion of another prompt: use PreferenceDataModule, which adds one")
        rollouts, _ = text_rollouts(self.policy, problems, range(len(given)), given, self.device)
        return self.log_pf(rollouts) - self.reference_log_pf(problems, range(len(given)), given)

    def extra_state(self) -> dict[str, Any]:
        """Log-probabilities under the reference."""
        return {"reference_scores": self.reference.state()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the log-probabilities under the reference."""
        self.reference.load_state(state["reference_scores"])


def rows_of(examples: Examples) -> tuple[list[Problem], list[int], list[str], list[bool]]:
    """Prompts as problems, one an example; and of each completion: its prompt, its text, whether it is preferred."""
    problems = [Problem(id=example.id, prompt=example.prompt) for example in examples]
    rows: list[tuple[int, str, bool]] = []
    for p, example in enumerate(examples):
        if isinstance(example, Preference):
            rows += [(p, example.chosen, True), (p, example.rejected, False)]
        else:
            rows.append((p, example.completion, example.label))
    return problems, [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
