"""The deployment manager: plans, launches, tunes and routes models on clusters."""
