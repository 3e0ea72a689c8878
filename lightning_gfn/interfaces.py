"""Abstract base classes that the layers meet through; YAML chooses the implementations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lightning_gfn.contracts.texts import (
    SearchesBeams as SearchesBeams,
    TextLikelihood as TextLikelihood,
    TextModel as TextModel,
)
from lightning_gfn.types import (
    CandidateScores,
    LogReward,
    LossOutput,
    Problem,
    Rollouts,
    SampledActions,
    Scores,
    StepBatch,
    Trajectory,
)

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS: Mapping[str, str] = {
    "log_pf_BT": "log q(token | prefix) of each action token, temperature 1, with gradient",
    "log_pstop_BT1": "log q(stop | prefix) of each of the T + 1 prefixes, with gradient",
    "mask_BT": "bool, True on action tokens",
    "stop_mask_BT1": "bool, True on prefixes that the policy may stop at",
    "step_mask_BT1": "bool, True on prefixes that may stop and end a reasoning step",
    "log_pf_B": "log q of the whole trajectory, all tokens and stops, with gradient",
    "log_reward_B": "log R of the finished trajectory, tempered",
    "log_reward_BT1": "log R of stopping at each prefix, tempered",
    "group_B": "int64, the problem of each trajectory",
    "log_z_B": "log Z of each trajectory's problem: learned, with gradient, or given by prepare, constant",
    "log_f_BT1": "learned log state flow of each prefix, with gradient",
    "old_log_pf_BT": "log q(token | prefix) when the trajectory was sampled, constant",
    "old_log_pstop_BT1": "log q(stop | prefix) when the trajectory was sampled, constant",
    "behaviour_log_pf_BT": "log-probability of each token under the sampler that drew it, constant",
    "behaviour_log_pstop_BT1": "the same of the final stop, at the last prefix; 0 elsewhere, constant",
    "forced_stop_B": "bool, True where the maximum length forced the stop",
    "max_length": "scalar, the most action tokens that a trajectory may have, constant",
    "entropy_BT1": "entropy of the next-action distribution at each prefix, with gradient",
    "ref_log_pf_BT": "log q_ref(token | prefix) under the frozen reference, constant",
    "ref_log_pstop_BT1": "log q_ref(stop | prefix) under the frozen reference, constant",
    "ref_log_pf_B": "log q_ref of the whole trajectory, all tokens and stops, constant",
    "value_BT1": "learned value of each prefix, with gradient",
    "old_value_BT1": "learned value of each prefix when the trajectory was sampled, constant",
    "kl_coefficient": "scalar, present weight of the KL penalty, constant",
    "entropy_coefficient": "scalar, present weight of the entropy bonus, constant",
    "class_B": "int64, the class of solutions of each trajectory, equal within a group for one class; -1 for none",
    "advantage_B": "advantage (scaled reward) of each trajectory, derived once per rollout batch by prepare, constant",
    "advantage_BT1": "advantage of each action, derived once per rollout batch by prepare, constant",
    "keep_B": "bool, True on trajectories that count in the loss, derived once per rollout batch by prepare",
    "return_BT1": "regression target of the value, derived once per rollout batch by prepare, constant",
    "chosen_B": "bool, True on the preferred (or desirable) completion",
    "pair_B": "int64, the preference pair of each completion",
    "teacher_log_p_BT1K": "log p of the teacher's K most probable actions at each prefix, constant",
    "teacher_log_rest_BT1": "log p of all other actions together under the teacher, constant",
    "student_log_p_BT1K": "log q of the teacher's K actions at each prefix, with gradient",
    "student_log_rest_BT1": "log q of all other actions together, with gradient",
    "distil_mask_BT1": "bool, True on prefixes whose next action is distilled",
    "score_B": "score of a reward network for each completion, with gradient",
    "score_BS": "score of a reward network at the end of each step, a logit, with gradient",
    "label_BS": "is the solution good up to the end of the step, 0 to 1, constant",
    "label_mask_BS": "bool, True on steps that have a label",
    "unrelated_log_ratio_B": "log q - log q_ref of another prompt's completion after each prompt, constant",
}


class Objective(ABC):
    """A loss over columns of log-probabilities and rewards: a frozen dataclass over a pure function."""

    @property
    @abstractmethod
    def requires(self) -> frozenset[str]:
        """Names from ``COLUMNS`` that ``prepare`` or ``__call__`` reads; the module computes only those.

        What ``prepare`` itself gives is left out. If ``group_B`` is among them, minibatches never cut a group.
        """

    @abstractmethod
    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""

    @property
    def min_samples(self) -> int:
        """Fewest trajectories of a problem that the objective makes sense with."""
        return 2 if "group_B" in self.requires else 1

    def prepare(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Constant columns derived from a whole rollout batch, before it is cut into minibatches.

        Statistics over groups or over the batch (advantages, returns) belong here: they stay the same over all updates
        on that rollout batch, and the result is added to the columns of each.

        Args:
            columns: the required constant columns of all trajectories of the rollout batch.

        Returns:
            Further columns by name, without gradient; none by default.
        """
        return {}


