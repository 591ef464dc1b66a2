"""Text to speech and to music, and the formats that audio is sent in."""
