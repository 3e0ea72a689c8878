"""What a model was made from, as its folder and its configuration say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lightning_gfn.pretrained.catalogue import MODELS, model_folder

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
HEAD = re.compile(r"---\n(.*?)\n---(?:\n|$)", re.DOTALL)
TASKS = {"CausalLM": "text-generation", "Seq2SeqLM": "text2text-generation"}


@dataclass(frozen=True)
class Origin:
    """What a model was made from.

    Args:
        name: of the base as a reader knows it; None for a model made from its configuration.
        hub_name: ``owner/model`` of the base on the Hugging Face hub, if known.
        license: as the base's own card says; None if not known.
        library: ``transformers`` or ``peft``.
        model_class: ``CausalLM`` or ``Seq2SeqLM``; None for a model that generates nothing.
    """

    name: str | None
    hub_name: str | None
    license: str | None
    library: str
    model_class: str | None

    @property
    def task(self) -> str | None:
        """The hub's name of what it does."""
        return TASKS[self.model_class] if self.model_class is not None else None


def front_matter(path: Path) -> dict[str, Any]:
    """The YAML head of a model card; empty if there is none."""
    try:
        match = HEAD.match(path.read_text(encoding="utf-8"))
        found = yaml.safe_load(match[1]) if match else None
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def json_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty if the file is missing or holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def origin_of(settings: Mapping[str, Any], model: Path) -> Origin:
    """Find out what a model was made from; an earlier stage's card says what that one was made from.

    Args:
        settings: of the model in the configuration; ``pretrained`` is read.
        model: the folder with the weights.
    """
    adapter = json_object(model / "adapter_config.json")
    pretrained = settings.get("pretrained") or adapter.get("base_model_name_or_path")
    name = hub_name = license_name = None
    if isinstance(pretrained, str):
        folder = model_folder(pretrained) if pretrained in MODELS else Path(pretrained).expanduser()
        head = front_matter(folder / "README.md") if folder.is_dir() else {}
        name = "/".join(folder.parts[-2:]) if folder.is_dir() and pretrained not in MODELS else pretrained
        hub_name, license_name = head.get("base_model"), head.get("license")
        if pretrained in MODELS:
            hub_name, license_name = MODELS[pretrained].origin.split()[0], MODELS[pretrained].licence.lower()
        elif not folder.exists() and HUB_NAME.fullmatch(pretrained):
            hub_name = pretrained
    return Origin(name, hub_name, license_name, "peft" if adapter else "transformers", model_class(model, adapter))


def model_class(model: Path, adapter: Mapping[str, Any]) -> str | None:
    """The kind of a model that generates; None for a reward network or where the folder does not say.

    Args:
        model: the folder with the weights.
        adapter: its ``adapter_config.json``; empty without one.
    """
    if (model / "reward_network.json").exists():
        return None
    if adapter:
        return {"CAUSAL_LM": "CausalLM", "SEQ_2_SEQ_LM": "Seq2SeqLM"}.get(str(adapter.get("task_type")))
    config = json_object(model / "config.json")
    names = config.get("architectures") or []
    if any("ConditionalGeneration" in str(one) for one in names):
        return "Seq2SeqLM"
    return "CausalLM" if any(str(one).endswith("LMHeadModel") or "CausalLM" in str(one) for one in names) else None
