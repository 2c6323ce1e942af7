"""A transformer's block in windows, from float to hardware: norm, padding, attention in windows, cut, projection, MLP."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from hlsgen import csim
from hlsgen.cost.calibrate import PLACE_OF
from hlsgen.cost.hardware import Link
from hlsgen.cost.resources import terms, widths
from hlsgen.cost.simulate import simulate
from hlsgen.cost.streams import stream_depths
from hlsgen.errors import HlsgenError
from hlsgen.frontend.onnx_write import shapes
from hlsgen.models.attention import attend, attention_scores, cropped, grown
from hlsgen.models.norm import ChannelNorm
from hlsgen.program import golden
from hlsgen.program.lower import lower
from hlsgen.quantize.spec import Scheme
from tests.numerics._road import to_graph
from tests.numerics.test_engine import ENGINES, prove
from tests.numerics.test_layer_norm import Leaves
from tests.quantize_nets import photographs

fx.wrap("attention_scores")
fx.wrap("attend")
fx.wrap("grown")
fx.wrap("cropped")
SHAPE = (3, 36, 44)  # patches: 9 x 11, in windows of 4 x 4 that cover 12 x 12


class Block(nn.Module):
    def __init__(self, heads: int = 2, d: int = 10) -> None:
        super().__init__()
        c = heads * d
        self.heads = heads
        self.stem, self.norm1, self.norm2 = nn.Conv2d(3, c, 4, stride=4), ChannelNorm(c), ChannelNorm(c)
        self.q, self.k, self.v, self.proj = (nn.Conv2d(c, c, 1) for _ in range(4))
        self.lin1, self.gelu, self.lin2 = nn.Conv2d(c, 3 * c, 1), nn.GELU(), nn.Conv2d(3 * c, c, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(image)
        y = grown(self.norm1(x), 3, 1)
        scores = attention_scores(self.q(y), self.k(y), self.heads, (4, 4))
        x = torch.add(x, self.proj(cropped(attend(scores, self.v(y), self.heads, (4, 4)), 9, 11)))
        return (torch.add(x, self.lin2(self.gelu(self.lin1(self.norm2(x))))),)


def block() -> fx.GraphModule:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Block().eval().requires_grad_(False)
    module.q.weight.mul_(3)
    return fx.GraphModule(module, Leaves().trace(module))


def test_windows_are_attention_of_each() -> None:
    network, image = block(), torch.rand(1, *SHAPE)
    found = {}

    class Keep(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            found[n.name] = super().run_node(n)
            return found[n.name]

    Keep(network).run(image)
    cell = np.s_[:, :, 4:8, 8:12]
    alone = attend(attention_scores(found["q"][cell], found["k"][cell], 2), found["v"][cell], 2)
    torch.testing.assert_close(found["attend"][cell], alone)


@pytest.mark.parametrize("scheme", ["fixed", "affine"])
def test_from_float_to_hardware(scheme: Scheme, tmp_path: Path) -> None:
    network, images = block(), photographs(3, SHAPE)
    reference, tensors, graph = to_graph(network, images, scheme, tmp_path, "block", SHAPE)
    image = torch.from_numpy(images[0])[None]
    program = lower(graph, ENGINES[0])
    assert not [op for op in program.ops if "grown" in op.name or "cropped" in op.name]  # addresses, no work
    assert all(op.tile.rows in (1, 2, 4) and op.tile.cols in (1, 2, 4) for op in program.ops if op.operand)
    priced = terms(program.engine, widths(program), stream_depths(program.engine))
    assert {"attention", "LayerNorm"} < set(priced) <= set(PLACE_OF)
    assert golden.check(program, tensors["image"], tensors) > 0
    prove(program, tmp_path, 0)
    through = csim.simulate(tmp_path, program, tmp_path / "data", tokens=simulate(program, Link()).op_tokens)
    assert through.streams is not None and through.mismatches == 0
    got, wanted = reference(image)[0], network(image)[0]
    assert ((got - wanted) ** 2).sum() < 0.01 * (wanted**2).sum()


def test_maps_that_windows_do_not_divide() -> None:
    network = block()
    with pytest.raises(HlsgenError, match=r"in windows of 4x4 expects maps that they divide, got \[\(20, 13, 12\)"):
        shapes(network, (3, 40, 44))
