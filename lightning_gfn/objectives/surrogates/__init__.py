"""Losses of single actions in the GRPO family other than PPO's clipping: surrogates that YAML names in an objective."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
