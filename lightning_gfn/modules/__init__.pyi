from .base import TrainedModule as TrainedModule
from .distillation import DistillationModule as DistillationModule, TeacherSettings as TeacherSettings
from .gflownet import GFlowNetModule as GFlowNetModule
from .policy_gradient import PolicyGradientModule as PolicyGradientModule
from .policy_module import PolicyModule as PolicyModule
from .preference import PreferenceModule as PreferenceModule
from .reference_scores import ReferenceScores as ReferenceScores
from .reward_model import RewardModelModule as RewardModelModule
from .rollout import RolloutModule as RolloutModule
from .rollout_source import FromActors as FromActors, InStep as InStep, RolloutSource as RolloutSource
from .settings import (
    EntropyControl as EntropyControl,
    EvaluationSettings as EvaluationSettings,
    KLControl as KLControl,
    OptimizerSettings as OptimizerSettings,
    UpdateSettings as UpdateSettings,
)
from .sft import SFTModule as SFTModule
from .skipped_steps import SkippedSteps as SkippedSteps
from .text_check import DataText as DataText
