"""CPU latency of a quantized network, by PyTorch and by ONNX Runtime; what the engine is estimated to do."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hlsgen.quantize.executables import Dynamic, Simulated
from hlsgen.quantize.minifloat import BFLOAT16, E4M3, E5M2, HALF
from hlsgen.quantize.quantized import Quantized
from hlsgen.targets import Target

RUNS = 5
EMULATED = (
    "tensors rounded to the format and back, convolutions in float32; without optimizations, which leave roundings out"
)
NATIVE_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""Strategies whose arithmetic PyTorch has kernels for: these are timed instead of our simulation of it."""


def median_ms(run: Callable[[], Any], runs: int = RUNS) -> float:
    """The median of `runs` runs after one to warm up, in milliseconds."""
    run()
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)


def torch_latency(network: Quantized, image: npt.NDArray[np.float32]) -> dict[str, Any]:
    """ms, and what was timed; one thread, one image."""
    x = torch.from_numpy(image)[None]
    kind = NATIVE_DTYPES.get(network.strategy)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            if kind is not None:
                import copy

                low, given = copy.deepcopy(network.network).to(kind), x.to(kind)
                return {"ms": median_ms(lambda: low(given)), "what": f"PyTorch's own {kind} kernels"}
            what = "PyTorch's own kernels"
            if network.spec is not None and network.spec.scheme != "native":
                what = "the exact integer reference, which is not made for speed"
            elif isinstance(network.executable, Dynamic) or (
                isinstance(network.executable, Simulated) and network.executable.rounded
            ):
                what = "a simulation in float32"
            return {"ms": median_ms(lambda: network.executable(x)), "what": what}
    finally:
        torch.set_num_threads(before)


def onnx_latency(network: Quantized, image: npt.NDArray[np.float32]) -> dict[str, Any]:
    """ms (None where ONNX Runtime's CPU provider has no kernels for it), and what was timed; one thread, one image."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory(prefix="hlsgen-latency-") as scratch:
        path = Path(scratch) / "network.onnx"
        what = _export(network, path)
        if what is None:
            return {"ms": None, "what": "ONNX Runtime has no CPU kernels for this arithmetic"}
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if what == EMULATED:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0]
        x = image[None].astype(np.float16 if given.type == "tensor(float16)" else np.float32)
        return {"ms": median_ms(lambda: session.run(None, {given.name: x})), "what": what}


def _export(network: Quantized, path: Path) -> str | None:
    """Write what ONNX Runtime is to run; what it is, or None."""
    from hlsgen.frontend.onnx_write import write_fp32
    from hlsgen.frontend.qdq_write import write_qdq

    if network.spec is not None:
        write_qdq(network.network, network.spec, network.shape, path, "network")
        return "the QDQ file, all optimizations"
    name = network.strategy
    graph = network.executable.network if isinstance(network.executable, Simulated) else network.network
    write_fp32(graph, network.shape, path, "network")
    if name == "fp16":
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        onnx.save(convert_float_to_float16(onnx.load(path)), path)
        return "float16 weights and tensors; ONNX Runtime casts where it has no kernel"
    if name == "dynamic":
        import logging

        from onnxruntime.quantization import QuantType, quantize_dynamic

        logging.disable(logging.WARNING)  # it advises to run its shape inference first: there is nothing to infer here
        try:
            quantize_dynamic(path, path, weight_type=QuantType.QUInt8)  # of ConvInteger it has the uint8 kernel only
        finally:
            logging.disable(logging.NOTSET)
        return "ONNX Runtime's own dynamic quantization, uint8 weights"
    if isinstance(network.executable, Simulated) and network.executable.rounded:
        return _rounding(network.executable, path)
    return "the float file"


def _rounding(simulated: Simulated, path: Path) -> str | None:
    """Put every rounding into the float file at `path`, where ONNX has the format; what it is then, or None."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    scaled = {E4M3: TensorProto.FLOAT8E4M3FN, E5M2: TensorProto.FLOAT8E5M2}
    plain = {HALF: TensorProto.FLOAT16, BFLOAT16: TensorProto.BFLOAT16}
    if any(rounded.format not in scaled | plain for rounded in simulated.rounded.values()):
        return None
    model = onnx.load(path)
    nodes = []

    def add(name: str, source: str, result: str) -> None:
        """`result` is `source`, rounded as the tensor `name` is."""
        form = simulated.rounded[name].format
        if form in plain:
            nodes.append(helper.make_node("Cast", [source], [f"{name}.low"], to=plain[form]))
            nodes.append(helper.make_node("Cast", [f"{name}.low"], [result], to=TensorProto.FLOAT))
            return
        scale = numpy_helper.from_array(np.array(simulated.rounded[name].scale, np.float32), f"{name}.scale")
        zero = helper.make_tensor(f"{name}.zero", scaled[form], [], b"\0", raw=True)
        model.graph.initializer.extend([scale, zero])
        constants = [scale.name, zero.name]
        nodes.append(helper.make_node("QuantizeLinear", [source, *constants], [f"{name}.low"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.low", *constants], [result]))

    given = {i.name for i in model.graph.input} & set(simulated.rounded)
    for name in sorted(given):
        add(name, name, f"{name}.rounded")
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name in given:
                node.input[index] = f"{name}.rounded"
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in simulated.rounded:
                node.output[index] = f"{name}.exact"
                add(name, f"{name}.exact", name)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    onnx.save(model, path)
    return EMULATED


def engine_estimate(network: Quantized, target: Target) -> dict[str, Any] | None:
    """fps, dsp, lut, fits: the cost model's estimate of this very network on the part; None where the engine cannot run it."""
    if network.spec is None:
        return None
    from hlsgen.backend.frontend_layers import layer_list
    from hlsgen.backend.graph import model_graph, run_passes
    from hlsgen.cost.schedule import Overrides, schedule

    graph = model_graph(layer_list(network.network, network.spec, network.shape), "study", ".")
    run_passes(graph)
    found = schedule(graph, target, None, Overrides(None, None, None, None, None)).estimate
    return {
        "fps": found["fps"],
        "dsp": found["resources"]["dsp"]["used"],
        "lut": found["resources"]["lut"]["used"],
        "clock_mhz": found["clock_mhz"],
        "fits": found["fits"],
    }
