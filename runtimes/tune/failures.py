"""What the customer can mend."""

from __future__ import annotations


class BadInput(Exception):
    """The data or the hyperparameters cannot work; the message says what would. Exit code BAD_INPUT."""

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        """Of the training file, from 1."""
