"""Steps of other methods: replay beside SFT, SFT and DPO beside TRL 1.x, PPO beside TRL 1.12."""

from __future__ import annotations

from functools import partial

from benchmarks.frame.row import Contest, Options, Row, Target, Way, time_at_most
from benchmarks.frame.stepping import stepped
from benchmarks.peers import ppo_worker, trl_trainers
from benchmarks.subjects.models import small_llama
from benchmarks.subjects.passes import random_ids
from benchmarks.subjects.rewards import TERM, distinct_words
from benchmarks.subjects.training import MANY, best_precision, fit_loop, optimizer, problems
from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.preference import PreferenceModule
from lightning_gfn.modules.settings import KLControl, UpdateSettings
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.objectives.ppo import PPO
from lightning_gfn.objectives.preference import DPO
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.critic import Critic
from lightning_gfn.policies.teacher_forcing.scoring_pass import PassName
from lightning_gfn.preference_types import Preference
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.types import Problem, Step, Trajectory

PROMPTS, SAMPLES, LENGTHS, PAIRS = 4, 4, (32, 64), 8
ROWS_OF_A_STEP, EPOCHS = PROMPTS * SAMPLES, 4
SFT_SETTINGS = ("TRL, defaults", "TRL, bf16 weights", "TRL, fp32", "TRL, bf16 autocast")


def sft(count: int) -> Way:
    """A step of SFT on so many solutions, the same texts in every step."""
    model = small_llama()
    texts = zip(model.texts(count, LENGTHS[0]), model.texts(count, LENGTHS[1], seed=2), strict=True)
    batch = [Problem(id=str(i), prompt=prompt, solutions=(text,)) for i, (prompt, text) in enumerate(texts)]
    # Two more tokens than needed: the stop is learned, as by the peer.
    policy = model.policy(LENGTHS[0], LENGTHS[1] + 2, min_new_tokens=0)
    return stepped(fit_loop(SFTModule(policy, optimizer=optimizer()), [batch] * MANY, best_precision()))


def replay() -> Way:
    """A step of VarGrad on replayed trajectories alone."""
    from benchmarks.subjects.rewards import TokenReward

    model = small_llama()
    asked, buffer = problems(model, PROMPTS, LENGTHS[0]), ReplayBuffer(capacity=SAMPLES)
    contexts = random_ids(model, PROMPTS, LENGTHS[0])
    actions = random_ids(model, ROWS_OF_A_STEP, LENGTHS[1], 2)
    for number, action in enumerate(actions):
        problem = number // SAMPLES
        step = Step(context=tuple(contexts[problem]), action=tuple(action))
        terms = {TERM: (-0.1 * number,)}
        buffer.add([Trajectory(asked[problem].id, (step,), f"{number}", terms, log_reward=-0.1 * number)])
    module = GFlowNetModule(
        policy=model.policy(LENGTHS[0], LENGTHS[1] + 2, min_new_tokens=0), objective=VarGrad(), reward=TokenReward(),
        num_samples=SAMPLES, behaviour=BehaviourMix(on_policy=0.0, replay=1.0), buffer=buffer, optimizer=optimizer(),
        log_entropy=False,
    )  # fmt: skip
    return stepped(fit_loop(module, [asked] * MANY, best_precision()))


def dpo(count: int) -> Way:
    """A step of DPO on 8 pairs that were not seen before: their reference scores are not known yet."""
    model = small_llama()
    columns = zip(
        model.texts(count, LENGTHS[0]), model.texts(count, LENGTHS[1], 2), model.texts(count, LENGTHS[1], 3),
        strict=True,
    )  # fmt: skip
    examples = [Preference(str(i), prompt, chosen, rejected) for i, (prompt, chosen, rejected) in enumerate(columns)]
    batches = [examples[start : start + PAIRS] for start in range(0, count, PAIRS)]
    policy = model.policy(LENGTHS[0], LENGTHS[1] + 2, min_new_tokens=0)
    return stepped(fit_loop(PreferenceModule(policy, DPO(), optimizer=optimizer()), batches, best_precision()))


