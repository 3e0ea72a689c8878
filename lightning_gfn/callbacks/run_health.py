"""A run that cannot learn, or whose results mean nothing, says so and says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from lightning.pytorch import Callback

from lightning_gfn.callbacks.common.console import write_line
from lightning_gfn.callbacks.common.run_files import run_folder, send_artifact
from lightning_gfn.callbacks.health.checks import vain_settings
from lightning_gfn.callbacks.health.rules import TRAINING_RULES, Rule, source_rules
from lightning_gfn.callbacks.health.streaks import Streaks
from lightning_gfn.types import Source
from lightning_gfn.whole_files import replace_text

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

LIMITS = {"validate": "val"}


@runtime_checkable
class AsksSources(Protocol):
    """A module that says where its trajectories are asked to come from."""

    @property
    def asked_sources(self) -> frozenset[Source]:
        """Sources with a share above 0."""


def has_reached_its_end(trainer: Trainer) -> bool:
    """True if training has taken all the steps or epochs that it was given."""
    steps, epochs = trainer.max_steps, trainer.max_epochs
    return 0 < steps <= trainer.global_step or (epochs is not None and 0 < epochs <= trainer.current_epoch)


class RunHealth(Callback):
    """Says in a sentence, with the remedy, what makes training idle: on the console and in ``warnings.txt``.

    What the settings show is said before the first step, what the metrics show as soon as it has held for a rule's
    number of observations in a row, each once; and once more at the end what held from the first step to the last.
    Metrics are watched on their device and read at the steps that are logged (``trainer.log_every_n_steps``). With
    several processes a rule must hold on all of them.

    Args:
        patience: observations in a row after which a rule speaks; each rule's own number if None.
        ignore: names of rules and checks that stay silent.
    """

    def __init__(self, *, patience: int | None = None, ignore: tuple[str, ...] = ()) -> None:
        if patience is not None and patience < 1:
            raise ValueError(f"RunHealth: patience={patience} must be at least 1, or null for each rule's own")
        self.patience = patience
        self.ignore = ignore
        self.said: list[str] = []
        self._streaks: Streaks | None = None
        self._lines: list[str] = []
        self._looked_at = 0
        self._num_batches = 0
        self._num_evaluated = 0

    # ---------------------------------------------------------------- hooks

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        asked = pl_module.asked_sources if isinstance(pl_module, AsksSources) else frozenset()
        rules = [rule for rule in (*TRAINING_RULES, *source_rules(asked)) if rule.name not in self.ignore]
        self._streaks = Streaks(rules, pl_module.device)
        self._looked_at = trainer.global_step
        for name, sentence in vain_settings(trainer):
            self._say(trainer, name, sentence)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._num_batches += 1
        if self._streaks is None:
            return
        self._streaks.observe(trainer.callback_metrics)
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step != self._looked_at and every and step % every == 0:
            self._looked_at = step
            self._look(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer, at_end=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say so if there was nothing to train on or nothing left to do."""
        if self._num_batches:
            return
        if trainer.global_step and has_reached_its_end(trainer):
            if trainer.is_global_zero:
                end = f"training has reached step {trainer.global_step} already, where it ends"
                write_line(f"[lightning-gfn] {end}; raise trainer.max_steps or trainer.max_epochs to train on")
            return
        self._say(
            trainer,
            "no_batch",
            "fit ended without a training batch: raise trainer.max_steps or trainer.max_epochs, or look at "
            "trainer.limit_train_batches and the training data",
        )

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        self._num_evaluated += 1

    def on_test_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        self._num_evaluated += 1

    def on_predict_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        self._num_evaluated += 1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Count from 0."""
        self._num_evaluated = 0

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Say so if there was nothing to evaluate."""
        name = str(getattr(stage, "value", stage))
        if name != "fit" and not self._num_evaluated:
            self._say(
                trainer,
                "no_data",
                f"{name} saw no data, there are no results: give data rows for it, or look at trainer.limit_"
                f"{LIMITS.get(name, name)}_batches",
            )

    # ---------------------------------------------------------------- rules

    def _look(self, trainer: Trainer, *, at_end: bool = False) -> None:
        if self._streaks is None:
            return
        rules, counts = self._streaks.rules, self._streaks.read()
        observed = self._streaks.observed
        whole = {
            rule.name: at_end and 0 < count == number
            for rule, count, number in zip(rules, counts, observed, strict=True)
        }
        due = {
            rule.name: whole[rule.name] or count >= self._patience(rule)
            for rule, count in zip(rules, counts, strict=True)
        }
        for rule, count in zip(rules, counts, strict=True):
            if due[rule.name] and not any(due.get(cause) for cause in rule.causes):
                sentence = f"{rule.sentence.format(count=count)}: {rule.remedy}"
                self._say(trainer, rule.name, sentence, whole=whole[rule.name])

    def _patience(self, rule: Rule) -> int:
        return self.patience if self.patience is not None else rule.patience

    def _say(self, trainer: Trainer, name: str, sentence: str, *, whole: bool = False) -> None:
        """Print and keep a sentence, once; and a second time if it held for the whole run."""
        label = f"{name}, whole run" if whole else name
        if label in self.said or name in self.ignore:
            return
        self.said.append(label)
        when = f"step {trainer.global_step}" + (", from the first batch to the last" if whole else "")
        if not trainer.is_global_zero:
            return
        line = f"[lightning-gfn] WARNING ({name}, {when}): {sentence}"
        write_line(line)
        self._lines.append(line)
        path = replace_text(run_folder(trainer) / "warnings.txt", "\n".join(self._lines) + "\n")
        send_artifact(trainer, path)
