"""Training objectives: pure functions over log-probabilities and rewards, and frozen dataclasses that YAML can name."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
