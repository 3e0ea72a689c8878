"""Where actions lead: Lean backends, the pool of them, and the rules of what a tactic may say."""
