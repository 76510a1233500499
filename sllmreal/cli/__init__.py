"""The command `sllm`: serve, deploy, delete, status, models, checkpoint."""
