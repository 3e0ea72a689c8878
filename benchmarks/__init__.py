"""Speed and memory beside the peers: one table of ratios, each of one run (``python -m benchmarks --help``)."""
