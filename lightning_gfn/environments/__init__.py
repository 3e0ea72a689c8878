"""Environments run tactics in Lean: backends, the pool of them, and the rules that tactics must keep."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
