"""Fine-tune language models so that they find many different correct solutions."""

__version__ = "0.1.0"
