"""How long the trainer waits for samples and rewards: samplers in Ray actors beside sampling within the step."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from benchmarks.frame.machine import needs_package
from benchmarks.frame.row import Contest, Options, Row, Seconds, Target, Way
from benchmarks.subjects.models import Model, small_llama
from benchmarks.subjects.rewards import distinct_words
from benchmarks.subjects.training import optimizer, problems

SHAPE, LENGTHS = (4, 4), (32, 64)
STEPS, START = 14, 5
"""Training steps of a turn; the first ones, in which actors start, do not count."""
CHECKING_SECONDS = 0.3


def checked_elsewhere(completions: list[str], **columns: Any) -> list[float]:
    """A reward that another machine works out, such as a proof checker."""
    time.sleep(CHECKING_SECONDS)
    return distinct_words(completions, **columns)


def waiting(model: Model, reward: str, asynchronous: bool) -> Way:
    """GRPO steps; the mean of ``train/idle_seconds`` over those that count."""

    def run() -> Seconds:
        import lightning as L

        from datamodules.common.order import TrainLoader
        from lightning_gfn.modules.policy_gradient import PolicyGradientModule
        from lightning_gfn.objectives.grpo import GRPO
        from lightning_gfn.rewards.function import FunctionReward
        from lightning_gfn.rollouts.asynchronous.settings import AsynchronousSettings

        class Idle(L.Callback):
            seconds: list[float] = []

            def on_train_batch_end(self, trainer: L.Trainer, *others: Any) -> None:
                self.seconds.append(float(trainer.callback_metrics["train/idle_seconds"]))

        idle = Idle()
        idle.seconds = []
        module = PolicyGradientModule(
            policy=model.policy(*LENGTHS), objective=GRPO(), reward=FunctionReward(reward), num_samples=SHAPE[1],
            optimizer=optimizer(), log_entropy=False,
            asynchronous=AsynchronousSettings(max_staleness=2) if asynchronous else None,
        )  # fmt: skip
        trainer = L.Trainer(
            max_steps=STEPS, max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[idle], use_distributed_sampler=False, accelerator="cpu",
        )  # fmt: skip
        trainer.fit(module, TrainLoader(problems(model, SHAPE[0], LENGTHS[0]), batch_size=SHAPE[0], seed=0))
        counted = idle.seconds[START:]
        return Seconds(max(1e-6, sum(counted) / len(counted)))

    return Way(run)


def contest(reward: str, options: Options) -> Contest:
    """Seconds of waiting a step."""
    model = small_llama()
    return Contest(
        ours=lambda: waiting(model, reward, asynchronous=True),
        peers={"in the step": lambda: waiting(model, reward, asynchronous=False)},
    )


ROWS = [
    Row(
        name=f"idle_{name}",
        what=f"trainer's wait for samples a GRPO step, small Llama{words}",
        build=partial(contest, reward),
        target=Target(ratio=least),
        meter="wall_seconds",
        rounds=1,
        warm_up=False,
        needs=[needs_package("ray", "pip install ray")],
        by_name_only=True,
    )
    for name, reward, words, least in (
        ("sampling", "benchmarks.subjects.rewards.distinct_words", "", 1.2),
        ("checking", "benchmarks.rows.asynchronous.checked_elsewhere", ", rewards of 0.3 s", 2.0),
    )
]
