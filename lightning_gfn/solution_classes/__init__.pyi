from .base import SolutionClasses as SolutionClasses
from .calibration import PairCounts as PairCounts
from .clusters import (
    Clusters as Clusters,
    EmbeddingClusters as EmbeddingClusters,
    RougeClusters as RougeClusters,
)
from .equations import EquationClasses as EquationClasses
from .function import FunctionClasses as FunctionClasses
from .judge import JudgeClasses as JudgeClasses, JudgeError as JudgeError
from .known_paths import KnownPaths as KnownPaths
from .proofs import FirstTactic as FirstTactic, LemmaSets as LemmaSets, ScriptSkeleton as ScriptSkeleton
from .skeleton import SkeletonClasses as SkeletonClasses
