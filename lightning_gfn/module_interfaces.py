"""What callbacks read off the module that is trained and evaluated; modules implement it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from lightning_gfn.interfaces import Policy, TextModel
from lightning_gfn.lean_interfaces import ProofEnvironment
from lightning_gfn.prompts.proof_prompt import ProofPrompt


class MethodModule(ABC):
    """A module that has a name to compare it by and a model to save."""

    method: str
    """The name under which results are compared."""

    @property
    @abstractmethod
    def trained_model(self) -> TextModel:
        """The model that is trained."""

    def whole_weights(self) -> AbstractContextManager[None]:
        """Inside, every process holds all weights."""
        return nullcontext()


class ProofSetting(Protocol):
    """Where theorems are attempted, and what the policy reads there."""

    @property
    def environment(self) -> ProofEnvironment:
        """Runs tactics and checks proofs."""

    @property
    def proof_prompt(self) -> ProofPrompt:
        """What the policy reads before each tactic."""


class EvaluatedModule(MethodModule):
    """A module whose policy is evaluated by sampling."""

    policy: Policy
    proving: ProofSetting | None
    """Where theorems are attempted; None if problems are none."""
    head: object | None
    """What is trained beside the policy: log Z, flow or values."""

    @abstractmethod
    def decoding(self) -> dict[str, Any]:
        """How evaluation samples are drawn, by name; ``num_samples`` is among them."""

    @abstractmethod
    def environment_record(self) -> dict[str, Any]:
        """Backend, version and limits of the environment, for results; empty without one."""


def as_method(pl_module: object, callback: object) -> MethodModule:
    """The module that a callback works for, if it has a method's name and a model.

    Raises:
        TypeError: it has not; names its class.
    """
    if not isinstance(pl_module, MethodModule):
        raise TypeError(refusal(pl_module, callback, "MethodModule"))
    return pl_module


def as_evaluated(pl_module: object, callback: object) -> EvaluatedModule:
    """The module that a callback works for, if its policy is evaluated by sampling.

    Raises:
        TypeError: it is not; names its class.
    """
    if not isinstance(pl_module, EvaluatedModule):
        raise TypeError(refusal(pl_module, callback, "EvaluatedModule"))
    return pl_module


def refusal(pl_module: object, callback: object, needed: str) -> str:
    """Why a callback cannot work for a module, and what to do."""
    name = type(callback).__name__
    return (
        f"{name} cannot read {type(pl_module).__name__}: derive that module from "
        f"lightning_gfn.module_interfaces.{needed}, or take {name} out of trainer.callbacks"
    )
