"""The hls4ml backend plugin `Hlsgen`: layers, passes and the flow that runs them.

Importing this package leaves the backend registered with hls4ml, whether hlsgen is installed (hls4ml then finds the
entry point itself, while it is imported here) or only on the path.
"""

import hls4ml  # noqa: F401  # first of all: hls4ml loads its plugins, this one too, while it is imported

from hlsgen.backend.plugin import register

register()
