"""Text generation: prompts in, tokens out, one engine behind one protocol."""
