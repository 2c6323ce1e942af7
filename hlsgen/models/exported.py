"""ultralytics' own ONNX exports: the raw head maps in front of the decoding that the file ends with.

Rules:
 1. the file says that it is one: metadata `author`, `task` ("detect") and `names`.
 2. the raw maps are what the decoding, whose operators are not in the vocabulary, reads; where it reads the two maps of
    a level concatenated, they are that Concat's inputs.
 3. a level's class map has as many channels as there are names, its box map a multiple of four; the box map comes first.
"""

import ast
from collections.abc import Sequence

import onnx

from hlsgen.errors import HlsgenError
from hlsgen.frontend.onnx_read import Shape, UnsupportedOperator, import_graph, printable
from hlsgen.frontend.onnx_write import shapes
from hlsgen.models.yolo import Yolo


def class_names(model: onnx.ModelProto) -> tuple[str, ...] | None:
    """Rule 1: the class names, or None where the file is no detector exported by ultralytics."""
    held = {p.key: p.value for p in model.metadata_props}
    if held.get("author") != "Ultralytics" or held.get("task") != "detect":
        return None
    try:
        names = ast.literal_eval(held.get("names", ""))
        return tuple(printable(str(names[i])) for i in range(len(names)))
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError):  # not the dict it should be
        return None


def read_exported(model: onnx.ModelProto, source: str, error: UnsupportedOperator) -> tuple[Yolo, Shape]:
    """The detector in `model`, which `import_graph` gave up on with `error`, and its image's (C, H, W).

    Raises:
        HlsgenError: `error` itself where this is no detector exported by ultralytics, or its head has another form.
    """
    names = class_names(model)
    if names is None:
        raise error
    made = {o: node for node in model.graph.node for o in node.output}
    maps: list[str] = []
    for tensor in error.frontier:
        node = made.get(tensor)
        maps += list(node.input) if node is not None and node.op_type == "Concat" else [tensor]
    try:
        imported = import_graph(model, source, maps)
    except HlsgenError:
        raise error from None
    known = shapes(imported.network, imported.shape)
    ordered = _levels([(tensor, known[imported.nodes[tensor]]) for tensor in maps], len(names))
    if ordered is None:
        raise error
    imported = import_graph(model, source, [tensor for tensor, _ in ordered])
    strides = tuple(imported.shape[1] // shape[1] for _, shape in ordered[::2])
    return Yolo(imported.network, names, strides, ordered[0][1][0] // 4), imported.shape


def _levels(maps: Sequence[tuple[str, Shape]], classes: int) -> list[tuple[str, Shape]] | None:
    """Rule 3: the maps as box and class map a level, the finest first; None where they are not such pairs."""
    by_size: dict[tuple[int, int], list[tuple[str, Shape]]] = {}
    for tensor, shape in maps:
        by_size.setdefault(shape[1:], []).append((tensor, shape))
    ordered = []
    for _, level in sorted(by_size.items(), reverse=True):
        kinds = [m for m in level if m[1][0] == classes]
        others = [m for m in level if m not in kinds] or kinds[
            :1
        ]  # as many box bins as classes: the box map comes first
        if len(level) != 2 or not kinds or len(others) != 1 or others[0][1][0] % 4:
            return None
        ordered += [others[0], kinds[-1]]
    return ordered or None
