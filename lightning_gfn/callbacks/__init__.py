"""Lightning callbacks: evaluation, sample tables, predictions, budgets, progress and model export."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
