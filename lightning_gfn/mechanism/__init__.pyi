from .agents import AgentSettings as AgentSettings, Episodes as Episodes
from .clean_up import CleanUp as CleanUp
from .commons_harvest import CommonsHarvest as CommonsHarvest
from .escape_room import EscapeRoom as EscapeRoom
from .grid import Bodies as Bodies, GridMap as GridMap, GridWorld as GridWorld
from .learning import Outcome as Outcome
from .parallel import ParallelWorld as ParallelWorld
from .rounds import Round as Round
from .world import IncentiveSpace as IncentiveSpace, Step as Step, World as World
