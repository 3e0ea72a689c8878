"""Training a reward model: on judged solutions, on solutions judged step by step, or on preferences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_gfn.answers.steps import check_separator, split_steps
from lightning_gfn.interfaces import Objective
from lightning_gfn.modules.base import TrainedModule
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.modules.text_check import check_texts
from lightning_gfn.objectives.regimes import REWARD_MODEL, check_regime
from lightning_gfn.objectives.reward_model import LabelLoss
from lightning_gfn.policies.reward_models.network import LanguageRewardNetwork
from lightning_gfn.preference_types import JudgedSolution, Judgement, LabelledCompletion, Preference
from lightning_gfn.prompts.question_template import known_template

Labelled = JudgedSolution | LabelledCompletion
LABEL_COLUMNS = frozenset({"score_BS", "label_BS", "label_mask_BS"})
PAIR_COLUMNS = frozenset({"score_B", "chosen_B", "pair_B"})


def as_judged(row: Labelled, separator: str) -> JudgedSolution:
    """A completion judged as a whole becomes a solution in steps whose last one is labelled.

    Args:
        row: a judged solution stays as it is.
        separator: what ends a step.

    Raises:
        ValueError: the completion has no visible text.
    """
    if isinstance(row, JudgedSolution):
        return row
    steps = split_steps(row.completion, separator)
    if not steps:
        raise ValueError(f"row {row.id!r}: the completion has no visible text: leave the row out")
    labels = (None,) * (len(steps) - 1) + (float(row.label),)
    return JudgedSolution(id=row.id, prompt=row.prompt, steps=tuple(steps), labels=labels)


def label_tensors(rows: Sequence[JudgedSolution], width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Labels (B, S), 0 where there is none, and the bool mask of those that there are."""
    labels = [[*row.labels, *[None] * (width - len(row.labels))] for row in rows]
    mask_BS = torch.tensor([[label is not None for label in row] for row in labels], device=device)
    known = [[0.0 if label is None else float(label) for label in row] for row in labels]
    return torch.tensor(known, device=device), mask_BS


