"""Our own engine for the Llama family on a CPU: little Python per step, weights of 8 bits if wanted."""
