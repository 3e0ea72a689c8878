"""What evaluation does with samples beside drawing them: searching for completions, and scoring them by the reward."""
