"""Chess endgames of a king and rooks against a king: exact tables, players of known strength, and games."""
