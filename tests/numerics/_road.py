"""The road of a small network, from float to the passed ModelGraph, each stage's product held to the one before."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx

from hlsgen.backend import store
from hlsgen.backend.frontend_layers import layer_list
from hlsgen.backend.graph import model_graph, run_passes
from hlsgen.frontend.agreement import LIMIT, agreement
from hlsgen.frontend.onnx_read import read_fp32
from hlsgen.frontend.onnx_write import write_fp32
from hlsgen.frontend.qdq_read import read_qdq
from hlsgen.frontend.qdq_write import write_qdq
from hlsgen.quantize import quantize
from hlsgen.quantize.spec import Scheme


def to_graph(
    network: fx.GraphModule,
    images: list[np.ndarray],
    scheme: Scheme,
    folder: Path,
    name: str,
    shape: tuple[int, int, int],
) -> tuple[Any, dict[str, Any], Any]:
    """Written and read as float ONNX, quantized, written and read as QDQ ONNX, saved and read as a ModelGraph, passed.

    Returns:
        the INT8 reference, its tensors of the first image, the graph.
    """
    write_fp32(network, shape, folder / "float.onnx", name)
    read, _ = read_fp32(folder / "float.onnx")
    assert [n.name for n in read.graph.nodes] == [n.name for n in network.graph.nodes]
    image = torch.from_numpy(images[0])[None]
    torch.testing.assert_close(read(image), network(image))

    reference = quantize(network, images, scheme)
    tensors = reference.tensors(images[0])
    write_qdq(network, reference.spec, shape, folder / "q.onnx", name)
    again, spec, _ = read_qdq(folder / "q.onnx")
    assert dict(spec.tensors) == dict(reference.spec.tensors)
    assert [n.name for n in again.graph.nodes] == [n.name for n in network.graph.nodes]
    assert agreement(folder / "q.onnx", tensors, images[0])["equal_inputs"]["largest"] <= LIMIT

    graph = model_graph(layer_list(network, reference.spec, shape), name, "unused")
    store.save(graph, folder / "graph")
    graph = store.read(folder / "graph", name, "unused")
    run_passes(graph)
    return reference, tensors, graph
