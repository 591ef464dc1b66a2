"""Speech to text: the Whisper family, many clips at once."""
