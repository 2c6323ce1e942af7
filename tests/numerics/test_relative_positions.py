"""Relative positions from float to hardware: constant maps, and scores as products of longer queries and keys."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx

from hlsgen import csim
from hlsgen.backend import store
from hlsgen.backend.frontend_layers import layer_list
from hlsgen.backend.graph import model_graph, run_passes
from hlsgen.cost.hardware import Link
from hlsgen.cost.simulate import simulate
from hlsgen.frontend.agreement import LIMIT, agreement
from hlsgen.frontend.onnx_read import read_fp32
from hlsgen.frontend.onnx_write import write_fp32
from hlsgen.frontend.qdq_read import read_qdq
from hlsgen.frontend.qdq_write import write_qdq
from hlsgen.models.sam import graph as sam
from hlsgen.models.sam.config import MEAN, STD, TINY, SamConfig
from hlsgen.models.sam.load import random
from hlsgen.models.sam.network import encoder_network
from hlsgen.program import golden
from hlsgen.program import store as program_store
from hlsgen.program.lower import lower
from hlsgen.quantize import load_reference, quantize
from hlsgen.quantize.spec import Scheme
from tests.numerics.test_engine import ENGINES, prove
from tests.quantize_nets import photographs

# 5 x 5 patches, a block in windows of 3 x 3 (padded to 6 x 6) and a global one
SMALL = replace(
    TINY, name="small", img_size=20, patch=4, dim=20, depth=2, heads=2, window=3, global_blocks=(1,), embedding=12
)


def checkpoint(config: SamConfig) -> dict[str, torch.Tensor]:
    state = random(config, 0).state
    made = torch.Generator().manual_seed(1)
    for name, value in state.items():
        if "rel_pos" in name or "pos_embed" in name:
            value.copy_(torch.randn(value.shape, generator=made) * 0.5)
        elif "attn.qkv.weight" in name or "patch_embed.proj.weight" in name:
            value.mul_(10)
    return state


def encoder(config: SamConfig = SMALL) -> fx.GraphModule:
    return encoder_network(config, checkpoint(config))


def test_the_network_is_the_encoder() -> None:
    state, image = checkpoint(SMALL), torch.rand(1, 3, 20, 20)
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    wanted = sam.encoder(SMALL, state)((image * 255 - mean) / std)[0]
    torch.testing.assert_close(encoder_network(SMALL, state)(image)[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", ["fixed", "affine"])
def test_from_float_to_hardware(scheme: Scheme, tmp_path: Path) -> None:
    shape = (3, 20, 20)
    network, images = encoder(), photographs(3, shape)
    write_fp32(network, shape, tmp_path / "float.onnx", "encoder")
    read, _ = read_fp32(tmp_path / "float.onnx")
    assert sorted(n.name for n in read.graph.nodes) == sorted(n.name for n in network.graph.nodes)
    image = torch.from_numpy(images[0])[None]
    torch.testing.assert_close(read(image), network(image), rtol=1e-4, atol=1e-5)

    reference = quantize(network, images, scheme)
    tensors = reference.tensors(images[0])
    reference.save(tmp_path / "saved")
    again = load_reference(tmp_path / "saved").tensors(images[0])
    assert all(np.array_equal(again[name], value) for name, value in tensors.items())
    write_qdq(network, reference.spec, shape, tmp_path / "q.onnx", "encoder")
    written, spec, _ = read_qdq(tmp_path / "q.onnx")
    assert dict(spec.tensors) == dict(reference.spec.tensors)
    assert sorted(n.name for n in written.graph.nodes) == sorted(n.name for n in network.graph.nodes)
    assert agreement(tmp_path / "q.onnx", tensors, images[0])["equal_inputs"]["largest"] <= LIMIT

    graph = model_graph(layer_list(network, reference.spec, shape), "encoder", "unused")
    store.save(graph, tmp_path / "graph")
    graph = store.read(tmp_path / "graph", "encoder", "unused")
    run_passes(graph)
    program = lower(graph, ENGINES[0])
    assert len(program.constants) == 1 + 4 * SMALL.depth
    (tmp_path / "program").mkdir()
    program_store.save(program, tmp_path / "program")
    program = program_store.read(tmp_path / "program")
    assert golden.check(program, tensors["image"], tensors) > 0
    prove(program, tmp_path, 0)
    through = csim.simulate(tmp_path, program, tmp_path / "data", tokens=simulate(program, Link()).op_tokens)
    assert through.streams is not None and through.mismatches == 0
    got, wanted = reference(image)[0], network(image)[0]
    assert ((got - wanted) ** 2).sum() < 0.02 * (wanted**2).sum()
