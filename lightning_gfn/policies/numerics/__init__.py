"""How numbers are multiplied and added up: what suits the processor, and what must stay wide."""
