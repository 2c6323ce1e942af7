"""SAM as one network, encoder and decoder, from float to hardware; what depends on the picture alone comes first."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx

from hlsgen import csim
from hlsgen.backend.frontend_layers import layer_list
from hlsgen.backend.graph import model_graph, run_passes
from hlsgen.cost.estimate import estimate
from hlsgen.cost.hardware import Link
from hlsgen.cost.simulate import simulate
from hlsgen.errors import HlsgenError
from hlsgen.frontend.agreement import LIMIT, agreement
from hlsgen.frontend.onnx_read import read_fp32
from hlsgen.frontend.onnx_write import write_fp32
from hlsgen.frontend.qdq_read import read_qdq
from hlsgen.frontend.qdq_write import write_qdq
from hlsgen.models.network import of_the_image, run_prompts
from hlsgen.models.sam import graph, prompts
from hlsgen.models.sam.config import MEAN, STD
from hlsgen.models.sam.network import sam_network
from hlsgen.models.sam.prompting import Prompting, resized
from hlsgen.models.sam.prompts import Prompt
from hlsgen.program import golden
from hlsgen.program.lower import lower
from hlsgen.quantize import quantize
from hlsgen.quantize.spec import Scheme
from hlsgen.render import ProjectFacts, render
from hlsgen.targets import find
from tests.numerics.test_engine import ENGINES
from tests.sam_nets import MICRO, micro

SIDE = MICRO.img_size
SHAPE = (3, SIDE, SIDE)
ASKED = (
    Prompt((2, 3, 20, 30)),
    Prompt(points=((11, 7),)),
    Prompt((2, 3, 20, 30), ((11, 7),)),
    Prompt(points=((4, 5), (9, 30)), not_points=((31, 0.5),)),
)
STATE = micro().state


def pictures(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [(random.integers(0, 256, SHAPE) / np.float32(255)).astype(np.float32) for _ in range(count)]


def test_it_is_encoder_and_decoder_and_absent_tokens_are_not_there() -> None:
    network, prompting = sam_network(MICRO, STATE), Prompting.read(Prompting.of(MICRO, STATE).facts())
    encoder, decoder = graph.encoder(MICRO, STATE), graph.decoder(MICRO, STATE)
    (image,) = pictures(1)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    (embedding,) = encoder((torch.from_numpy(image)[None] * 255 - mean) / std)
    for prompt in ASKED:
        given = prompting.inputs(prompt, (SIDE, SIDE))
        found = network(*(torch.from_numpy(x)[None] for x in (image, *given)))
        masks, iou = decoder(embedding, prompts.tokens(MICRO, STATE, prompt, (SIDE, SIDE)))
        torch.testing.assert_close(found[0], embedding, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found[1].flatten(2), masks[0], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(found[2].flatten(1), iou[0], atol=1e-3, rtol=1e-3)
    with pytest.raises(HlsgenError, match=r"takes prompts of 4 tokens at most .* got 5; leave out points"):
        prompting.inputs(Prompt(points=((1, 1),) * 4), (SIDE, SIDE))


def test_prompts_and_masks_are_the_float_models() -> None:
    prompting = Prompting.of(MICRO, STATE)
    for size in ((SIDE, SIDE), (20, 47), (300, 200)):
        for prompt in ASKED:
            wanted = prompts.tokens(MICRO, STATE, prompt, size)[0].numpy()
            np.testing.assert_allclose(prompting.tokens(prompt, size), wanted, atol=2e-4)
        logits = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(3))
        wanted = prompts.masks(MICRO, logits, size)
        assert (torch.from_numpy(prompting.masks(logits.numpy(), size)) != wanted).float().mean() < 1e-3
    maps = np.random.default_rng(0).normal(size=(2, 5, 7))
    wanted = torch.nn.functional.interpolate(torch.from_numpy(maps)[None], (11, 3), mode="bilinear")[0].numpy()
    np.testing.assert_allclose(resized(maps, (11, 3)), wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("scheme", "strict"), [("fixed", False), ("affine", False), pytest.param("fixed", True, marks=pytest.mark.full)]
)
def test_from_float_to_hardware(scheme: Scheme, strict: bool, tmp_path: Path) -> None:
    network, prompting = sam_network(MICRO, STATE), Prompting.of(MICRO, STATE)
    asked = [prompting.inputs(prompt, (SIDE, SIDE)) for prompt in ASKED]
    samples = [(image, *asked[i % len(asked)]) for i, image in enumerate(pictures(8))]
    as_tensors = [torch.from_numpy(x)[None] for x in samples[0]]
    write_fp32(network, SHAPE, tmp_path / "float.onnx", "sam")
    read, _ = read_fp32(tmp_path / "float.onnx")
    held = [[n.name for n in net.graph.nodes if n.op != "get_attr"] for net in (read, network)]
    assert held[0] == held[1]
    for a, b in zip(read(*as_tensors), network(*as_tensors), strict=True):
        torch.testing.assert_close(a, b)

    reference = quantize(network, samples, scheme)
    tensors = reference.tensors(samples[0])
    write_qdq(network, reference.spec, SHAPE, tmp_path / "q.onnx", "sam")
    with pytest.raises(HlsgenError, match="expected one image as input, got 3 inputs"):
        read_qdq(tmp_path / "q.onnx")
    _, spec, _ = read_qdq(tmp_path / "q.onnx", several=True)
    assert dict(spec.tensors) == dict(reference.spec.tensors)
    assert agreement(tmp_path / "q.onnx", tensors, samples[0])["equal_inputs"]["largest"] <= LIMIT
    for once, again in zip(reference.prompts(samples[0][0], asked), asked, strict=True):
        for a, b in zip(once, reference((samples[0][0], *again)), strict=True):
            assert torch.equal(a, b)

    modelled = model_graph(layer_list(network, reference.spec, SHAPE), "sam", "unused")
    run_passes(modelled)
    program = lower(modelled, ENGINES[0])
    made_by = {program.tensors[op.out].reference for op in program.ops[: program.once]}
    assert "embedding" in made_by and "layer0_look_k" in made_by and "layer0_self_k" not in made_by
    assert golden.check(program, tensors["image"], tensors) > 0
    facts = estimate(program, find("xczu9eg"), 300)
    assert facts["parts"]["once"]["cycles"] + facts["parts"]["each"]["cycles"] == facts["cycles"]

    render(program, tmp_path, ProjectFacts("sam", "xc7z020clg400-1", 150.0, "micro"))
    csim.write_data(program, tmp_path / "data", tensors["image"], tensors)
    tokens = simulate(program, Link()).op_tokens
    found = csim.simulate(tmp_path, program, tmp_path / "data", strict, tokens)
    assert found.mismatches == 0 and found.streams is not None
    np.testing.assert_array_equal(csim.tensor_of(program, found.maps, program.outputs[1]), tensors["masks"])


def test_the_pictures_part_runs_once() -> None:
    network, prompting = sam_network(MICRO, STATE), Prompting.of(MICRO, STATE)
    (image,) = pictures(1)
    given = [[torch.from_numpy(x)[None] for x in prompting.inputs(p, (SIDE, SIDE))] for p in ASKED]
    ran: list[str] = []

    class Count(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            ran.append(n.name)
            return super().run_node(n)

    found = list(run_prompts(Count(network), torch.from_numpy(image)[None], given))
    alone = {node.name for node in of_the_image(network)}
    assert {"patch_embed", "embedding", "layer0_look_v"} <= alone and "layer0_self_q" not in alone
    assert all(ran.count(name) == 1 for name in alone) and ran.count("masks") == len(ASKED)
    for one, outputs in zip(given, found, strict=True):
        for a, b in zip(outputs, network(torch.from_numpy(image)[None], *one), strict=True):
            assert torch.equal(a, b)
