"""Where the tensors lie: those that are never needed at once share their memory."""

from dataclasses import replace

from hlsgen.program.ops import Program, Tensor


def placed(program: Program) -> Program:
    """The program with a first beat for every tensor, and with `fmap_beats`, what they take in all.

    A tensor is needed from the op that makes it to the last that reads it; inputs and constants always, outputs from their op on.
    So is what ops make once an image and others read for every prompt (`Program.once`). The inputs lie in front, in order. The
    largest first, each as low as it can lie (Pisarchyk and Lee, "Efficient memory management for deep neural net inference",
    2020: greedy by size).
    """
    first = {op.out: i for i, op in enumerate(program.ops)}
    last = dict(first)
    for i, op in enumerate(program.ops):
        for name in op.reads:
            last[name] = len(program.ops) if i >= program.once > first.get(name, -1) else i
    last |= dict.fromkeys(program.outputs, len(program.ops))
    for name in (*program.inputs, *program.constants):
        first[name], last[name] = -1, len(program.ops)
    found: dict[str, Tensor] = {}
    lying: list[tuple[int, int, str]] = []  # first beat, the one behind the last, whose
    order = sorted(program.tensors.values(), key=lambda t: -t.bytes())
    for tensor in sorted(order, key=lambda t: program.inputs.index(t.name) if t.name in program.inputs else len(order)):
        size, at = tensor.beats(program.engine.beat), 0
        for begin, end, other in lying:
            if first[tensor.name] > last[other] or first[other] > last[tensor.name]:
                continue
            if begin >= at + size:
                break
            at = max(at, end)
        found[tensor.name] = replace(tensor, address=at)
        lying.append((at, at + size, tensor.name))
        lying.sort()
    beats = max((end for _, end, _ in lying), default=0)
    return replace(program, tensors={name: found[name] for name in program.tensors}, fmap_beats=beats)
