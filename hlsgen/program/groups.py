"""How the channel blocks of an op's input feed the channel blocks of its output."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BlockGroups:
    """`count` groups; each takes `inputs` consecutive input blocks to `outputs` consecutive output blocks."""

    count: int
    inputs: int
    outputs: int


def head_groups(heads: int, in_lanes: int, out_lanes: int, tm: int) -> BlockGroups:
    """Groups of scores or attention: a head each. in_lanes, out_lanes: physical lanes of the op's input and output."""
    return BlockGroups(heads, in_lanes // tm // heads, out_lanes // tm // heads)


def block_groups(
    in_lanes: Sequence[int], out_lanes: Sequence[int], in_per_group: int, out_per_group: int, tm: int
) -> BlockGroups:
    """The finest partition into equal block groups that holds every connection of a grouped convolution.

    in_lanes, out_lanes: logical channel of each physical lane (-1: none); in_per_group, out_per_group: the
    convolution's channels a group. A dense convolution is one group; a depthwise one on aligned blocks one a block.
    """
    ins, outs = len(in_lanes) // tm, len(out_lanes) // tm

    def members(lanes: Sequence[int], block: int, per_group: int) -> set[int]:
        return {c // per_group for c in lanes[block * tm : (block + 1) * tm] if c >= 0}

    in_groups = [members(in_lanes, b, in_per_group) for b in range(ins)]
    out_groups = [members(out_lanes, b, out_per_group) for b in range(outs)]
    for count in range(min(ins, outs), 1, -1):
        if ins % count or outs % count:
            continue
        if all(
            b // (ins // count) == a // (outs // count) or not (out_groups[a] & in_groups[b])
            for a in range(outs)
            for b in range(ins)
        ):
            return BlockGroups(count, ins // count, outs // count)
    return BlockGroups(1, ins, outs)
