"""Low-rank adapters: attaching them, switching them off for the reference, and the weights that they amount to."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lightning_gfn.policies.models.architectures import DecoderOnly
from lightning_gfn.policies.models.export import whole_weights
from lightning_gfn.policies.models.output_layer import SCALED_BY_TIES

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

TRAINED, PREVIOUS = "default", "previous"
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class LoraSettings:
    """A low-rank adapter: W x + (alpha / rank) · B A x, with A and B trained and B zero at the start.

    Args:
        rank: rows of A.
        alpha: scale of the update.
        dropout: dropout on the input of A, in stages that train with dropout (``dropout`` of the policy).
        target_modules: names of the linear layers to adapt; every linear layer but the output layer if None. Of a model
            that reads images or sounds too, those of its language model.

    Source: Hu et al. 2021, arXiv:2106.09685, section 4.1.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: list[str] | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"lora.rank={self.rank} must be at least 1; leave lora out to train all weights")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora.dropout={self.dropout} must lie in [0, 1)")


def is_adapter_folder(folder: Path) -> bool:
    """True if the folder holds an adapter that peft saved."""
    return (folder / ADAPTER_CONFIG).is_file()


def base_of_adapter(folder: Path) -> str:
    """Name or path of the model that the adapter in this folder belongs to.

    Raises:
        ValueError: if the adapter does not say.
    """
    name = json.loads((folder / ADAPTER_CONFIG).read_text()).get("base_model_name_or_path")
    if not name:
        raise ValueError(
            f"{folder / ADAPTER_CONFIG}: base_model_name_or_path is empty; write the base model's name there"
        )
    return str(name)


def apply_previous_adapter(
    base: PreTrainedModel, folder: Path, how: Literal["merge", "freeze"]
) -> PreTrainedModel | PeftModel:
    """Load the adapter of an earlier stage: merged into the weights, or beside them and frozen."""
    from peft import PeftModel

    from lightning_gfn.policies.models.wide_lora import widen_adapters

    adapted = PeftModel.from_pretrained(base, str(folder), adapter_name=PREVIOUS, is_trainable=False)
    untie_adapted(adapted)
    if how == "merge":
        return adapted.merge_and_unload().requires_grad_(True)
    widen_adapters(adapted)
    return adapted


def target_modules(model: PreTrainedModel | PeftModel, names: list[str] | None) -> list[str] | str:
    """What PEFT shall adapt: of a model that reads images or sounds too, layers of its language model alone; never a
    router, which is no plain linear layer.

    Raises:
        ValueError: if a name fits no layer.
    """
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    has_router = any(type(module).__name__.endswith("Router") for module in base.modules())
    is_plain = base.config.get_text_config() is base.config and not (has_router and names is None)
    if is_plain or base.config.is_encoder_decoder:
        return names if names is not None else "all-linear"
    inside = {id(module) for module in DecoderOnly().backbone(base).modules()}
    linear = [
        name
        for name, module in base.named_modules()
        if id(module) in inside
        and (isinstance(module, nn.Linear) or hasattr(module, "get_delta_weight"))
        and not type(module).__name__.endswith("Router")
        and not {"base_layer", "lora_A", "lora_B"} & set(name.split("."))
    ]
    chosen = [name for name in linear if names is None or any(f".{name}".endswith(f".{own}") for own in names)]
    if not chosen:
        raise ValueError(
            f"lora.target_modules={names} names no linear layer of the language model in {type(base).__name__}; "
            f"it has {', '.join(sorted({name.rsplit('.', 1)[-1] for name in linear}))}"
        )
    return chosen


def untie_adapted(model: PeftModel) -> None:
    """Give every adapted layer a weight of its own, if it shares one with a layer that is not adapted alike.

    The output layer of many models is their embedding. An adapter on it alone is the adapter of another model: merged,
    it would change the embedding as well.

    Raises:
        ValueError: if the model computes otherwise as soon as its layers are not tied.
    """
    base = model.get_base_model()
    adapted = [module for module in base.modules() if hasattr(module, "get_delta_weight")]
    wrapped = {id(module) for module in adapted}
    holders: dict[int, int] = {}
    for module in base.modules():
        if id(module) not in wrapped and isinstance(weight := vars(module)["_parameters"].get("weight"), Tensor):
            holders[id(weight)] = holders.get(id(weight), 0) + 1
    bases = [layer.get_base_layer() for layer in adapted]
    shared = [layer for layer in bases if holders.get(id(getattr(layer, "weight", None)), 0) > 1]
    if not shared:
        return
    if base.config.model_type in SCALED_BY_TIES:
        raise ValueError(
            f"lora.target_modules names a layer that {type(base).__name__} ties to its embedding: leave it out"
        )
    for layer in shared:
        layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
    base.config.tie_word_embeddings = base.config.get_text_config().tie_word_embeddings = False
    base.all_tied_weights_keys = {}


