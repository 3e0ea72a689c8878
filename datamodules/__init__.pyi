from .aqua import Aqua as Aqua
from .experts.arithmetic import ExpertArithmetic as ExpertArithmetic
from .experts.chess_games import EndgameGames as EndgameGames
from .experts.pgn_games import PgnGames as PgnGames
from .feedback_conditioned import FeedbackConditioned as FeedbackConditioned
from .files.problem_file import ProblemFile as ProblemFile
from .gsm8k import GSM8K as GSM8K
from .inference.arithmetic import IntegerArithmetic as IntegerArithmetic
from .inference.continuation import SentenceContinuation as SentenceContinuation
from .inference.incentive_rounds import IncentiveRounds as IncentiveRounds
from .inference.infilling import GeneratedStories as GeneratedStories, StoryInfilling as StoryInfilling
from .inference.labelled_text import LabelledText as LabelledText
from .inference.posterior_samples import PosteriorSamples as PosteriorSamples
from .inference.random_integers import RandomIntegers as RandomIntegers
from .inference.subjectivity import Subjectivity as Subjectivity
from .lean_feedback import LeanFeedbackTactics as LeanFeedbackTactics
from .lean_synthetic import LeanSynthetic as LeanSynthetic
from .lean_text import LeanText as LeanText
from .leandojo import LeanDojoBenchmark4 as LeanDojoBenchmark4
from .math import Math as Math
from .metamath import MetaMath as MetaMath
from .preference import PreferenceDataModule as PreferenceDataModule
from .samples import SampledSolutions as SampledSolutions
from .step_labels import (
    PRM800K as PRM800K,
    MathShepherd as MathShepherd,
    OutcomeRows as OutcomeRows,
    PairRows as PairRows,
    StepwiseRows as StepwiseRows,
)
from .synthetic import SyntheticWordProblems as SyntheticWordProblems
from .synthetic_shift import ShiftedWordProblems as ShiftedWordProblems
