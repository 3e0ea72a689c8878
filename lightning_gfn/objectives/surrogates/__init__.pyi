from .base import ActionTerms as ActionTerms, Surrogate as Surrogate
from .cispo import Cispo as Cispo
from .covariance import ClipCov as ClipCov, KLCov as KLCov
