"""Plain Python functions of the user's that a setting names; they read completions and the problems' columns."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
