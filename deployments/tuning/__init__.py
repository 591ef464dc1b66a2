"""Fine-tuning: datasets, their validation, jobs, checkpoints and training events."""
