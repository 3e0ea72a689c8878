"""Advantages that ask a group of samples for more than a high mean reward: rules that YAML names in an objective."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
