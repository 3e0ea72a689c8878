"""How alike texts are: words in common, embeddings, scripts of tactics, and how many texts are left of similar ones."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
