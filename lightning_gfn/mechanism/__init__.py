"""Mechanism design: worlds of learning agents, principals that set their incentives, rounds of one after the other."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
