"""Signs of training that cannot learn, and the sentences that name their remedies."""