def ppo(scoring: PassName = "auto") -> Way:
    """Sampling, rewards, reference, and four epochs over the trajectories with a critic of its own."""
    model = small_llama()
    module = PolicyGradientModule(
        policy=model.policy(*LENGTHS, scoring=scoring), objective=PPO(), reward=FunctionReward(distinct_words),
        num_samples=SAMPLES, head=Critic(), kl=KLControl(coefficient=0.05), updates=UpdateSettings(num_epochs=EPOCHS),
        optimizer=optimizer(), log_entropy=False,
    )  # fmt: skip
    batch = problems(model, PROMPTS, LENGTHS[0])
    return stepped(fit_loop(module, [batch] * MANY * EPOCHS, best_precision(), every=EPOCHS))


def replay_contest(options: Options) -> Contest:
    """Both on 16 rows of the same lengths."""
    return Contest(ours=replay, peers={"our SFT step": lambda: sft(ROWS_OF_A_STEP)})


def sft_contest(options: Options) -> Contest:
    """16 rows of 32 + 64 tokens."""

    def peer(name: str) -> Way:
        return trl_trainers.sft_way(small_llama(), ROWS_OF_A_STEP, LENGTHS, trl_trainers.SETTINGS[name])

    return Contest(ours=lambda: sft(ROWS_OF_A_STEP), peers={name: partial(peer, name) for name in SFT_SETTINGS})


def dpo_contest(options: Options) -> Contest:
    """8 pairs, 16 rows of 32 + 64 tokens."""
    count = 24 * PAIRS

    def peer(name: str) -> Way:
        return trl_trainers.dpo_way(small_llama(), PAIRS, count, LENGTHS, trl_trainers.SETTINGS[name])

    return Contest(ours=lambda: dpo(count), peers={name: partial(peer, name) for name in SFT_SETTINGS})


def ppo_contest(options: Options) -> Contest:
    """16 trajectories, four epochs, one minibatch each; the peer runs in a process of its own."""

    def peer(name: str) -> Way:
        return ppo_worker.way(small_llama(), ROWS_OF_A_STEP, LENGTHS, name, options.threads)

    tried = ppo_worker.PRECISIONS if options.full else ("fp32",)  # autocast was slower wherever it was tried
    return Contest(ours=ppo, peers={f"TRL 1.12, {name}": partial(peer, name) for name in tried})


def ppo_pass_contest(options: Options) -> Contest:
    """16 trajectories, four epochs; policy, reference and critic are read by the pass of the library."""
    return Contest(ours=ppo, peers={"ours, scoring: hugging_face": partial(ppo, "hugging_face")})


ROWS = [
    Row(
        name="replay_step",
        what="replay step (VarGrad), small Llama, 16 rows of 32 + 64",
        build=replay_contest,
        target=time_at_most(1.1),
        rounds=7,
    ),
    Row(
        name="sft_step",
        what="SFT step, small Llama, 16 rows of 32 + 64",
        build=sft_contest,
        target=Target(ratio=1.5),
        rounds=5,
        needs=[trl_trainers.NEEDS_TRL],
    ),
    Row(
        name="dpo_step",
        what="DPO step, small Llama, 8 pairs of 32 + 64",
        build=dpo_contest,
        target=Target(ratio=1.8),
        rounds=5,
        needs=[trl_trainers.NEEDS_TRL],
    ),
    Row(
        name="ppo_step",
        what="PPO step, small Llama, 16 trajectories of 32 + 64, four epochs",
        build=ppo_contest,
        target=Target(ratio=2.5),
        rounds=2,
        needs=[ppo_worker.missing],
    ),
    Row(
        name="ppo_pass",
        what="PPO step with a critic, small Llama, beside the same step by the pass of transformers",
        build=ppo_pass_contest,
        target=Target(ratio=1.0),
        rounds=3,
    ),
]
