"""Runs in the Python 3.8 of Graphcore's SDK, with PopTorch, torch 2.0 and transformers 4.29, and imports
nothing else: a packed encoder, compiled ahead of time for one shape.

    python worker probe {}
    python worker serve SETTINGS

Says one line of JSON, {"error": ...} when it cannot. Then `serve` reads ids, positions and segments (int32,
[rows, tokens] each) from stdin and writes vectors (float32, [rows, segments, hidden]) to stdout, until stdin
ends.
"""

import json
import os
import sys

# The libraries print; our partner reads numbers. So what they print goes to the log.
ANSWERS = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)


def say(answer):
    ANSWERS.write(json.dumps(answer).encode() + b"\n")
    ANSWERS.flush()


def probe():
    import poptorch

    # Partitions are powers of two.
    counts = [count for count in (64, 32, 16, 8, 4, 2, 1) if poptorch.ipuHardwareIsAvailable(count)]
    if not counts:
        raise RuntimeError("PopTorch finds no IPU: is a partition attached to this pod?")
    say({"ipus": counts[0], "poptorch": f"PopTorch {poptorch.__version__}"})


def serve(settings):
    import numpy
    import poptorch
    import torch
    import transformers

    class PackedEncoder(torch.nn.Module):
        """One vector for each segment of each row."""

        def __init__(self, encoder):
            super().__init__()
            self.encoder = encoder
            self.register_buffer("numbers", torch.arange(1, settings["segments"] + 1, dtype=torch.int32))

        def forward(self, ids, positions, segments):  # [R, T] each
            together = segments.unsqueeze(2) == segments.unsqueeze(1)  # [R, T, T]
            if not OLD_MASKS:
                together = together.unsqueeze(1)
            hidden = self.encoder(
                input_ids=ids,
                position_ids=positions,
                attention_mask=together if not OLD_MASKS else together.int(),
            ).last_hidden_state  # [R, T, H]
            members = segments.unsqueeze(1) == self.numbers.view(1, -1, 1)  # [R, K, T]
            if settings["first_token_only"]:
                members = members & (positions == 0).unsqueeze(1)
            members = members.to(hidden.dtype)
            sums = torch.matmul(members, hidden)  # [R, K, H]
            # Divided last, so that half precision keeps its digits.
            return sums.float() / members.float().sum(dim=2, keepdim=True).clamp(min=1.0)

    # transformers 4 takes a mask of [R, T, T] and adds the heads' dimension, later ones want it whole.
    OLD_MASKS = int(transformers.__version__.split(".")[0]) < 5
    encoder = transformers.AutoModel.from_pretrained(settings["folder"], local_files_only=True).eval()
    model = PackedEncoder(encoder.half() if settings["half"] else encoder.float())
    options = poptorch.Options()
    options.deviceIterations(1)
    options.replicationFactor(settings["replicas"])
    options.enableExecutableCaching(settings["cache"])
    program = poptorch.inferenceModel(model, options)
    shape = (settings["rows"], settings["tokens"])
    example = [torch.zeros(shape, dtype=torch.int32) for _ in range(3)]
    program.compile(*example)
    hidden = encoder.config.hidden_size
    say({"output": [settings["rows"], settings["segments"], hidden]})
    size = 3 * 4 * shape[0] * shape[1]
    while True:
        content = sys.stdin.buffer.read(size)
        if len(content) < size:
            return
        values = numpy.frombuffer(content, dtype="<i4").reshape((3,) + shape).copy()
        vectors = program(*[torch.from_numpy(part) for part in values])
        ANSWERS.write(vectors.float().numpy().astype("<f4").tobytes())
        ANSWERS.flush()


if __name__ == "__main__":
    try:
        if sys.argv[1] == "probe":
            probe()
        else:
            serve(json.loads(sys.argv[2]))
    except Exception as error:
        say({"error": f"the IPU worker failed: {type(error).__name__}: {error}"})
        raise
