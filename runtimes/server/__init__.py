"""The HTTP front of a serving container: the OpenAI protocol and the probes, whatever model is behind."""
