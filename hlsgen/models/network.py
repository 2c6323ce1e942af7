"""The float network: a `torch.fx.GraphModule` in a small vocabulary that every later stage understands.

Nodes (the fx node's name names its output tensor everywhere: ONNX, hls4ml, Program, reports):

- `placeholder`: the image, float32 [N, C, H, W], values 0..1; behind it, before everything else, further inputs of fixed size
  where there are any: maps whose (C, H, W) is `node.meta["shape"]` (a SAM's prompt)
- `get_attr`: a constant map, a buffer float32 [1, C, H, W] (position embeddings, a relative position's table)
- `call_module`: `nn.Conv2d` (bias present, batch norm folded in, zero padding, dilation 1, any groups), `nn.SiLU`,
  `nn.ReLU`, `nn.LeakyReLU`, `nn.Sigmoid`, `nn.Hardswish`, `nn.GELU`, `nn.MaxPool2d` (dilation 1, floor mode),
  `nn.Upsample` (nearest, integer factor), `ChannelNorm` (LayerNorm over the channels). Each module is called once (no sharing).
- `call_function`: `torch.add(a, b)`; `torch.cat([a, b, ...], 1)`; `torch.split(x, [sizes], 1)` with
  `operator.getitem(split, i)`; `attention_scores(q, k, heads[, window])`,
  `attend(scores, v, heads[, window])`, `grown(x, bottom, right)`, `cropped(x, height, width[, top, left])` and
  `depth_to_space(x, factor)` of `hlsgen.models.attention`
- `output`: a flat tuple of tensors (for YOLO the raw head maps: box and class map a level, P3 first)
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from hlsgen.errors import HlsgenError
from hlsgen.models.attention import attend, attention_scores, cropped, depth_to_space, grown
from hlsgen.models.norm import ChannelNorm

ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.SiLU: "silu",
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.Sigmoid: "sigmoid",
    nn.Hardswish: "hardswish",
    nn.GELU: "gelu",
}
MODULES: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.MaxPool2d, nn.Upsample, ChannelNorm, *ACTIVATIONS)
ATTENTION: tuple[Callable[..., Any], ...] = (attention_scores, attend)
FUNCTIONS: tuple[Callable[..., Any], ...] = (
    torch.add,
    torch.cat,
    torch.split,
    operator.getitem,
    grown,
    cropped,
    depth_to_space,
    *ATTENTION,
)


def activation_kind(module: nn.Module) -> tuple[str, float] | None:
    """The activation's name and its parameter (LeakyReLU's slope, else 0.0), or None where `module` is none."""
    kind = ACTIVATIONS.get(type(module))
    if kind is None:
        return None
    return kind, float(module.negative_slope) if isinstance(module, nn.LeakyReLU) else 0.0


def inputs(network: fx.GraphModule) -> list[fx.Node]:
    """The image and the further inputs, in order."""
    return [node for node in network.graph.nodes if node.op == "placeholder"]


def input_shapes(network: fx.GraphModule, shape: tuple[int, int, int]) -> dict[str, tuple[int, int, int]]:
    """(C, H, W) of every input by name, for an image of `shape`."""
    image, *others = inputs(network)
    return {image.name: shape, **{node.name: node.meta["shape"] for node in others}}


def of_the_image(network: fx.GraphModule) -> list[fx.Node]:
    """The nodes that depend on the image alone, not on further inputs."""
    changing = set(inputs(network)[1:])
    found = []
    for node in network.graph.nodes:
        if changing.intersection(node.all_input_nodes):
            changing.add(node)
        elif node.op not in ("placeholder", "output"):
            found.append(node)
    return found


def run_prompts(
    run: fx.Interpreter, image: Tensor, prompts: Iterable[Sequence[Tensor]]
) -> Iterator[tuple[Tensor, ...]]:
    """The outputs for each of several prompts (the further inputs), what depends on the image alone computed once."""
    run.garbage_collect_values = False
    alone = of_the_image(run.module)  # type: ignore[arg-type]
    known: dict[fx.Node, Any] = {}
    for prompt in prompts:
        outputs = run.run(image, *prompt, initial_env=dict(known))
        known = {node: run.env[node] for node in alone}
        yield outputs


def constant_of(network: fx.GraphModule, node: fx.Node) -> Tensor:
    """The value of a `get_attr` node, float32 [1, C, H, W]."""
    return network.get_buffer(str(node.target))


def check(network: fx.GraphModule) -> None:
    """Hold a network to the vocabulary above.

    Raises:
        HlsgenError: naming the first node outside it, what it is, and what is supported.
    """
    seen: set[str] = set()
    functions = ["add", "cat", "split", "grown", "cropped", "depth_to_space", "attention"]
    supported = ", ".join([c.__name__ for c in MODULES] + functions)
    for node in network.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if node.op == "get_attr":
            shape = tuple(constant_of(network, node).shape)
            if len(shape) != 4 or shape[0] != 1:
                raise HlsgenError(f"constant {node.name} expects a map [1, C, H, W], got {list(shape)}")
        elif node.op == "call_module":
            module = network.get_submodule(str(node.target))
            if type(module) not in MODULES:
                raise HlsgenError(
                    f"operator {type(module).__name__} at {node.name} is not supported; supported are {supported}"
                )
            if node.target in seen:
                raise HlsgenError(
                    f"module {node.target} is called twice (at {node.name}); give each call its own module"
                )
            seen.add(str(node.target))
        elif node.target is attend and not _reads_scores(node, network):
            raise HlsgenError(
                f"attention at {node.name} expects scores of as many heads that nothing else reads; compute them for it alone"
            )
        elif node.op != "call_function" or node.target not in FUNCTIONS:
            raise HlsgenError(f"operator {node.target} at {node.name} is not supported; supported are {supported}")


def _reads_scores(node: fx.Node, network: fx.GraphModule) -> bool:
    """Whether an attention's scores are made for it: they never leave the engine's own representation."""
    scores: Any = node.args[0]
    alone = scores.target is attention_scores and scores.args[2:] == node.args[2:] and len(scores.users) == 1
    return alone and scores not in network.graph.output_node().all_input_nodes
