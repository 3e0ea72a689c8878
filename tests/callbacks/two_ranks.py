"""Evaluate, predict and train on two processes; run as a script: ``python two_ranks.py FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch.distributed
from replay_module import ReplayModule, make_loader, make_problems, quiet_trainer

from lightning_gfn.callbacks.budget import Budget
from lightning_gfn.callbacks.evaluation import Evaluation
from lightning_gfn.callbacks.predictions import PredictionWriter
from lightning_gfn.callbacks.tables import SampleTable


class TwoRankModule(ReplayModule):
    """Reads its shard once the rank is known; the last problem stands on both ranks, as a padding sampler would do."""

    def shard(self):  # type: ignore[no-untyped-def]
        problems = make_problems(7)
        return make_loader([*problems[self.global_rank :: 2], *problems[6:]])

    test_dataloader = predict_dataloader = shard

    def train_dataloader(self):  # type: ignore[no-untyped-def]
        return make_loader(make_problems(8)[self.global_rank :: 2])


def main(folder: Path) -> None:
    """One fit, one test and one predict over two gloo processes."""
    budget = Budget(max_reward_calls=16)
    callbacks = [Evaluation(), PredictionWriter(), SampleTable(num_problems=3), budget]
    trainer = quiet_trainer(
        callbacks, devices=2, strategy="ddp", logger=False, default_root_dir=folder, max_steps=50, limit_val_batches=0
    )
    module = TwoRankModule()
    trainer.fit(module)
    logged = trainer.test(module, verbose=False)[0]
    trainer.predict(module, return_predictions=False)
    report = {
        "world_size": torch.distributed.get_world_size(),
        "steps": trainer.global_step,
        "budget": budget.totals(),
        "logged": logged,
    }
    (folder / f"report{trainer.global_rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
