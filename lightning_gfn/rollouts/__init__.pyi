from .asynchronous.settings import AsynchronousSettings as AsynchronousSettings
from .batching import BatchRow as BatchRow
from .behaviour import BehaviourMix as BehaviourMix
from .completion_sampler import RolloutSampler as RolloutSampler
from .dynamic_sampling import ResampleSettings as ResampleSettings
from .evaluating.beams import BeamSettings as BeamSettings
from .evaluation import Completion as Completion
from .group_sampler import GroupSampler as GroupSampler
from .keyed_sampling import Call as Call, KeyedDraw as KeyedDraw
from .proofs.proof_sampler import EpisodeSampler as EpisodeSampler
from .proofs.proving import Proving as Proving
from .rewarded_sampler import RewardedSampler as RewardedSampler
from .rollout_batch import RolloutBatch as RolloutBatch, SampledBatch as SampledBatch
from .search.best_first import BestFirst as BestFirst
from .search.mcts import MCTS as MCTS
from .search.proof_search import SearchSettings as SearchSettings
from .search.search_behaviour import SearchBehaviour as SearchBehaviour
from .step_labels import (
    Completions as Completions,
    ExactArithmetic as ExactArithmetic,
    ExactSolutions as ExactSolutions,
    StepLabeller as StepLabeller,
    StepLabels as StepLabels,
    SteppedSolution as SteppedSolution,
)
