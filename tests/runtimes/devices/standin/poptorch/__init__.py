"""A stand-in for PopTorch, which is on no package index and needs Graphcore's hardware.

It computes with torch and enforces what bites on an IPU: a program is compiled before it is called, for one
shape and kind of every input; the batch is divided evenly among replicas, each of which sees its part alone;
compiled programs are kept in the cache's folder. It shows nothing of the speed, the memory or the numbers of
an IPU.
"""

import hashlib
import os
from pathlib import Path

__version__ = "3.4.0+stand-in"


def ipuHardwareIsAvailable(num_ipus=1):
    return num_ipus <= int(os.environ.get("STANDIN_IPUS", "2"))


class Options:
    def __init__(self):
        self.iterations, self.replicas, self.cache = 1, 1, None

    def deviceIterations(self, count):
        self.iterations = count
        return self

    def replicationFactor(self, count):
        if not ipuHardwareIsAvailable(count):
            raise RuntimeError(f"{count} replicas need {count} IPUs")
        self.replicas = count
        return self

    def enableExecutableCaching(self, path):
        self.cache = Path(path)
        return self


class InferenceModel:
    def __init__(self, model, options):
        self._model, self._options, self._compiled = model, options, None

    def compile(self, *inputs):
        signature = self._signature(inputs)
        parts = self._options.iterations * self._options.replicas
        if any(shape[0] % parts for shape, _ in signature):
            raise RuntimeError(f"the batch cannot be divided among {parts} replicas times iterations")
        key = hashlib.sha256(repr((str(self._model), signature, self._options.replicas)).encode()).hexdigest()
        self._options.cache.mkdir(parents=True, exist_ok=True)
        (self._options.cache / f"{key}.popef").touch(exist_ok=True)
        self._compiled = signature

    def __call__(self, *inputs):
        import torch  # not above: who only looks for IPUs need not wait for it

        if self._compiled is None:
            raise RuntimeError("the program was not compiled before it was called")
        if self._signature(inputs) != self._compiled:
            raise RuntimeError(f"compiled for {self._compiled}, called with {self._signature(inputs)}")
        parts = self._options.iterations * self._options.replicas
        with torch.inference_mode():
            divided = zip(*(tensor.chunk(parts) for tensor in inputs), strict=True)
            return torch.cat([self._model(*part) for part in divided])

    @staticmethod
    def _signature(inputs):
        import torch

        if any(tensor.dtype in (torch.int64, torch.float64) for tensor in inputs):
            raise RuntimeError("an IPU has no 64-bit values")
        return [(tuple(tensor.shape), str(tensor.dtype)) for tensor in inputs]


def inferenceModel(model, options):
    if model.training:
        model.eval()
    return InferenceModel(model, options)
