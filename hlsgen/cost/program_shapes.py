"""From the ops of a Program to the shapes that the cost model works on."""

from hlsgen.cost.shape import OpShape
from hlsgen.program.encode import op_groups, table_bytes
from hlsgen.program.ops import Op, Program


def op_shape(op: Op, program: Program, table: int) -> OpShape:
    """The shape of an op of a Program, whose activation tables take `table` bytes."""
    out, tm = program.made(op), program.engine.tm
    groups = op_groups(op, program)
    blocks, used = len(op.lanes) // tm // groups.count, 1
    for g in range(groups.count):
        last = op.lanes[((g + 1) * blocks - 1) * tm : (g + 1) * blocks * tm]
        used = max([used] + [i + 1 for i, c in enumerate(last) if c >= 0])
    return OpShape(
        op.window,
        op.in_size,
        (out.height, out.width),
        groups,
        op.multiplies,
        tuple((s.blocks, s.upsample) for s in op.sources),
        used,
        groups.count * groups.outputs * tm if op.operand is not None else len(out.lanes),
        op.residual is not None,
        0 if op.table is None else table,
        op.macs_per_pixel * out.height * out.width,
        op.special,
        op.operand.window if op.operand is not None else (0, 0),
        op.operand.within if op.operand is not None else (0, 0),
        op.spread,
        op.operand.places if op.operand is not None else (0, 0),
        0 if op.floats is None else op.floats.parts,
        program.tensors[op.sources[0].tensor].element,
        program.tensors[op.out].element,
        op.operand.keys if op.operand is not None and op.values is not None else 0,
    )


def op_shapes(program: Program) -> tuple[OpShape, ...]:
    """The shapes of all ops, in order."""
    table = table_bytes(program)
    return tuple(op_shape(op, program, table) for op in program.ops)