class Policy(TextModel):
    """A language model that samples actions and scores them.

    Allowed tokens, minimum and maximum length define the distribution q; they hold in ``sample`` and ``score`` alike.
    ``hidden_size`` is the width of ``Scores.hidden_NT1H``.
    """

    max_new_tokens: int
    min_new_tokens: int
    vocab_size: int
    """V: actions are numbered below it, the tokens by their ids."""

    uses_tools: bool = False
    """True if tools write into what it samples."""

    @property
    @abstractmethod
    def stop_id(self) -> int:
        """The action that stands for stop among candidates."""

    @property
    @abstractmethod
    def num_positions(self) -> int | None:
        """Longest sequence of context and action, tokens; None if unlimited."""

    @contextmanager
    def shortened(self, max_new_tokens: int) -> Iterator[None]:
        """Inside, actions are at most so long, for instance because the context holds the beginning of one."""
        limits = self.min_new_tokens, self.max_new_tokens
        self.set_lengths(max(0, limits[0] - (limits[1] - max_new_tokens)), max_new_tokens)
        try:
            yield
        finally:
            self.set_lengths(*limits)

    def set_lengths(self, min_new_tokens: int, max_new_tokens: int) -> None:
        """Let actions have at least and at most so many tokens."""
        self.min_new_tokens, self.max_new_tokens = min_new_tokens, max_new_tokens

    def set_dropout(self, asked: bool) -> None:
        """Train with dropout or without, unless the policy's own settings say; nothing for a policy that has none.

        Args:
            asked: what this stage trains with.
        """

    @abstractmethod
    def freeze_reference(self) -> None:
        """Remember the present policy as the reference of this stage."""

    @abstractmethod
    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a prompt, begin token included where the tokenizer has one."""

    @abstractmethod
    def encode_context(self, text: str) -> list[int]:
        """Token ids of a context of any length, begin token included where the tokenizer has one."""

    @abstractmethod
    def encode_completion(self, text: str) -> list[int]:
        """Token ids of a completion, without special tokens."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of action tokens."""

    def encode_action(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids of a completion as the policy would have written it, and places of those that a tool wrote."""
        return self.encode_completion(text), []

    def marked(self, action: Sequence[int], inserted: Sequence[int]) -> str:
        """Text of an action, in which what a tool wrote is marked; policies with tools do so."""
        return self.decode(action)

    def can_produce(self, action: Sequence[int], inserted: Sequence[int] = ()) -> bool:
        """True if q gives the action a positive probability; policies that bar tokens look at them, too.

        Args:
            action: token ids.
            inserted: places of tokens that a tool wrote.
        """
        return self.min_new_tokens <= len(action) <= self.max_new_tokens

    @abstractmethod
    def sample(
        self,
        contexts: Sequence[Sequence[int]],
        uniforms_NT1: Tensor,
        *,
        temperature_N: Tensor | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        first_N: Tensor | None = None,
        entropy: bool = False,
    ) -> SampledActions:
        """Continue each context by inverse-CDF sampling from the given uniforms; equal contexts share one prefill.

        Args:
            contexts: N token id sequences.
            uniforms_NT1: numbers in [0, 1), one for each row and prefix.
            temperature_N: behaviour temperature of each row.
            top_k: most probable actions that the behaviour keeps.
            top_p: probability mass that the behaviour keeps.
            first_N: the first token of each row, or the stop; None draws it.
            entropy: also give the entropy of q at each prefix where that needs no further pass.
        """

    @abstractmethod
    def score(
        self,
        steps: StepBatch,
        *,
        stop: bool = True,
        entropy: bool = False,
        hidden: bool = False,
        reference: bool = False,
    ) -> Scores:
        """Log-probabilities of given actions by one teacher-forced pass, of the policy or of its frozen reference.

        Args:
            steps: contexts and actions.
            stop: also return log q(stop) of every prefix.
            entropy: also return the entropy at every prefix.
            hidden: also return the hidden state at every prefix.
            reference: score under the frozen reference, without gradient.
        """

    def score_and_read(
        self,
        steps: StepBatch,
        read: Callable[[Scores | None, StepBatch], Tensor],
        *,
        entropy: bool = False,
        hidden: bool = False,
    ) -> tuple[Scores, Tensor]:
        """Scores with gradient, and what a head reads of each row, so that hidden states live no longer than a pass.

        Args:
            steps: contexts and actions.
            read: scores (with hidden states, if asked for; else possibly None) and steps to (N,) or (N, T + 1).
            entropy: also return the entropy at every prefix.
            hidden: the head reads hidden states.
        """
        scores = self.score(steps, entropy=entropy, hidden=hidden)
        return scores, read(scores, steps)

    @abstractmethod
    def candidate_scores(self, steps: StepBatch, candidates_NT1K: Tensor) -> CandidateScores:
        """Log-probabilities of given next actions at every prefix, with gradient.

        Args:
            steps: contexts and actions.
            candidates_NT1K: int64, K different actions at each of the T + 1 prefixes.
        """

    def top_actions(self, steps: StepBatch, *, top_k: int) -> CandidateScores:
        """The most probable next actions at every prefix, without gradient, most probable first.

        Args:
            steps: contexts and actions.
            top_k: K; all actions where there are fewer.
        """
        import torch

        shape = (*steps.action_ids_NT.shape, 1)
        every = torch.arange(self.vocab_size, device=steps.action_ids_NT.device)
        with torch.no_grad():
            found = self.candidate_scores(steps, every.expand(shape[0], shape[1] + 1, -1).contiguous())
        log_p, chosen = found.log_p_NT1K.topk(min(top_k, self.vocab_size), dim=2)
        kept = torch.zeros_like(found.log_p_NT1K, dtype=torch.bool).scatter(2, chosen, True)
        others = found.log_p_NT1K.masked_fill(kept, -torch.inf).logsumexp(2)
        rest = torch.where(found.mask_NT1, others, 0.0)
        return CandidateScores(found.candidates_NT1K.gather(2, chosen), log_p, rest, found.mask_NT1)


class Reward(ABC):
    """Turns rollouts into log rewards in two moves, so that replay never pays for the first one again.

    ``terms`` computes untempered values that depend on the trajectory alone; ``combine`` weights them at an optimiser
    step.
    """

    provides: frozenset[str]
    """``log_reward_B``, and ``log_reward_BT1`` if prefix values can be given."""
    needs_reference: bool = False
    """True if ``terms`` scores under the frozen reference, so that the module must keep one."""
    separator: str | None = None
    """What ends a reasoning step, if the reward judges steps."""
    is_constant: bool = False
    """True if ``combine`` gives the same at every optimiser step."""
    is_log_weight: bool = False
    """True if it weighs completions by their likelihood alone, so that evaluation scores its samples, too."""

    learns: bool = False
    """True if it learns from the trajectories of the run; see ``observations``."""

    def parts(self) -> tuple[Reward, ...]:
        """The rewards that it is made of; itself where it is one."""
        return (self,)

    @abstractmethod
    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Untempered terms, (B,) or with ``prefixes`` (B, T + 1); ``correct_B`` (bool) where answers are checked."""

    def begin(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> None:
        """Start what ``terms`` of the same rollouts will wait for; nothing by default."""
        return None

    def try_on(self, problem: Problem) -> None:
        """Call what the user wrote on one problem before a model is loaded; nothing where there is no such code."""
        return None

    @abstractmethod
    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        """The tempered log reward at an optimiser step.

        To rank a replay buffer it is asked with the terms of finished trajectories, (B,), and rollouts that hold
        problem ids, completions and sources alone.
        """

    def schedule_values(self, optimizer_step: int) -> tuple[float, ...]:
        """Numbers through which ``combine`` depends on the optimiser step: where they are equal, so is its result."""
        return () if self.is_constant else (float(optimizer_step),)

    def observations(self, terms: Mapping[str, Tensor], rollouts: Rollouts) -> list[Any]:
        """What it wants to remember of these trajectories, as plain values; nothing by default."""
        return []

    def learn(self, observations: list[Any]) -> None:
        """Take in the observations of all processes, the same ones in each; nothing by default."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What it has learned, for checkpoints; nothing by default."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``."""
        return None


class RewardNetwork(ABC):
    """Judges a solution at the end of each of its steps."""

    is_calibrated: bool
    """True if the sigmoid of a score is the probability that the solution is good so far; False if only differences of
    scores mean something (trained on preferences)."""
    separator: str | None = None
    """What ended a step in the data that it was trained on; None if that is not known."""
    prompt_template: str | None = None
    """The prompt of the data that it was trained on, with ``{question}``; None if that is not known."""

    @abstractmethod
    def score_steps(self, prompts: Sequence[str], steps: Sequence[Sequence[str]], device: Any) -> list[list[float]]:
        """The scores (logits) of B solutions, one for each step, without gradient."""


class Buffer(ABC):
    """A replay buffer of trajectories with stated rules for duplicates, eviction and sampling."""

    @abstractmethod
    def __len__(self) -> int:
        """Trajectories held."""

    @abstractmethod
    def add(self, trajectories: Iterable[Trajectory]) -> int:
        """Offer trajectories; returns how many were taken."""

    def rank_by(self, reward: Reward, optimizer_step: int) -> None:
        """From now on order trajectories by the reward as it combines their terms at this optimiser step.

        A buffer that compares no rewards has nothing to do.
        """
        return

    @abstractmethod
    def sample(self, problem_id: str | None, num_samples: int, uniforms: Sequence[float]) -> list[Trajectory]:
        """Draw with the given uniforms, from one problem or (None) from all; empty if nothing is held."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """State as tensors and primitives."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``."""
