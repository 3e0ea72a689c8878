"""What is refused before the first step: rewards that fail, and batches that the updates cannot be made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_gfn.modules.training_batch.rollout_window import has_idle_step

if TYPE_CHECKING:
    from lightning_gfn.modules.rollout import RolloutModule


def try_reward(module: RolloutModule) -> None:
    """Call the user's part of the reward on one problem, so that its errors come before a model is loaded."""
    problems = getattr(getattr(module.trainer, "datamodule", None), "problems", None)
    if problems is not None and (first := next(iter(problems("train")), None)) is not None:
        for part in module.reward.parts():
            part.try_on(first)


def check_updates(module: RolloutModule) -> None:
    """Refuse numbers of batches, problems and processes under which updates on a rollout batch go wrong.

    Raises:
        ValueError: accumulation or ``limit_train_batches`` would end in the middle of a rollout batch, or even a
            full batch leaves an optimiser step without trajectories.
    """
    window, updates = module.trainer.accumulate_grad_batches, module.updates_per_rollout
    if updates % window:
        raise ValueError(
            f"each rollout batch makes {updates} training batches, which trainer.accumulate_grad_batches={window} "
            "does not divide: change it, updates.num_minibatches or updates.num_epochs"
        )
    data = getattr(module.trainer, "datamodule", None)
    share = getattr(data, "problems_per_process", None)
    if data is None or share is None:  # sizes of other data are not known yet
        return
    share = min(share, module.selection.keep) if module.selection is not None else share
    limit, num_batches = module.trainer.limit_train_batches, len(data.train_dataloader())
    allowed = limit if isinstance(limit, int) else int(limit * num_batches)
    if allowed < num_batches and allowed % updates:
        raise ValueError(
            f"trainer.limit_train_batches={limit} ends an epoch after {allowed} of {num_batches} training batches, "
            f"in the middle of the {updates} updates on a rollout batch: make it a multiple of {updates}"
        )
    units = share if module.whole_groups else share * module.sampler.num_samples
    if has_idle_step(units, module.updates, window):
        what = "problems" if module.whole_groups else "trajectories"
        raise ValueError(
            f"a training batch gives each of {module.trainer.world_size} processes {units} {what}, too few for every "
            f"optimiser step of updates.num_minibatches={module.updates.num_minibatches} with "
            f"trainer.accumulate_grad_batches={window}: raise data.batch_size or lower updates.num_minibatches"
        )
