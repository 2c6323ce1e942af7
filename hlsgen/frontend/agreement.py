"""How far ONNX Runtime's QDQ graph is from the reference's integers, end to end and operator by operator.

End to end, differences grow: an element one step off moves what is computed from it. Fed with the reference's own
integers, every operator is on its own, and float32 may differ from the integer specification only where a value lies
between two integers: by one step at most.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper

from hlsgen.errors import HlsgenError
from hlsgen.frontend.onnx_read import load_model

LIMIT = 1
"""The largest difference allowed at an operator fed with equal inputs, in integer steps."""
_FED = ".fed"


def agreement(
    qdq_path: str | Path,
    tensors: Mapping[str, npt.NDArray[Any]],
    image: npt.NDArray[np.float32] | tuple[npt.NDArray[np.float32], ...],
    left_out: Collection[str] = (),
) -> dict[str, Any]:
    """Compare a QDQ file that `write_qdq` wrote with the reference.

    tensors: the reference's integers by fx node name, [C, H, W] in the engine's domain, the inputs' among them. image:
    float32 [C, H, W] or [1, C, H, W], 0..1; of a network of several inputs all of them. left_out: tensors of the graph that the
    reference does not keep, and that are neither compared nor fed.

    Returns: `runtime`, `optimizations` and `threads` (what ran); `limit`; `elements`; for `end_to_end` and
    `equal_inputs` each `differing` (elements), `largest` (integer steps) and `tensor` (where, None if nowhere); and
    `tensors`, by name: `elements`, and the two counts and maxima as `end_to_end`, `equal_inputs`.

    Raises:
        HlsgenError: a tensor of the graph that `tensors` lacks or whose shape differs, or an operator that, fed with
            equal inputs, differs by more than LIMIT.
    """
    model = load_model(qdq_path)
    made = {n.output[0].removesuffix(".q"): n for n in model.graph.node if n.op_type == "QuantizeLinear"}
    made = {name: node for name, node in made.items() if name not in left_out}
    missing = [name for name in made if name not in tensors]
    if missing:
        raise HlsgenError(f"{qdq_path}: expected the reference's integers of every tensor, {missing[0]} is missing")
    types = _types(model)
    stored = {name: _stored(tensors[name], types[node.input[2]]) for name, node in made.items()}
    given = image if isinstance(image, tuple) else (image,)
    feed: dict[str, npt.NDArray[Any]] = {
        of.name: x.reshape(1, *x.shape[-3:]) for of, x in zip(model.graph.input, given, strict=True)
    }
    results = {
        "end_to_end": _run(_exposed(model, made), feed, stored),
        "equal_inputs": _run(_cut(model, made), feed | {f"{n}{_FED}": v for n, v in stored.items()}, stored),
    }
    report: dict[str, Any] = {
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "optimizations": "disabled",
        "threads": 1,
        "limit": LIMIT,
        "elements": sum(v.size for v in stored.values()),
    }
    for mode, found in results.items():
        largest = max((pair[1] for pair in found.values()), default=0)
        first = next((name for name, pair in found.items() if pair[1] == largest), None) if largest else None
        report[mode] = {"differing": sum(pair[0] for pair in found.values()), "largest": largest, "tensor": first}
    report["tensors"] = {
        name: {"elements": stored[name].size}
        | {mode: {"differing": found[name][0], "largest": found[name][1]} for mode, found in results.items()}
        for name in made
    }
    beyond = [(name, pair[1]) for name, pair in results["equal_inputs"].items() if pair[1] > LIMIT]
    if beyond:
        raise HlsgenError(
            f"{qdq_path}: at {beyond[0][0]}, fed with the reference's own integers, ONNX Runtime differs by "
            f"{beyond[0][1]} steps, at most {LIMIT} is expected; the file does not say what the reference computes"
        )
    return report


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """The initializers' element types by name (a quantizer's zero point has its tensor's)."""
    return {i.name: i.data_type for i in model.graph.initializer}


def _stored(values: npt.NDArray[Any], kind: int) -> npt.NDArray[Any]:
    """Engine integers [C, H, W] as the file holds them: [1, C, H, W], uint8 with 128 added."""
    offset = 128 if kind == onnx.TensorProto.UINT8 else 0
    return (values.astype(np.int64) + offset).astype(helper.tensor_dtype_to_np_dtype(kind))[None]


def _exposed(model: onnx.ModelProto, made: Mapping[str, onnx.NodeProto]) -> onnx.ModelProto:
    """The same graph with every quantized tensor as an output, and no other."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    types = _types(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_tensor_value_info(f"{n}.q", types[q.input[2]], None) for n, q in made.items())
    return copy


def _cut(model: onnx.ModelProto, made: Mapping[str, onnx.NodeProto]) -> onnx.ModelProto:
    """`_exposed`, and every operator reads its maps from graph inputs X.fed instead of from its neighbours."""
    copy = _exposed(model, made)
    types = _types(model)
    fed = {f"{name}.q": f"{name}{_FED}" for name in made}
    for node in copy.graph.node:
        node.input[:] = [fed.get(tensor, tensor) for tensor in node.input]
    named = [(name, f"{name}{_FED}") for name in made]
    copy.graph.input.extend(helper.make_tensor_value_info(n, types[made[x].input[2]], None) for x, n in named)
    return copy


def _run(
    model: onnx.ModelProto, feed: Mapping[str, npt.NDArray[Any]], expected: Mapping[str, npt.NDArray[Any]]
) -> dict[str, tuple[int, int]]:
    """(elements that differ, largest difference) by tensor."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # one order of summation, so the same report
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    names = list(expected)
    results = session.run([f"{n}.q" for n in names], {k: v for k, v in feed.items() if k in wanted})
    found = {}
    for name, result in zip(names, results, strict=True):
        if result.shape != expected[name].shape:
            shapes = f"{expected[name].shape} in the reference, {result.shape} in the QDQ graph"
            raise HlsgenError(f"tensor {name} has shape {shapes}; quantize and export the same network")
        difference = np.abs(result.astype(np.int64) - expected[name].astype(np.int64))
        found[name] = (int(np.count_nonzero(difference)), int(difference.max(initial=0)))
    return found
