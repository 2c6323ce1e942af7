"""Pass `fuse_depth_to_space`: a convolution whose channels become pixels stores them where they belong.

1. A HlsgenDepthToSpace whose input is a Conv2D (with its activation, if it has one, without a residual) that nothing else
   reads and that is no output of the network is removed.
2. The Conv2D gets `depth_to_space` (the factor) and, where it has none yet, `conv_name`; it takes the layer's name, output
   tensor, quantization (that of its own result: channels only move) and place in the order.

Before: supported layers, fuse_activation, fuse_residual. After: no HlsgenDepthToSpace is the only reader of a convolution
without a residual and without pixels made of its channels.
"""

from typing import Any

from hls4ml.model.layers import Conv2D
from hls4ml.model.optimizer import OptimizerPass

from hlsgen.backend.rewrite import producer, take_over, uses


class FuseDepthToSpace(OptimizerPass):  # type: ignore[misc]
    def match(self, node: Any) -> bool:
        if node.get_attr("class_name") != "HlsgenDepthToSpace":
            return False
        conv = producer(node.model, node.inputs[0])
        held = isinstance(conv, Conv2D) and conv.get_attr("residual") is None and not conv.get_attr("depth_to_space")
        return held and uses(node.model, node.inputs[0]) == 1

    def transform(self, model: Any, node: Any) -> bool:
        conv = producer(model, node.inputs[0])
        conv.set_attr("depth_to_space", node.get_attr("factor"))
        conv.set_attr("conv_name", conv.get_attr("conv_name", conv.name))
        take_over(model, conv, node)
        return True
