from .base import AdvantageRule as AdvantageRule
from .marginal_diversity import MarginalDiversity as MarginalDiversity
from .pass_at_k import PassAtK as PassAtK
from .set_objective import SetObjective as SetObjective
from .uniqueness import Uniqueness as Uniqueness
from .unlikely import UniformCorrect as UniformCorrect, Unlikeliness as Unlikeliness
