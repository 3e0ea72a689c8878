"""Requests over HTTP: JSON with time limits and retries; chat endpoints, asked within a budget, replies on disk."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
