from .bandits import (
    UCB as UCB,
    Bandit as Bandit,
    EpsilonGreedy as EpsilonGreedy,
    ThompsonSampling as ThompsonSampling,
)
from .base import Principal as Principal, Proposal as Proposal
from .fixed import (
    EquilibriumOracle as EquilibriumOracle,
    ExhaustiveOracle as ExhaustiveOracle,
    FixedIncentives as FixedIncentives,
)
from .language import LanguagePrincipal as LanguagePrincipal, Remembered as Remembered
from .meta_gradient import MetaGradient as MetaGradient
from .writers import EndpointWriter as EndpointWriter, Writer as Writer, Written as Written