def attach_lora(model: PreTrainedModel | PeftModel, settings: LoraSettings, task_type: str) -> PeftModel:
    """Freeze the model and add a trainable adapter that changes nothing yet.

    Args:
        model: the model, or a model that carries a frozen adapter of an earlier stage.
        settings: the adapter.
        task_type: what peft calls this kind of model.

    Returns:
        the adapted model; only the new adapter requires gradients.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    from lightning_gfn.policies.models.wide_lora import widen_adapters

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=target_modules(model, settings.target_modules),
        task_type=task_type,
    )
    if isinstance(model, PeftModel):
        model.add_adapter(TRAINED, config)
        model.base_model.set_adapter([PREVIOUS, TRAINED])
    else:
        model = get_peft_model(model, config, adapter_name=TRAINED)
    untie_adapted(model)
    widen_adapters(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(f".{TRAINED}." in name)
    return model


@contextmanager
def without_trained_adapter(model: PeftModel) -> Iterator[None]:
    """Inside, the model is the one that this stage began with; which parameters require gradients does not change."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    keeps_previous = PREVIOUS in model.peft_config
    if keeps_previous:
        model.base_model.set_adapter(PREVIOUS)
    else:
        model.base_model.disable_adapter_layers()
    try:
        yield
    finally:
        if keeps_previous:
            model.base_model.set_adapter([PREVIOUS, TRAINED])
        else:
            model.base_model.enable_adapter_layers()
        for parameter, required in flags:
            parameter.requires_grad_(required)


def trained_adapter_is_zero(model: PeftModel) -> bool:
    """True if the trained adapter changes nothing: its reference is then the model without it."""
    pairs = [(n, p) for n, p in model.named_parameters() if f".{TRAINED}." in n and "lora_" in n]
    return all(not bool(p.any()) for n, p in pairs if "lora_B" in n or "lora_embedding_B" in n)


def merged_weights(model: PeftModel) -> dict[str, Tensor]:
    """The weights of the base with every active adapter in them; they are changed in place."""
    model.merge_adapter()
    weights = whole_weights(model.get_base_model())
    return {name.replace(".base_layer", ""): weight for name, weight in weights.items() if "lora_" not in name}


def save_adapted(model: PeftModel, folder: Path, pretrained: str | None, *, of_shards: bool) -> None:
    """Write an adapter on an unchanged, named base as an adapter, and anything else as a whole model.

    Args:
        model: adapted.
        folder: where to.
        pretrained: what the base was loaded from; None for a model from scratch.
        of_shards: the weights were gathered from shards, and may be changed.
    """
    base = None if pretrained is None else Path(pretrained).expanduser()
    if base is not None and not is_adapter_folder(base):
        config = model.peft_config[TRAINED]
        config.base_model_name_or_path = str(base.resolve()) if base.exists() else pretrained
        weights = whole_weights(model) if of_shards else None
        model.save_pretrained(str(folder), save_embedding_layers=False, state_dict=weights)
    elif of_shards:
        model.get_base_model().save_pretrained(folder, state_dict=merged_weights(model))
        model.unmerge_adapter()
    else:
        copy.deepcopy(model).merge_and_unload().save_pretrained(folder)


def has_adapters(model: nn.Module) -> bool:
    """True if any layer is adapted."""
    return any(hasattr(module, "get_delta_weight") for module in model.modules())


def effective_weight(module: Any) -> Tensor:
    """The weight that a layer amounts to, active adapters added in float32 unless they are merged into it."""
    if not hasattr(module, "get_delta_weight"):
        return module.weight.detach()
    weight = module.get_base_layer().weight.detach()
    total = weight.float()
    for name in () if module.disable_adapters or module.merged else module.active_adapters:
        total = total + module.get_delta_weight(name).detach().float()
    return total.to(torch.promote_types(weight.dtype, torch.float32))
