"""Texts to tokens and back: tokenizers, chat templates, lengths of prompts."""
