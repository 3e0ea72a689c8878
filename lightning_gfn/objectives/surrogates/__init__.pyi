from .base import Surrogate as Surrogate
from .cispo import Cispo as Cispo
from .covariance import ClipCov as ClipCov, KLCov as KLCov
