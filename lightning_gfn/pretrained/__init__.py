"""Pretrained models that a fresh machine can have without a model hub."""
