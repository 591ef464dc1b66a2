"""The data plane: one OpenAI-compatible base URL in front of every deployment."""
