"""What ``doctor`` looks at: the machine, packages, Lean, models and services."""
