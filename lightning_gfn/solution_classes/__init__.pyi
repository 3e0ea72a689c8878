from .base import SolutionClasses as SolutionClasses
from .equations import EquationClasses as EquationClasses
from .known_paths import KnownPaths as KnownPaths