class RewardModelModule(TrainedModule):
    """Trains a network that judges solutions.

    The regime follows from objective and data: ``LabelLoss`` takes solutions with a label at the end (outcome) or at
    each step (process), ``BradleyTerry`` takes preferences. Validation and test return a ``Judgement`` for each label;
    of a pair both orders are judged, with P(first preferred) = σ(s_first - s_second).

    Args:
        network: a language model with a scalar output.
        objective: a loss over the network's scores.
        optimizer: AdamW settings.
        separator: what ends a step in completions that come as one text; that of the data if None, else a line break.
            The network keeps it, and the prompt template of the data, for the rewards that use it.
        method: the name under which results are compared.
    """

    model_name: ClassVar[str] = "network"

    def __init__(
        self,
        network: LanguageRewardNetwork,
        objective: Objective | None = None,
        *,
        optimizer: OptimizerSettings | None = None,
        separator: str | None = None,
        method: str = "reward_model",
    ) -> None:
        super().__init__(optimizer=optimizer, method=method)
        self.objective = objective if objective is not None else LabelLoss()
        check_regime(self.objective, {REWARD_MODEL}, type(self).__name__)
        self.takes_pairs = self.objective.requires <= PAIR_COLUMNS
        if not self.takes_pairs and not self.objective.requires <= LABEL_COLUMNS:
            raise ValueError(
                f"objective {type(self.objective).__name__} needs {sorted(self.objective.requires)}, a reward model "
                "gives scores and labels: choose LabelLoss or BradleyTerry of lightning_gfn.objectives.reward_model"
            )
        self.network = network
        self.network.is_calibrated = not self.takes_pairs
        if separator is not None:
            check_separator(separator, "model.separator")
        self.given_separator = separator
        self.separator: str = separator or "\n"

    def setup(self, stage: str) -> None:
        """Take over from the data how steps end and what prompts are, so that rewards can compare.

        Raises:
            ValueError: the data's separator is another one than the module's.
        """
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        own = getattr(data, "separator", None)
        if None not in (own, self.given_separator) and own != self.given_separator:
            raise ValueError(
                f"model.separator is {self.given_separator!r}, but data.separator ({type(data).__name__}) is {own!r}: "
                "remove model.separator, or set both alike"
            )
        self.separator = own or self.separator
        if stage == "fit":
            self.network.separator, self.network.prompt_template = self.separator, known_template(data)

    def configure_model(self) -> None:
        """Load or create tokenizer and weights, once."""
        if self.is_built:
            return
        datamodule = getattr(self.trainer, "datamodule", None)
        self.network.build(datamodule.training_texts() if datamodule is not None else ())
        check_texts(self.network, datamodule, self.stage, targets="refused")
        self.cut()
        self.is_built = True

    # ---------------------------------------------------------------- columns

    def label_columns(self, batch: Sequence[Labelled]) -> tuple[list[JudgedSolution], dict[str, Tensor], int]:
        """Solutions with their scores and labels, and the tokens read."""
        rows = [as_judged(row, self.separator) for row in batch]
        score_BS, _, tokens = self.network([row.prompt for row in rows], [row.steps for row in rows])
        label_BS, mask_BS = label_tensors(rows, score_BS.shape[1], score_BS.device)
        return rows, {"score_BS": score_BS, "label_BS": label_BS, "label_mask_BS": mask_BS}, tokens

    def pair_columns(self, batch: Sequence[Preference]) -> tuple[dict[str, Tensor], int]:
        """Scores of preferred and other completions, one after the other, and the tokens read.

        Raises:
            ValueError: a completion has no visible text.
        """
        texts = [text for pair in batch for text in (pair.chosen, pair.rejected)]
        steps = [split_steps(text, self.separator) for text in texts]
        for b, solution in enumerate(steps):
            if not solution:
                raise ValueError(f"pair {batch[b // 2].id!r}: a completion has no visible text: leave the pair out")
        score_BS, _, tokens = self.network([pair.prompt for pair in batch for _ in range(2)], steps)
        last_B1 = torch.tensor([[len(solution) - 1] for solution in steps], device=score_BS.device)
        order_B = torch.arange(len(texts), device=score_BS.device)
        score_B = score_BS.gather(1, last_B1).squeeze(1)
        return {"score_B": score_B, "chosen_B": order_B % 2 == 0, "pair_B": order_B // 2}, tokens

    def check_batch(self, batch: Sequence[Any]) -> None:
        """Refuse data of the other regime.

        Raises:
            TypeError: naming what is needed.
        """
        wanted = (Preference,) if self.takes_pairs else (JudgedSolution, LabelledCompletion)
        if not isinstance(batch[0], wanted):
            names = " or ".join(kind.__name__ for kind in wanted)
            raise TypeError(
                f"objective {type(self.objective).__name__} trains on {names}, the data give "
                f"{type(batch[0]).__name__}: choose a datamodule of datamodules.step_labels (labels) or "
                "datamodules.preference (pairs), or the other objective"
            )

    # ---------------------------------------------------------------- steps

    def training_step(self, batch: Sequence[Any], batch_idx: int) -> dict[str, Any]:
        """One step on labels or pairs."""
        self.check_batch(batch)
        if self.takes_pairs:
            columns, tokens = self.pair_columns(batch)
        else:
            _, columns, tokens = self.label_columns(batch)
        output = self.objective(columns)
        self.log_output(output)
        return {
            "loss": self.window_loss(output), "generated_tokens": 0, "reward_calls": 0, "gradient_tokens": tokens
        }  # fmt: skip

    def judge(self, batch: Sequence[Any]) -> list[Judgement]:
        """What the network says of every label of a batch."""
        self.check_batch(batch)
        if self.takes_pairs:
            score_B = self.pair_columns(batch)[0]["score_B"].double()
            differences = (score_B[::2] - score_B[1::2]).tolist()
            return [
                Judgement(pair.id, order, sign * difference, label)
                for pair, difference in zip(batch, differences, strict=True)
                for order, sign, label in ((0, 1.0, 1.0), (1, -1.0, 0.0))
            ]
        rows, columns, _ = self.label_columns(batch)
        return [
            Judgement(row.id, step, log_odds, label)
            for row, scores in zip(rows, columns["score_BS"].double().tolist(), strict=True)
            for step, (log_odds, label) in enumerate(zip(scores, row.labels, strict=False))
            if label is not None
        ]

    def validation_step(self, batch: Sequence[Any], batch_idx: int) -> list[Judgement]:  # type: ignore[override]
        """Judge; a callback turns the judgements into metrics."""
        return self.judge(batch)

    def test_step(self, batch: Sequence[Any], batch_idx: int) -> list[Judgement]:  # type: ignore[override]
        """Judge; a callback turns the judgements into metrics."""
        return self.judge(batch)

    # ---------------------------------------------------------------- state

    def extra_state(self) -> dict[str, Any]:
        """What a reward needs to load the network from the checkpoint alone."""
        return {"network": {**self.network.settings(), **self.network.kind()}}
