"""What every module does: optimise with exact weights, and save its state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    SingleDeviceStrategy,
    Strategy,
    XLAStrategy,
)
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from lightning_gfn.finite import own_part, whole
from lightning_gfn.interfaces import TextModel
from lightning_gfn.module_interfaces import MethodModule
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.modules.skipped_steps import SkippedSteps, finite_flag, scaler_adapts
from lightning_gfn.policies.language_model import LanguageModel
from lightning_gfn.sharding.strategy import ShardedStrategy
from lightning_gfn.types import LossOutput
from lightning_gfn.whole_files import CheckpointError

if TYPE_CHECKING:
    from lightning_gfn.sharding.shards import Shards

STATE_KEY = "lightning_gfn"


def check_strategy(strategy: Strategy) -> None:
    """Refuse strategies under which a model could not sample, score or be saved.

    Args:
        strategy: of the trainer.

    Raises:
        ValueError: it is neither one device, nor data parallel with whole copies, nor our FSDP2.
    """
    known = isinstance(strategy, (SingleDeviceStrategy, DDPStrategy, ShardedStrategy))
    if not known or isinstance(strategy, (DeepSpeedStrategy, XLAStrategy)):
        raise ValueError(
            f"trainer.strategy is {type(strategy).__name__}, which is not supported: set trainer.strategy to fsdp2 to "
            "cut the model over the devices, or to ddp where each of them can hold it"
        )
    if isinstance(strategy, ShardedStrategy) and strategy.precision_plugin.precision == "16-mixed":
        raise ValueError("trainer.precision 16-mixed does not work with fsdp2: set trainer.precision to bf16-mixed")


class TrainedModule(L.LightningModule, MethodModule):
    """A language model in training, with whatever output; subclasses give ``configure_model`` and ``training_step``.

    A loss that is a mean over tokens or pairs must not depend on how a batch was cut into ranks and accumulation
    windows. So ``training_step`` returns sums, the weights of a window are counted, and gradients are divided once,
    before clipping:

        gradient = sum over ranks and micro-batches of grad(sum) / sum over ranks and micro-batches of weight

    Args:
        optimizer: AdamW settings.
        method: the name under which results are compared; the class of the module if None.
    """

    model_name: ClassVar[str] = "policy"
    """Attribute that holds the model."""

    def __init__(self, *, optimizer: OptimizerSettings | None = None, method: str | None = None) -> None:
        super().__init__()
        self.optimizer_settings = optimizer if optimizer is not None else OptimizerSettings()
        self.method = method if method is not None else type(self).__name__
        self.window_weight: Tensor | None = None
        self.window_faults: Tensor | None = None
        self.skipped = SkippedSteps(self.optimizer_settings.max_skipped_steps)
        self.is_built = False
        self.shards: Shards | None = None
        self.gathered = ExitStack()

    @property
    def trained_model(self) -> TextModel:
        """The model whose tokenizer and weights a checkpoint keeps."""
        model: TextModel = getattr(self, self.model_name)
        return model

    @property
    def stage(self) -> str:
        """What the trainer does: fit, validate, test or predict."""
        return str(getattr(self.trainer.state.fn, "value", "fit"))

    def setup(self, stage: str) -> None:
        """Refuse a strategy that would run into an error only after the model is loaded."""
        check_strategy(self.trainer.strategy)
        if isinstance(self.trainer.strategy, ShardedStrategy):
            self.check_shards()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Batches are text; they stay where they are."""
        return batch

    # ---------------------------------------------------------------- sharding

    def cut(self) -> None:
        """Cut the weights of the built model over the processes, if the strategy does so.

        Raises:
            ValueError: the model is not one of ours.
        """
        if not isinstance(self.trainer.strategy, ShardedStrategy):
            return
        from lightning_gfn.sharding.shards import Shards

        model = self.trained_model
        if not isinstance(model, LanguageModel):
            raise ValueError(
                f"trainer.strategy fsdp2 cuts models of lightning_gfn.policies, not {type(model).__name__}: set it to "
                "ddp"
            )
        assert self.device_mesh is not None
        self.shards = Shards(self.device_mesh["data_parallel"])
        model.cut(self.shards)

    def check_shards(self) -> None:
        """Refuse what cannot be cut over processes.

        Raises:
            ValueError: names the setting.
        """
        model = self.trained_model
        if isinstance(model, LanguageModel) and model.scoring.name == "fused":
            raise ValueError(
                f"model.{self.model_name}.scoring fused reads whole weights, which trainer.strategy fsdp2 does not "
                "hold in training: set it to auto or hugging_face"
            )

    def whole_weights(self) -> AbstractContextManager[None]:
        """Inside, every process holds all weights; all of them must enter together."""
        return self.shards.whole() if self.shards is not None else nullcontext()

    def gather(self) -> None:
        """Hold all weights until ``let_go``."""
        self.gathered.enter_context(self.whole_weights())

    def let_go(self) -> None:
        """Hold the own part of the weights again."""
        self.gathered.close()

    on_validation_epoch_start = on_test_epoch_start = on_predict_epoch_start = gather
    on_validation_epoch_end = on_test_epoch_end = on_predict_epoch_end = let_go

    # ---------------------------------------------------------------- optimisation

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW over every trainable parameter, with a schedule per optimiser step."""
        optimizer = self.optimizer_settings.build(self)
        needs_total = self.optimizer_settings.schedule != "constant"
        total_steps = self.trainer.estimated_stepping_batches if needs_total else float("inf")
        scheduler = LambdaLR(optimizer, self.optimizer_settings.lr_factor(total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def window_loss(self, output: LossOutput) -> Tensor:
        """The sum to back-propagate: Lightning's division by the window length is undone, the weight is counted."""
        weight = output.weight.detach().to(torch.float32)
        self.window_weight = weight if self.window_weight is None else self.window_weight + weight
        fault = finite_flag(output.sum)
        self.window_faults = fault if self.window_faults is None else self.window_faults + fault
        return output.sum * self.trainer.accumulate_grad_batches

    def empty_loss(self) -> Tensor:
        """The loss of a training batch without anything to learn from: no weight, and gradient 0 of every parameter.

        Every rank must reduce the gradients of the same parameters.
        """
        weight = torch.zeros((), device=self.device)
        trained = [p.flatten()[0].float() for p in self.parameters() if p.requires_grad]
        return self.window_loss(LossOutput(0.0 * torch.stack(trained).sum(), weight))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the accumulated gradients by the weight of the whole window, over all ranks; leave out bad steps.

        Gradients are dropped, so that neither momentum nor weight decay moves the weights, on no rank: without any
        weight, where there is nothing to follow, and where a loss or the gradient is not finite, which is counted. The
        random state and the schedule go on. A norm too large for its type counts as infinite: squares in Adam's second
        moment would be, and stay.
        """
        weight, fault = self.window_weight, self.window_faults
        self.window_weight = self.window_faults = None
        zero = torch.zeros((), device=self.device)
        sums = torch.stack((weight if weight is not None else zero + 1.0, fault if fault is not None else zero))
        total_2 = self.trainer.strategy.reduce(sums, reduce_op="sum")
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        torch._foreach_mul_([own_part(gradient) for gradient in gradients], self.trainer.world_size / total_2[0])
        norm = torch.nn.utils.get_total_norm(gradients).float()
        norm = whole(norm)
        total, faults, norm_value = torch.stack((*total_2, norm)).tolist()  # the one wait for the device
        lost = bool(faults) or (total != 0.0 and not math.isfinite(norm_value))
        adapting = lost and not faults and scaler_adapts(self.trainer.precision_plugin)
        if total == 0.0 or (lost and not adapting):
            optimizer.zero_grad(set_to_none=True)
        self.log("train/grad_norm", norm if total else zero)
        if not adapting:
            self.skipped.count(self.global_step, skipped=lost)
        self.log("train/skipped_steps", float(self.skipped.total))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """End training after too many steps in a row that were left out.

        Raises:
            NotFiniteError: says since when, the likely cause, the remedy and where to go on.
        """
        self.skipped.check(self)

    def log_output(self, output: LossOutput, **values: float | Tensor) -> None:
        """Log a loss, its diagnostics and further values of one training batch."""
        named = {"loss": output.loss.detach(), **output.diagnostics, **values}
        self.log_dict({f"train/{name}": value for name, value in named.items()}, batch_size=1)

    # ---------------------------------------------------------------- state

    def extra_state(self) -> dict[str, Any]:
        """State beside the weights, as tensors and primitives."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore ``extra_state``."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the tokenizer and the subclass's state; leave out frozen weights that their name can give back."""
        checkpoint[STATE_KEY] = {
            "tokenizer": self.trained_model.tokenizer_state(),
            "skipped_steps": self.skipped.state_dict(),
            **self.extra_state(),
        }
        if self.trained_model.base_is_reloadable:
            copies = (f"{self.model_name}.", "head.")
            parameters = self.named_parameters(remove_duplicate=False)  # tied ones stand in the state twice
            frozen = {n for n, p in parameters if n.startswith(copies) and not p.requires_grad}
            checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k not in frozen}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what ``on_save_checkpoint`` added; check that the weights fit and no trainable one is missing.

        Raises:
            CheckpointError: it is of another kind of module, model or optimiser.
        """
        if STATE_KEY not in checkpoint:
            raise CheckpointError(
                f"the checkpoint was not written by a module of lightning_gfn (it has no {STATE_KEY!r}): give its "
                "weights as model.policy.pretrained instead"
            )
        state = dict(checkpoint[STATE_KEY])
        self.skipped.load_state_dict(state.pop("skipped_steps", {}))
        try:
            self.trained_model.load_tokenizer_state(state.pop("tokenizer"))
            self.load_extra_state(state)
        except KeyError as error:
            raise CheckpointError(
                f"the checkpoint lacks {error} of {type(self).__name__}: it was made by another kind of module; use "
                "the config.yaml of the run that wrote it"
            ) from error
        self.check_weights(checkpoint["state_dict"])
        self.strict_loading = not self.trained_model.base_is_reloadable

    def check_weights(self, saved: Mapping[str, Tensor]) -> None:
        """Refuse weights of another model.

        Raises:
            CheckpointError: a trainable weight is missing, or one has another shape.
        """
        hint = "it was made by another model configuration; use the config.yaml of the run that wrote it"
        own = dict(self.named_parameters())
        missing = [name for name, p in own.items() if p.requires_grad and name not in saved]
        if missing:
            raise CheckpointError(
                f"the checkpoint lacks {len(missing)} trainable weights, {missing[0]!r} among them: {hint}"
            )
        for name, parameter in own.items():
            if name in saved and saved[name].shape != parameter.shape:
                shapes = f"{tuple(saved[name].shape)} in the checkpoint and {tuple(parameter.shape)} here"
                raise CheckpointError(f"weight {name!r} has shape {shapes}: {hint}")
