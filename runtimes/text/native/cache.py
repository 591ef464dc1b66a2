"""Keys and values of the sequences that are computed, one slot each, and what is left of earlier ones."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

KEPT_TOKENS = 1024
"""What an ended sequence leaves in its slot at most, for a later one that begins alike."""
SHORTEST_COPY = 16
"""A shorter common beginning is computed sooner than copied from another slot."""


@dataclass
class Slot:
    """The tokens whose keys and values are in the cache at this place, in order."""

    number: int
    tokens: list[int] = field(default_factory=list)
    taken: bool = False


class SlotCache:
    """Room for `slots` sequences of up to `context_length` tokens.

    A page of memory is taken from the system when it is first written to and given back when a long
    sequence ends, so memory is that of the tokens in use.
    """

    def __init__(self, *, layers: int, slots: int, heads: int, head_size: int, context_length: int) -> None:
        shape = (layers, 2, slots, heads, context_length, head_size)
        # Pages of a shared mapping, the default, cannot be given back one by one.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        size = 4 * layers * 2 * slots * heads * context_length * head_size
        self._memory = mmap.mmap(-1, size, flags=flags)
        self.values = torch.frombuffer(self._memory, dtype=torch.float32).view(shape)
        """[layers, keys or values, slots, heads, context, head size]"""
        self.slots = [Slot(number) for number in range(slots)]

    def take(self, prompt: Sequence[int]) -> tuple[Slot, int]:
        """A free slot and how many of the prompt's first tokens it has already.

        At least the last token is left to compute: its logits are needed.
        """
        free = [slot for slot in self.slots if not slot.taken]
        known = {slot.number: common_beginning(slot.tokens, prompt[:-1]) for slot in self.slots}
        # The one that loses least: most of the prompt, then the least of anything else.
        slot = max(free, key=lambda slot: (known[slot.number], -len(slot.tokens)))
        reused = known[slot.number]
        best = max(known, key=lambda number: known[number])
        if known[best] >= max(reused + 1, SHORTEST_COPY):
            reused = known[best]
            # A slot whose beginning is worth copying is best kept as it is; this one is the emptiest.
            slot = min(free, key=lambda slot: (known[slot.number], len(slot.tokens)))
            self.values[:, :, slot.number, :, :reused] = self.values[:, :, best, :, :reused]
        slot.taken = True
        slot.tokens = list(prompt[:reused])
        return slot, reused

    def release(self, slot: Slot) -> None:
        """The sequence has ended; its beginning stays for a later one."""
        slot.taken = False
        if len(slot.tokens) > KEPT_TOKENS:
            del slot.tokens[KEPT_TOKENS:]
            self._give_back(slot.number)

    def _give_back(self, slot: int) -> None:
        """The slot's memory behind the tokens that are kept, in whole pages."""
        kept = self.values[:, :, slot, :, KEPT_TOKENS:]
        size = kept.element_size()
        length = kept.shape[-2] * kept.shape[-1] * size
        for layer in range(kept.shape[0]):
            for which in range(2):
                for head in range(kept.shape[2]):
                    start = kept[layer, which, head].storage_offset() * size
                    begin = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
                    end = (start + length) // mmap.PAGESIZE * mmap.PAGESIZE
                    if end > begin:
                        self._memory.madvise(mmap.MADV_DONTNEED, begin, end - begin)


def common_beginning(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens the two have in common from the start."""
    length = min(len(left), len(right))
    for index in range(length):
        if left[index] != right[index]:
            return index
    return length
