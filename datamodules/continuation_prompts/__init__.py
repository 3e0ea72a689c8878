"""Prompts from OpenWebText for ``SentenceContinuation``; ``source.json`` says whose they are, and their licence."""
