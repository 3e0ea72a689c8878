"""Theorems that ``lightning-gfn lean generate`` made, their proofs checked by the kernel, for ``LeanSynthetic``."""
