"""How far ONNX Runtime's QDQ graph is from the reference's integers, end to end and operator by operator.

End to end, differences grow: an element one step off moves what is computed from it. Fed with the reference's own
integers, every operator is on its own, and float32 may differ from the integer specification only where a value lies
between two integers: by one step at most.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
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
Map = npt.NDArray[Any]


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
    kinds = {name: types[node.input[2]] for name, node in made.items()}
    given = image if isinstance(image, tuple) else (image,)
    inputs: dict[str, Map] = {
        of.name: x.reshape(1, *x.shape[-3:]) for of, x in zip(model.graph.input, given, strict=True)
    }
    operators = _operators(model, list(made))
    weights = {i.name: i for i in model.graph.initializer}
    last = {read: name for name, operator in operators.items() for read in operator.reads}
    chain: dict[str, Map] = {}  # ONNX Runtime's own integers, as long as an operator still reads them
    sizes: dict[str, int] = {}
    results: dict[str, dict[str, tuple[int, int]]] = {"end_to_end": {}, "equal_inputs": {}}
    for name, operator in operators.items():
        session, wanted = _session(operator.model(model, weights, kinds)), _stored(tensors[name], kinds[name])
        sizes[name] = wanted.size
        outside = {tensor: inputs[tensor] for tensor in operator.tensors if tensor in inputs}
        fed = {
            "end_to_end": {f"{read}.q": chain[read] for read in operator.reads},
            "equal_inputs": {f"{read}.q": _stored(tensors[read], kinds[read]) for read in operator.reads},
        }
        for mode, integers in fed.items():
            (result,) = session.run(None, outside | integers)
            results[mode][name] = _difference(name, result, wanted)
            if mode == "end_to_end":
                chain[name] = result
        for done in (*operator.reads, name):
            if last.get(done, name) == name:
                del chain[done]
    report: dict[str, Any] = {
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "optimizations": "disabled",
        "threads": 1,
        "limit": LIMIT,
        "elements": sum(sizes.values()),
    }
    for mode, found in results.items():
        largest = max((pair[1] for pair in found.values()), default=0)
        first = next((name for name, pair in found.items() if pair[1] == largest), None) if largest else None
        report[mode] = {"differing": sum(pair[0] for pair in found.values()), "largest": largest, "tensor": first}
    report["tensors"] = {
        name: {"elements": sizes[name]}
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


def _stored(values: npt.NDArray[Any], kind: int) -> Map:
    """Engine integers [C, H, W] as the file holds them: [1, C, H, W], uint8 with 128 added."""
    if kind == onnx.TensorProto.UINT8:
        values = values.astype(np.int16) + 128
    return values.astype(helper.tensor_dtype_to_np_dtype(kind), copy=False)[None]


@dataclass(frozen=True)
class _Operator:
    """What makes the integers `name` of others (`reads`) and of what else the graph has: its nodes, and all that they read."""

    name: str
    nodes: list[onnx.NodeProto]
    reads: list[str]
    tensors: list[str]

    def model(
        self, whole: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto], kinds: Mapping[str, int]
    ) -> onnx.ModelProto:
        """A graph of its own. weights: the whole graph's initializers. kinds: the integers' ONNX types by name."""
        integers = {n: helper.make_tensor_value_info(f"{n}.q", kinds[n], None) for n in (*self.reads, self.name)}
        part = onnx.ModelProto(ir_version=whole.ir_version, opset_import=whole.opset_import)
        part.graph.name = "operator"
        part.graph.node.extend(self.nodes)
        part.graph.initializer.extend(weights[tensor] for tensor in self.tensors if tensor in weights)
        part.graph.input.extend(i for i in whole.graph.input if i.name in self.tensors)
        part.graph.input.extend(integers[n] for n in self.reads)
        part.graph.output.append(integers[self.name])
        return part


def _operators(model: onnx.ModelProto, names: list[str]) -> dict[str, _Operator]:
    """By name, what makes the integers `names`, each from others of them."""
    nodes = list(model.graph.node)
    makers = {output: i for i, node in enumerate(nodes) for output in node.output}
    known = {f"{name}.q": name for name in names}
    found = {}
    for name in names:
        needed: set[int] = set()
        tensors: dict[str, None] = {}
        asked = [makers[f"{name}.q"]]
        while asked:
            i = asked.pop()
            if i in needed:
                continue
            needed.add(i)
            tensors |= dict.fromkeys(nodes[i].input)
            asked += [makers[tensor] for tensor in nodes[i].input if tensor in makers and tensor not in known]
        own = {output for i in needed for output in nodes[i].output}
        reads = [known[tensor] for tensor in tensors if tensor in known and tensor not in own]
        found[name] = _Operator(name, [nodes[i] for i in sorted(needed)], reads, list(tensors))
    return found


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # one order of summation, so the same report
    options.enable_cpu_mem_arena = False  # large tensors are given back at once
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _difference(name: str, result: Map, expected: Map) -> tuple[int, int]:
    """(elements that differ, largest difference)."""
    if result.shape != expected.shape:
        shapes = f"{expected.shape} in the reference, {result.shape} in the QDQ graph"
        raise HlsgenError(f"tensor {name} has shape {shapes}; quantize and export the same network")
    if np.array_equal(result, expected):
        return 0, 0
    difference = np.abs(result.astype(np.int32) - expected.astype(np.int32))
    return int(np.count_nonzero(difference)), int(difference.max())
