"""Our own engine for models of the Llama family on a CPU: little Python per step, weights of 8 bits if wanted."""
