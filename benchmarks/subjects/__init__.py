"""What is measured: models, prompts, rewards and training runs of this library, through its public interface."""
