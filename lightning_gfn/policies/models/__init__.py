"""Hugging Face models, tokenizers and adapters: loading, checking and running them."""
