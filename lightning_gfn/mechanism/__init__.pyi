from .agents import AgentSettings as AgentSettings, Episodes as Episodes
from .escape_room import EscapeRoom as EscapeRoom
from .learning import Outcome as Outcome
from .parallel import ParallelWorld as ParallelWorld
from .rounds import Round as Round
from .world import IncentiveSpace as IncentiveSpace, Step as Step, World as World
