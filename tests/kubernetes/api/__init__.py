"""The stand-in API server: what it knows of objects (pure), and HTTP around it."""
