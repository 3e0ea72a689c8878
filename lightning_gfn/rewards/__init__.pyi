from .answer_match import AnswerMatch as AnswerMatch
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
