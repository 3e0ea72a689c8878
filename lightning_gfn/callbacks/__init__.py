"""Lightning callbacks: evaluation, sample tables, predictions, budgets, progress and model export."""
