"""Log-probabilities of given actions from one teacher-forced pass."""
