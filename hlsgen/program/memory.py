"""Where the tensors lie: those that are never needed at once share their memory."""

from collections.abc import Iterable

from hlsgen.program.ops import Op, Tensor


def placed(
    tensors: Iterable[Tensor], ops: Iterable[Op], kept: Iterable[str], outputs: Iterable[str], beat: int
) -> tuple[dict[str, int], int]:
    """First beats by name, and how many beats there are in all.

    A tensor is needed from the op that makes it to the last that reads it; `kept` (image and constants) always, `outputs` from
    their op on. The largest first, each as low as it can lie (Pisarchyk and Lee, "Efficient memory management for deep neural
    net inference", 2020: greedy by size).
    """
    held, ops = list(tensors), list(ops)
    first = {op.out: i for i, op in enumerate(ops)}
    last = dict(first)
    for i, op in enumerate(ops):
        last |= dict.fromkeys(op.reads, i)
    for name in kept:
        first[name], last[name] = -1, len(ops)
    last |= dict.fromkeys(outputs, len(ops))
    found: dict[str, int] = {}
    lying: list[tuple[int, int, Tensor]] = []  # begin, end, whose
    for tensor in sorted(held, key=lambda t: -t.bytes()):
        size, at = tensor.bytes() // beat, 0
        for begin, end, other in lying:
            if first[tensor.name] > last[other.name] or first[other.name] > last[tensor.name]:
                continue
            if begin >= at + size:
                break
            at = max(at, end)
        found[tensor.name] = at
        lying.append((at, at + size, tensor))
        lying.sort(key=lambda row: row[:2])
    return found, max((end for _, end, _ in lying), default=0)
