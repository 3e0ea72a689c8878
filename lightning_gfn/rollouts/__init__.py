"""Rollouts: where the trajectories of a training step or of an evaluation come from."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
