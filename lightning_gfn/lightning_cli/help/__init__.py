"""Help of the trainer's commands: a short one that costs nothing, and one for each class."""
