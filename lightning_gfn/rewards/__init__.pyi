from .answer_match import AnswerMatch as AnswerMatch
from .class_targets.class_target import ClassTarget as ClassTarget
from .class_targets.constant import ConstantWhenRight as ConstantWhenRight
from .class_targets.counted import CountedProbabilities as CountedProbabilities
from .class_targets.probabilities import (
    ClassProbabilities as ClassProbabilities,
    KnownProbabilities as KnownProbabilities,
    Observation as Observation,
    RunningProbabilities as RunningProbabilities,
)
from .class_targets.right_texts import Judgement as Judgement
from .function import FunctionReward as FunctionReward
from .joint import JointLikelihood as JointLikelihood, JointText as JointText
from .learned import LearnedReward as LearnedReward
from .likelihood import ReferenceLikelihood as ReferenceLikelihood
from .misspecified import MisspecifiedLikelihood as MisspecifiedLikelihood
from .noisy import NoisyAnswerMatch as NoisyAnswerMatch
from .proof import ProofReward as ProofReward, ProofSuccess as ProofSuccess
from .schedules import Constant as Constant, Cosine as Cosine, Linear as Linear, Schedule as Schedule
from .target import TargetWeight as TargetWeight
from .weighted_sum import SumReward as SumReward, WeightedReward as WeightedReward
from .welfare import SocialWelfare as SocialWelfare
