"""TRL's PPOTrainer, which left TRL after 1.12, in a process of its own that takes one step for each line it reads.

The old version stands beside the environment, not in it, and shares everything else:
``pip install --no-deps --target .venv/peers/trl-1.12.0 trl==1.12.0`` (``make bench`` does that).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.frame.row import Seconds, Way
from benchmarks.subjects.models import Model, new_folder, write_llama

VERSION = "1.12.0"
FOLDER = Path(sys.prefix) / "peers" / f"trl-{VERSION}"
PRECISIONS: dict[str, dict[str, Any]] = {"fp32": {"bf16": False}, "bf16 autocast": {"bf16": True}}
LR, MARK = 1e-6, "step took "


def missing() -> str | None:
    """A need of a row: the old version is there."""
    if (FOLDER / "trl" / "experimental" / "ppo").is_dir():
        return None
    return f"TRL {VERSION} is missing: pip install --no-deps --target {FOLDER} trl=={VERSION} (make bench does it)"


def way(model: Model, rows: int, lengths: tuple[int, int], precision: str, threads: int) -> Way:
    """A PPO step of so many trajectories; the seconds are the worker's processor time."""
    judge = new_folder()
    write_llama(judge, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1)
    job = {
        "folder": str(model.folder), "judge": str(judge), "output": str(new_folder()), "rows": rows,
        "new_tokens": lengths[1], "prompts": model.texts(rows, lengths[0]), "precision": PRECISIONS[precision],
        "threads": threads,
    }  # fmt: skip
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join([str(FOLDER), root, *filter(None, [os.environ.get("PYTHONPATH")])])
    worker = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.peers.ppo_worker", json.dumps(job)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert worker.stdin is not None and worker.stdout is not None
    stdin, stdout = worker.stdin, worker.stdout

    def run() -> Seconds:
        stdin.write("step\n")
        stdin.flush()
        for line in stdout:
            if line.startswith(MARK):
                return Seconds(float(line.removeprefix(MARK)))
        raise RuntimeError(f"the process with TRL {VERSION} ended: run python -m benchmarks.peers.ppo_worker by hand")

    def close() -> None:
        stdin.close()
        worker.terminate()
        worker.wait(timeout=60)

    return Way(run, close)


def make_trainer(job: dict[str, Any], callback: Any) -> Any:
    """The trainer on trajectories of a fixed number, with a small network as reward model."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(job["folder"], padding_side="left")
    # The trainer takes token ids, and wants more rows than one batch.
    ids = tokenizer(job["prompts"], add_special_tokens=False)["input_ids"]
    dataset = Dataset.from_dict({"input_ids": ids * 64})
    config = PPOConfig(
        output_dir=job["output"], per_device_train_batch_size=job["rows"], gradient_accumulation_steps=1,
        num_mini_batches=1, num_ppo_epochs=4, response_length=job["new_tokens"], total_episodes=job["rows"] * 500,
        local_rollout_forward_batch_size=job["rows"], learning_rate=LR, temperature=1.0, report_to="none",
        num_sample_generations=0, save_strategy="no", use_cpu=True, disable_tqdm=True, logging_strategy="no",
        gradient_checkpointing=False, **job["precision"],
    )  # fmt: skip
    policy, reference = (AutoModelForCausalLM.from_pretrained(job["folder"]) for _ in range(2))
    value = AutoModelForSequenceClassification.from_pretrained(job["folder"], num_labels=1)
    judge = AutoModelForSequenceClassification.from_pretrained(job["judge"], num_labels=1)
    return PPOTrainer(
        args=config, processing_class=tokenizer, model=policy, ref_model=reference, reward_model=judge,
        value_model=value, train_dataset=dataset, eval_dataset=dataset.select(range(job["rows"])), callbacks=[callback],
    )  # fmt: skip


def main() -> None:
    """Train; wait for a line before each step and print the processor seconds of it."""
    import torch
    from transformers import TrainerCallback

    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)

    class Turns(TrainerCallback):
        started = 0.0

        def wait(self) -> None:
            if not sys.stdin.readline():
                os._exit(0)
            self.started = time.process_time()

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            self.wait()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            print(f"{MARK}{time.process_time() - self.started}", flush=True)
            self.wait()

    make_trainer(job, Turns()).train()


if __name__ == "__main__":
    main()
