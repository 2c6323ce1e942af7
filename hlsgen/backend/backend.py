"""The hls4ml backend: configuration, layer classes, flows, and what `ModelGraph.write/compile/build` do."""

import functools
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from hls4ml.backends.backend import Backend
from hls4ml.backends.fpga.fpga_backend import FPGABackend
from hls4ml.model.flow import register_flow

from hlsgen.backend.layers import OWN_ATTRIBUTES, register_layers
from hlsgen.backend.plugin import NAME
from hlsgen.errors import HlsgenError

if TYPE_CHECKING:
    from hlsgen.program.ops import Program

# hls4ml's own passes that a graph of its front ends needs before `adopt`. Left out of its `convert` flow: what chooses
# precisions (infer_precision_types, bit_exact, merge_linear_activation) and what prepares for its own kernels.
_HLS4ML_PASSES = [
    "channels_last_converter",
    "remove_nop_transpose",
    "fuse_bias_add",
    "fuse_consecutive_batch_normalization",
    "fuse_batch_normalization",
    "eliminate_linear_activation",
]


class HlsgenBackend(Backend):  # type: ignore[misc]
    """Backend `Hlsgen`. Its flows:

    - `hlsgen:types`: every tensor and weight gets the hls4ml type of its quantization
    - `hlsgen:passes`: supported, then fuse_activation, fuse_residual and fuse_depth_to_space, then check_shapes
    - `hlsgen:adopt`: float nodes of hls4ml's own front ends become quantized ones
    - `hlsgen:convert` (default, for graphs of hls4ml's front ends): parse_qonnx, hls4ml's passes, adopt, passes
    """

    def __init__(self) -> None:
        register_layers()
        self._programs: WeakKeyDictionary[Any, Program] = WeakKeyDictionary()
        super().__init__(NAME)  # finds and registers passes/*.py
        types = register_flow("types", ["hlsgen:set_types"], backend=NAME)
        supported = register_flow("supported", ["hlsgen:supported"], requires=[types], backend=NAME)
        fusing = ["hlsgen:fuse_activation", "hlsgen:fuse_residual", "hlsgen:fuse_depth_to_space"]
        fuse = register_flow("fuse", fusing, requires=[supported], backend=NAME)
        passes = register_flow("passes", ["hlsgen:check_shapes"], requires=[supported, fuse], backend=NAME)
        front = register_flow("hls4ml", _HLS4ML_PASSES, requires=["parse_qonnx"], backend=NAME)
        adopt = register_flow("adopt", ["hlsgen:adopt"], requires=[front], backend=NAME)
        self._default_flow = register_flow("convert", [], requires=[adopt, passes], backend=NAME)

    convert_precision_string = staticmethod(FPGABackend.convert_precision_string)

    def get_default_flow(self) -> str:
        return str(self._default_flow)

    def create_initial_config(
        self, part: str = "xc7z020", clock_period: float | None = None, io_type: str = "io_parallel"
    ) -> dict[str, Any]:
        """hls4ml's conversion settings: part (name), clock_period (ns; None: the part's own), io_type (ignored)."""
        return {"Part": part, "ClockPeriod": clock_period, "IOType": io_type, "HLSConfig": {}}

    def create_layer_class(self, layer_class: Any) -> Any:
        """The class hls4ml instantiates for `layer_class`."""
        return _wrapped(layer_class)

    def write(self, model: Any) -> None:
        """Lower the graph and render the project into its output directory.

        Raises:
            HlsgenError: what does not lower, fit or can be written.
        """
        from hlsgen.backend.library import write_project
        from hlsgen.program.lower import lower
        from hlsgen.program.ops import EngineConfig

        self._programs[model] = write_project(model, lambda graph: lower(graph, EngineConfig()))

    def compile(self, model: Any) -> str:
        """Build the written project as a shared library, which `ModelGraph.compile` loads; returns its path.

        Raises:
            HlsgenError: no compiler, or the compiler's first error.
        """
        from hlsgen.backend.library import build_library

        return str(build_library(Path(model.config.get_output_dir())))

    def predict(self, model: Any, x: Any) -> Any:
        """What `ModelGraph.predict` calls; see `hlsgen.backend.library.predict`."""
        from hlsgen.backend.library import predict

        if model._top_function_lib is None:
            raise HlsgenError("expected a compiled model; call compile() before predict()")
        return predict(model, self._programs[model], model._top_function_lib, x)

    def build(
        self, model: Any, csim: bool = False, synth: bool = True, cosim: bool = False, export: bool = False
    ) -> None:
        """Run Vitis HLS on the written project (`tcl/run_hls.tcl`).

        Raises:
            HlsgenError: Vitis HLS is not installed, or it failed.
        """
        folder = Path(model.config.get_output_dir())
        tool = shutil.which("vitis_hls")
        if tool is None:
            raise HlsgenError(
                f"expected vitis_hls on the PATH; install Vitis HLS, or run tcl/run_hls.tcl of {folder} where it is"
            )
        steps = {"csim": csim, "csynth": synth, "cosim": cosim, "export": export}
        wanted = [step for step, asked in steps.items() if asked]
        done = subprocess.run([tool, "-f", "tcl/run_hls.tcl", *wanted], cwd=folder, check=False)
        if done.returncode != 0:
            raise HlsgenError(
                f"vitis_hls {' '.join(wanted)} failed in {folder} with exit code {done.returncode}; see its log"
            )


@functools.cache
def _wrapped(layer_class: Any) -> Any:
    """A layer class whose output tensors cannot overwrite its attributes.

    hls4ml keeps both in one dictionary, so a layer named `weight_data` or `quant` would lose its own data; it sets
    aside the names of *expected* attributes only. Here: all of them.
    """

    class Wrapped(layer_class):  # type: ignore[misc]
        _wrapped = f"{layer_class.__module__}.{layer_class.__qualname__}"  # hls4ml's mark of a wrapped class

        def initialize(self) -> None:
            self.attributes._expected_attributes += [*self.attributes, *OWN_ATTRIBUTES]
            super().initialize()

    Wrapped.__name__ = Wrapped.__qualname__ = NAME + layer_class.__name__
    return Wrapped
