"""Metrics of models that were trained on what imperfect experts wrote."""
