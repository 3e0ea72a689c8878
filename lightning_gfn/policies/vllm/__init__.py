"""Sampling by a vLLM server that holds the policy's weights."""
