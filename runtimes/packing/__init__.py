"""Putting sequences of different lengths into one computation without wasting it on padding."""
