from .budget import Budget as Budget
from .endgames.boards import EndgameBoards as EndgameBoards
from .endgames.matches import EndgameMatches as EndgameMatches
from .evaluation import Evaluation as Evaluation
from .export import ExportModel as ExportModel
from .faithfulness import Faithfulness as Faithfulness
from .predictions import PredictionWriter as PredictionWriter
from .progress import Progress as Progress
from .proof_files import ProofFiles as ProofFiles
from .proof_search import ProofSearch as ProofSearch, SearchedProof as SearchedProof
from .reward_evaluation import RewardEvaluation as RewardEvaluation
from .run_health import AsksSources as AsksSources, RunHealth as RunHealth
from .skipped_steps import SkippedStepDump as SkippedStepDump
from .step_labels import StepLabelWriter as StepLabelWriter
from .tables import SampleTable as SampleTable
