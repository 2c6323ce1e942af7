"""What a mask decoder is made of, from float to hardware: tokens and a map that look at each other, token by token, pixels from
channels, products of a map and tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from hlsgen import csim
from hlsgen.cost.hardware import Link
from hlsgen.cost.simulate import simulate
from hlsgen.models.attention import attend, attention_scores, cropped, depth_to_space, transposed
from hlsgen.models.norm import ChannelNorm
from hlsgen.program import golden
from hlsgen.program import store as program_store
from hlsgen.program.lower import lower
from hlsgen.quantize.spec import Scheme
from tests.numerics._road import to_graph
from tests.numerics.test_engine import ENGINES, prove
from tests.numerics.test_layer_norm import Leaves
from tests.quantize_nets import photographs

for name in ("attention_scores", "attend", "cropped", "depth_to_space"):
    fx.wrap(name)
SHAPE = (3, 18, 22)  # patches: 9 x 11


class Decoder(nn.Module):
    def __init__(self, heads: int = 2, c: int = 20, count: int = 7) -> None:
        super().__init__()
        self.heads = heads
        self.stem = nn.Conv2d(3, c, 2, stride=2)
        self.register_buffer("learned", torch.randn(1, c, 1, count))
        self.a_q, self.a_k, self.a_v, self.a_out = (nn.Conv2d(c, c, 1) for _ in range(4))
        self.b_q, self.b_k, self.b_v, self.b_out = (nn.Conv2d(c, c, 1) for _ in range(4))
        self.norm1, self.norm2 = ChannelNorm(c), ChannelNorm(c)
        self.up1, self.norm3, self.gelu3 = nn.Conv2d(c, 4 * 10, 1), ChannelNorm(10), nn.GELU()
        self.up2, self.gelu4 = nn.Conv2d(10, 4 * 6, 1), nn.GELU()
        self.lin1, self.relu1, self.lin2 = nn.Conv2d(3 * c, 24, 1, groups=3), nn.ReLU(), nn.Conv2d(24, 18, 1, groups=3)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x, tokens = self.stem(image), self.learned
        look = attend(attention_scores(self.a_q(tokens), self.a_k(x), self.heads), self.a_v(x), self.heads)
        tokens = self.norm1(torch.add(tokens, self.a_out(look)))
        tell = attend(attention_scores(self.b_q(x), self.b_k(tokens), self.heads), self.b_v(tokens), self.heads)
        x = self.norm2(torch.add(x, self.b_out(tell)))
        x = self.gelu3(self.norm3(depth_to_space(self.up1(x), 2)))
        x = depth_to_space(self.gelu4(self.up2(x)), 2)
        picked = torch.cat([cropped(tokens, 1, 1, 0, i) for i in (1, 2, 5)], 1)
        kernels = self.lin2(self.relu1(self.lin1(picked)))
        return attention_scores(torch.cat([x, x, x], 1), kernels, 3), cropped(x, 5, 7, 2, 3)


def decoder() -> fx.GraphModule:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Decoder().eval().requires_grad_(False)
    return fx.GraphModule(module, Leaves().trace(module))


@pytest.mark.parametrize("scheme", ["fixed", "affine"])
def test_from_float_to_hardware(scheme: Scheme, tmp_path: Path) -> None:
    network, images = decoder(), photographs(3, SHAPE)
    reference, tensors, graph = to_graph(network, images, scheme, tmp_path, "decoder", SHAPE)
    image = torch.from_numpy(images[0])[None]
    program_store.save(lower(graph, ENGINES[0] if scheme == "fixed" else ENGINES[2]), tmp_path)
    program = program_store.read(tmp_path)
    spread = [op for op in program.ops if op.spread > 1]
    assert [op.spread for op in spread] == [2, 2] and spread[1].table is not None
    assert golden.check(program, tensors["image"], tensors) > 0
    prove(program, tmp_path, 0, strict=scheme == "fixed")
    through = csim.simulate(tmp_path, program, tmp_path / "data", tokens=simulate(program, Link()).op_tokens)
    assert through.streams is not None and through.mismatches == 0
    for got, wanted in zip(reference(image), network(image), strict=True):
        assert ((got - wanted) ** 2).sum() < 0.02 * (wanted**2).sum()


def test_a_transposed_convolution_is_one_and_pixels_of_its_channels() -> None:
    conv = nn.ConvTranspose2d(5, 3, 2, 2).requires_grad_(False)
    x = torch.randn(2, 5, 4, 6)
    torch.testing.assert_close(depth_to_space(transposed(conv)(x), 2), conv(x))
    values = np.arange(2 * 2 * 3 * 4 * 5).astype(np.int8).reshape(-1, 4, 5)
    np.testing.assert_array_equal(golden.pixels_of(values, 2), depth_to_space(torch.from_numpy(values)[None], 2)[0])
