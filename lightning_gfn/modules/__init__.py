"""LightningModules, one per data regime; each takes any objective of that regime."""
