"""Putting sequences of different lengths into one computation without wasting it on padding.

`bins` and `rows` decide which sequences share a row, for training and serving alike.
"""
