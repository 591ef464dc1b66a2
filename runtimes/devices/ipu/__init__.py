"""Graphcore IPUs, by a worker in the Python of Graphcore's SDK.

The SDK is frozen: PopTorch 3.x exists for Python 3.8 and torch 2.0 alone. So nothing of ours is imported
there but the folder `worker`, which is a program of its own. The front (HTTP, queue, tokens, checks of the
weights) is the same as on every other device and runs in our Python beside it; the two speak through pipes.
"""
