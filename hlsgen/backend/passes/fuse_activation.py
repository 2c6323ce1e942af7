"""Pass `fuse_activation`: a convolution and the activation that follows it are one machine op.

1. An activation whose input is a Conv2D that nothing else reads and that is no output of the network is removed.
2. The Conv2D gets `activation`, `activation_parameter`, `pre` (its own quantization, that of the table's index) and
   `conv_name`; it takes the activation's name, output tensor, quantization and place in the order.
3. A Conv2D that already has an activation, or a residual addition, keeps it: a second activation stays a layer.

Before: supported layers. After: no activation is the only reader of a plain convolution.
"""

from typing import Any

from hls4ml.model.layers import Activation, Conv2D
from hls4ml.model.optimizer import OptimizerPass

from hlsgen.backend.rewrite import producer, take_over, uses


class FuseActivation(OptimizerPass):  # type: ignore[misc]
    def match(self, node: Any) -> bool:
        if not isinstance(node, Activation):
            return False
        conv = producer(node.model, node.inputs[0])
        return (
            isinstance(conv, Conv2D)
            and conv.get_attr("activation") is None
            and conv.get_attr("residual") is None
            and uses(node.model, node.inputs[0]) == 1
        )

    def transform(self, model: Any, node: Any) -> bool:
        conv = producer(model, node.inputs[0])
        conv.set_attr("conv_name", conv.name)
        conv.set_attr("activation", node.get_attr("activation"))
        conv.set_attr("activation_parameter", node.get_attr("activation_parameter"))
        conv.set_attr("pre", conv.get_attr("quant")[conv.outputs[0]])
        take_over(model, conv, node)
        return True
