"""How a run ends before its end: by signals, and by the loss of a rank."""
