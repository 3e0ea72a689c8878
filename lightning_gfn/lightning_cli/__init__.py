"""The trainer's commands: parser, refusals, and LightningCLI with a run folder."""
