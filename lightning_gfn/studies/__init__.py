"""Studies: many runs and their comparison, from one YAML file."""
