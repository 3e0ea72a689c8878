"""Parts that several objectives share: advantages, potentials, surrogates, checks."""
