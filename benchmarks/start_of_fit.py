"""CPU seconds from the start of ``lightning-gfn fit`` to the end of its first step, beside bare Lightning with MLflow.

The bare fit is what one would write by hand: a small Llama of transformers from its config, trained on random tokens by
``lightning.pytorch.Trainer`` with Lightning's ``MLFlowLogger`` (SQLite) and ``ModelCheckpoint``. Ours are the
quickstart's SFT and VarGrad runs, as their YAML files say. All take turns, each in a fresh process with user and
system time counted.

    OMP_NUM_THREADS=1 python benchmarks/start_of_fit.py --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

ROOT = Path(__file__).resolve().parents[1]
MARK = "CPU seconds to the end of the first step: "


class FirstStep(Callback):
    """Prints the CPU seconds that the process has used when the first batch has been trained on."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            print(f"{MARK}{time.process_time()}", flush=True)


def bare_fit(folder: Path) -> None:
    """Train a small Llama for one step with nothing but Lightning, MLflow and transformers."""
    import lightning.pytorch as pl
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import MLFlowLogger
    from torch.utils.data import DataLoader
    from transformers import LlamaConfig, LlamaForCausalLM

    class Module(pl.LightningModule):
        def configure_model(self) -> None:
            self.model = LlamaForCausalLM(
                LlamaConfig(vocab_size=384, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                            num_attention_heads=4, max_position_embeddings=128)
            )  # fmt: skip

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            loss = self.model(input_ids=batch, labels=batch).loss
            self.log("train/loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=5e-3)

    pl.seed_everything(0, verbose=False)
    pl.Trainer(
        max_steps=1, accelerator="cpu", devices=1, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, log_every_n_steps=1,
        logger=MLFlowLogger("bare", tracking_uri=f"sqlite:///{folder.parent / 'mlflow.db'}"),
        callbacks=[ModelCheckpoint(folder), FirstStep()],
    ).fit(Module(), DataLoader(torch.randint(384, (64, 40)), batch_size=32))  # fmt: skip


def seconds(arguments: list[str], folder: Path) -> float:
    """CPU seconds that a fresh process says it used.

    Raises:
        RuntimeError: it ended without saying so.
    """
    path = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{folder.parent / 'mlflow.db'}"}
    done = subprocess.run([sys.executable, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True)
    said = [line.removeprefix(MARK) for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not said:
        raise RuntimeError(f"{arguments} ended with {done.returncode}: {done.stderr[-2000:]}")
    return float(said[0])


def our_arguments(config: str, model: Path | None, folder: Path) -> list[str]:
    """Arguments of Python for one step of a run of the quickstart."""
    more = [] if model is None else ["--model.init_args.policy.init_args.pretrained", str(model)]
    return [
        "-m", "lightning_gfn", "fit", "--config", f"experiments/quickstart/{config}.yaml", *more,
        "--run_dir", str(folder), "--trainer.max_steps", "1", "--trainer.val_check_interval", "100",
        "--trainer.callbacks+", "start_of_fit.FirstStep",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare is not None:
        bare_fit(options.bare)
        return
    measured: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        model = base / "warm-sft" / "model"
        for label in ("warm", *range(options.rounds)):
            for kind in ("bare", "sft", "vargrad"):
                folder = base / f"{label}-{kind}"
                own = our_arguments(kind, model if kind == "vargrad" else None, folder)
                used = seconds(own if kind != "bare" else [__file__, "--bare", str(folder)], folder)
                if label != "warm":
                    measured.setdefault(kind, []).append(used)
    medians = {kind: statistics.median(values) for kind, values in measured.items()}
    ratios = {f"{kind}_over_bare": round(medians[kind] / medians["bare"], 2) for kind in ("sft", "vargrad")}
    print(json.dumps({"cpu_seconds": measured, "median": medians, **ratios}, indent=2))


if __name__ == "__main__":
    main()
