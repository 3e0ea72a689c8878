from .accuracy import MajorityAtK as MajorityAtK, PassAtK as PassAtK, SolveRate as SolveRate
from .base import PerProblemMetric as PerProblemMetric
from .branches import BranchAccuracy as BranchAccuracy
from .classes import ClassDiversity as ClassDiversity
from .completions import CompletionStatistics as CompletionStatistics
from .diversity import (
    Coverage as Coverage,
    DistinctCorrect as DistinctCorrect,
    DistinctEquations as DistinctEquations,
    DistinctNgrams as DistinctNgrams,
    SelfBleu as SelfBleu,
)
from .embeddings import (
    EmbeddingDistance as EmbeddingDistance,
    EmbeddingMetric as EmbeddingMetric,
)
from .experts.endgame_moves import EndgameMoves as EndgameMoves
from .experts.transcendence import Transcendence as Transcendence
from .groups import AccuracyByGroup as AccuracyByGroup
from .labels import LabelPrediction as LabelPrediction
from .proofs import (
    DistinctProofs as DistinctProofs,
    EnvironmentSeconds as EnvironmentSeconds,
    ProofLength as ProofLength,
    ProofMetric as ProofMetric,
    StatesCovered as StatesCovered,
    TacticErrors as TacticErrors,
    TacticVariety as TacticVariety,
)
from .reference_texts import (
    Agreement as Agreement,
    BertScore as BertScore,
    ReferenceOverlap as ReferenceOverlap,
)
from .references import ReferenceNll as ReferenceNll
from .target import LogLikelihood as LogLikelihood, SampledTarget as SampledTarget, TargetDistance as TargetDistance
