"""Theorems that ``lightning-gfn lean generate`` made, with proofs that the kernel checked; ``LeanSynthetic`` reads them."""
