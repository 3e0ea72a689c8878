"""What every module of a policy does: build it, and evaluate it by sampling."""

from __future__ import annotations

from lightning_gfn.interfaces import Policy
from lightning_gfn.modules.settings import EvaluationSettings, OptimizerSettings
from lightning_gfn.modules.trained import TrainedModule
from lightning_gfn.policies.heads import Head
from lightning_gfn.rollouts.evaluation import sample_completions
from lightning_gfn.rollouts.reference import with_reference_scores
from lightning_gfn.types import EvalRecord, Problem


class PolicyModule(TrainedModule):
    """A policy in training; subclasses give ``training_step``.

    Args:
        policy: the language model; its weights are loaded in ``configure_model``, after every check has passed.
        optimizer: AdamW settings.
        evaluation: how completions are drawn in validation, test and prediction.
        method: the name under which results are compared; the class of the objective if None.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        optimizer: OptimizerSettings | None = None,
        evaluation: EvaluationSettings | None = None,
        method: str | None = None,
    ) -> None:
        super().__init__(optimizer=optimizer, method=method)
        self.policy = policy
        self.evaluation = evaluation if evaluation is not None else EvaluationSettings()
        self.head: Head | None = None

    # ---------------------------------------------------------------- building and data

    def configure_model(self) -> None:
        """Load or create tokenizer and weights, once; the policy as it is now becomes the reference of this stage."""
        if self.is_built:
            return
        datamodule = getattr(self.trainer, "datamodule", None)
        self.policy.build(datamodule.training_texts() if datamodule is not None else ())
        if self.needs_reference:
            self.policy.freeze_reference()
        if self.head is not None:
            self.head.build_for(self.policy)
        self.is_built = True

    @property
    def needs_reference(self) -> bool:
        """True if this stage scores under the policy as it was at its start."""
        return False

    # ---------------------------------------------------------------- evaluation

    def sample_records(self, problems: list[Problem]) -> list[EvalRecord]:
        """Completions of these problems at every temperature of the evaluation grid."""
        settings = self.evaluation
        temperatures = settings.temperatures
        if settings.fit_temperatures is not None and self.trainer.state.fn == "fit":
            temperatures = settings.fit_temperatures
        records: list[EvalRecord] = []
        for temperature in temperatures:
            records += sample_completions(
                self.policy,
                problems,
                num_samples=settings.num_samples,
                temperature=temperature,
                top_k=settings.top_k,
                top_p=settings.top_p,
                seed=settings.seed,
                max_rows=settings.max_rows,
            )
        if settings.score_references:
            records = with_reference_scores(self.policy, records, max_rows=settings.max_rows, device=self.device)
        return records

    def validation_step(self, batch: list[Problem], batch_idx: int) -> list[EvalRecord]:  # type: ignore[override]
        """Sample; callbacks turn the records into metrics."""
        return self.sample_records(batch)

    def test_step(self, batch: list[Problem], batch_idx: int) -> list[EvalRecord]:  # type: ignore[override]
        """Sample; callbacks turn the records into metrics."""
        return self.sample_records(batch)

    def predict_step(self, batch: list[Problem], batch_idx: int) -> list[EvalRecord]:
        """Sample; the prediction writer stores the records."""
        return self.sample_records(batch)
