from .configuration_copies import ConfigurationCopies as ConfigurationCopies
from .embedded import EmbeddedLean as EmbeddedLean
from .fake import FakeLean as FakeLean
from .interact import LeanInteractBackend as LeanInteractBackend
from .leandojo import LeanDojoBackend as LeanDojoBackend
from .pool import LeanPool as LeanPool
from .ray_actor import RayLean as RayLean
from .rules import TacticRules as TacticRules
