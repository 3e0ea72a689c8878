"""What every module of a policy does: build it, and evaluate it by sampling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, ClassVar, Literal

from torch import Tensor

from lightning_gfn.interfaces import Policy
from lightning_gfn.module_interfaces import EvaluatedModule
from lightning_gfn.modules.base import TrainedModule
from lightning_gfn.modules.settings import EvaluationSettings, OptimizerSettings
from lightning_gfn.modules.text_check import check_texts
from lightning_gfn.policies.heads import Head, LogZScalar
from lightning_gfn.policies.models.repeated_layers import repeated_layers
from lightning_gfn.rollouts.evaluating.beams import search_completions
from lightning_gfn.rollouts.evaluation import sample_completions
from lightning_gfn.rollouts.labels.answers import answers_by_label, label_records
from lightning_gfn.rollouts.labels.scores import with_label_scores
from lightning_gfn.rollouts.proofs.proof_evaluation import sample_proofs
from lightning_gfn.rollouts.proofs.proving import Proving, check_data_prompt
from lightning_gfn.rollouts.reasoning.branching import with_branches
from lightning_gfn.rollouts.reference import with_reference_scores, with_target_scores
from lightning_gfn.types import EvalRecord, LossOutput, Problem


class PolicyModule(TrainedModule, EvaluatedModule):
    """A policy in training; subclasses give ``training_step``.

    Args:
        policy: the language model; its weights are loaded in ``configure_model``, after every check has passed.
        optimizer: AdamW settings.
        evaluation: how completions are drawn in validation, test and prediction.
        method: the name under which results are compared; the class of the objective if None.
        proving: environment and prompt, where problems are theorems.

    Raises:
        ValueError: branches are asked of a policy that a server samples from.
    """

    overlong_targets: ClassVar[Literal["unused", "cut"]] = "unused"
    """What becomes of overlong texts that the module trains on."""
    trains_with_dropout: ClassVar[bool] = False
    """With dropout, the policy that is trained is not the one that sampled: ratios are noise before any update."""

    def __init__(
        self,
        policy: Policy,
        *,
        optimizer: OptimizerSettings | None = None,
        evaluation: EvaluationSettings | None = None,
        method: str | None = None,
        proving: Proving | None = None,
    ) -> None:
        super().__init__(optimizer=optimizer, method=method)
        if policy.uses_tools and (proving is not None or (evaluation is not None and evaluation.beams is not None)):
            other = "model.proving" if proving is not None else "model.evaluation.beams"
            raise ValueError(f"model.policy.tools write into completions that are sampled: leave tools or {other} out")
        self.proving: Proving | None = proving
        self.environment_totals: dict[str, float] = {}
        self.policy = policy
        self.evaluation = evaluation if evaluation is not None else EvaluationSettings()
        if self.evaluation.branches is not None and getattr(policy, "engine", None) is not None:
            raise ValueError(
                "evaluation.branches begins completions with given tokens, which policy.vllm cannot: set one to null"
            )
        self.head: Head | None = None

    # ---------------------------------------------------------------- building and data

    def setup(self, stage: str) -> None:
        """Refuse data that were written with another prompt than the policy will be asked with.

        Raises:
            ValueError: names both settings.
        """
        super().setup(stage)
        if self.proving is not None:
            check_data_prompt(self.proving, getattr(self.trainer, "datamodule", None))

    def check_shards(self) -> None:
        """See ``TrainedModule.check_shards``."""
        super().check_shards()
        if isinstance(self.head, LogZScalar):
            raise ValueError(
                "model.head LogZScalar is a single number, which trainer.strategy fsdp2 cannot cut: use "
                "lightning_gfn.policies.heads.LogZHead, or set trainer.strategy to ddp"
            )

    def configure_model(self) -> None:
        """Load or create tokenizer and weights, once; the policy as it is now becomes the reference of this stage."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if self.is_built:
            check_texts(self.policy, datamodule, self.stage, targets=self.overlong_targets)
            return
        if self.proving is not None:
            self.proving.environment.setup()
        self.policy.build(datamodule.training_texts() if datamodule is not None else ())
        check_texts(self.policy, datamodule, self.stage, targets=self.overlong_targets)
        self.policy.set_dropout(self.trains_with_dropout)
        if self.needs_reference:
            self.policy.freeze_reference()
        if self.head is not None:
            self.head.build_for(self.policy)
        self.cut()
        self.is_built = True

    def cut(self) -> None:
        """Cut the weights of policy and head over the processes, if the strategy does so."""
        super().cut()
        if self.shards is not None and self.head is not None:
            self.shards.cut(self.head, repeated_layers(self.head), "read")

    @property
    def needs_reference(self) -> bool:
        """True if this stage scores under the policy as it was at its start."""
        return self.evaluation.labels_by == "reference"

    # ---------------------------------------------------------------- environment

    def teardown(self, stage: str) -> None:
        """End the workers of the environment; they start again where they are needed."""
        if self.proving is not None:
            self.proving.environment.close()

    def log_output(self, output: LossOutput, **values: float | Tensor) -> None:
        """Log a loss, and what the environment did since the last one."""
        super().log_output(output, **values, **self.environment_metrics())

    def on_validation_end(self) -> None:
        """What validation asked of the environment is no part of the next training step's metrics."""
        self.environment_metrics()

    def environment_metrics(self) -> dict[str, float]:
        """What the environment's counters have gained since the last call, as ``env_<name>``."""
        if self.proving is None:
            return {}
        totals = {name: float(value) for name, value in self.proving.environment.counters().items()}
        before, self.environment_totals = self.environment_totals, totals
        return {f"env_{name}": value - before.get(name, 0.0) for name, value in totals.items()}

    def environment_record(self) -> dict[str, Any]:
        """Backend, version and limits of the environment, for results; empty without one."""
        if self.proving is None:
            return {}
        limits = {"max_steps": self.proving.steps_in_evaluation}
        return {**self.proving.environment.describe(), **limits}

    # ---------------------------------------------------------------- evaluation

    def decoding(self) -> dict[str, Any]:
        """Evaluation settings and the policy's lengths, by name."""
        lengths = {"max_new_tokens": self.policy.max_new_tokens, "min_new_tokens": self.policy.min_new_tokens}
        return {**asdict(self.evaluation), **lengths}

    def sample_records(self, problems: list[Problem]) -> list[EvalRecord]:
        """Completions of these problems at every temperature of the evaluation grid."""
        settings = self.evaluation
        temperatures = settings.temperatures
        if settings.fit_temperatures is not None and self.trainer.state.fn == "fit":
            temperatures = settings.fit_temperatures
        records: list[EvalRecord] = []
        for temperature in temperatures:
            records += self.records_at(problems, temperature)
        if settings.branches is not None and self.trainer.state.fn in ("validate", "test"):
            how: dict[str, Any] = {"max_rows": settings.max_rows, "device": self.device}
            records = with_branches(self.policy, records, num_branches=settings.branches, **how)
        records = self.with_rewards(records)
        if settings.score_references:
            records = with_reference_scores(self.policy, records, max_rows=settings.max_rows, device=self.device)
        records = with_label_scores(self.policy, records, **self.label_settings())
        return with_target_scores(self.policy, records, max_rows=settings.max_rows, device=self.device)

    def with_rewards(self, records: list[EvalRecord]) -> list[EvalRecord]:
        """The records with what the reward says of their samples; as they are where there is none that weighs them."""
        return records

    def label_settings(self) -> dict[str, Any]:
        """How labels are scored."""
        settings = self.evaluation
        return {
            "max_rows": settings.max_rows,
            "reference": settings.labels_by == "reference",
            "swap": settings.swap_rationales,
        }

    def records_at(self, problems: list[Problem], temperature: float) -> list[EvalRecord]:
        """Completions at one temperature, in the order of problems: proofs of theorems, labels where those answer.

        Raises:
            ValueError: a problem is a theorem and there is no environment.
        """
        settings = self.evaluation
        how: dict[str, Any] = {
            "num_samples": settings.num_samples,
            "temperature": temperature,
            "top_k": settings.top_k,
            "top_p": settings.top_p,
            "seed": settings.seed,
            "max_rows": settings.max_rows,
        }
        theorems = [problem for problem in problems if problem.theorem is not None]
        classified = [problem for problem in problems if answers_by_label(problem)]
        others = [problem for problem in problems if problem.theorem is None and not answers_by_label(problem)]
        if theorems and self.proving is None:
            raise ValueError(f"problem {theorems[0].id!r} is a theorem: set model.proving.environment")
        proofs: Iterator[EvalRecord] = iter(())
        if self.proving is not None and theorems:
            proofs = iter(sample_proofs(self.policy, theorems, self.proving, device=self.device, **how))
        if settings.beams is not None and theorems:
            raise ValueError(f"problem {theorems[0].id!r} is a theorem: evaluation.beams searches no proofs, remove it")
        answers: Iterator[EvalRecord] = iter(())
        if classified:
            drawn = {name: how[name] for name in ("num_samples", "temperature", "seed")}
            answers = iter(label_records(self.policy, classified, **drawn, **self.label_settings()))
        completions = iter(self.completions_of(others, how) if others else ())
        kinds = (proofs if p.theorem is not None else answers if answers_by_label(p) else completions for p in problems)
        return [next(kind) for kind in kinds]

    def completions_of(self, problems: list[Problem], how: dict[str, Any]) -> list[EvalRecord]:
        """Completions that are sampled, or searched for where ``evaluation.beams`` is set.

        Args:
            problems: none of them a theorem.
            how: arguments of ``sample_completions``.
        """
        beams, max_rows = self.evaluation.beams, self.evaluation.max_rows
        if beams is None:
            return sample_completions(self.policy, problems, **how)
        return search_completions(
            self.policy,
            problems,
            beams,
            num_samples=self.evaluation.num_samples,
            max_rows=max_rows,
            device=self.device,
        )

    def validation_step(self, batch: list[Problem], batch_idx: int) -> list[EvalRecord]:  # type: ignore[override]
        """Sample; callbacks turn the records into metrics."""
        return self.sample_records(batch)

    def test_step(self, batch: list[Problem], batch_idx: int) -> list[EvalRecord]:  # type: ignore[override]
        """Sample; callbacks turn the records into metrics."""
        return self.sample_records(batch)

    def predict_step(self, batch: list[Problem], batch_idx: int) -> list[EvalRecord]:
        """Sample; the prediction writer stores the records."""
        return self.sample_records(batch)
