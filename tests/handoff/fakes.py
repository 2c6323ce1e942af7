"""Fake vendor tools on a PATH of their own: they say a version, record their arguments, and leave what the real ones leave."""

import stat
from pathlib import Path

TOOL = """#!/bin/sh
case "$1" in -version|--version) echo "{banner} v{version} (64-bit)"; exit 0 ;; esac
echo "{name} $*" >>"$RECORD"
[ "${{FAIL:-}}" != "{name}" ] || exit 3
case "$*" in
    *"-f tcl/run_hls.tcl csynth"*) mkdir -p hls/solution/syn/report; echo x >hls/solution/syn/report/csynth.xml ;;
    *"-f tcl/run_hls.tcl cosim"*) echo "ops $HLSGEN_OPS" >>"$RECORD" ;;
    *"-f tcl/run_hls.tcl export"*)
        mkdir -p hls/solution/impl/ip; echo x >hls/solution/impl/ip/component.xml; echo x >hls/hlsgen_engine.xo ;;
    *"-c --mode hls"*) mkdir -p hls/hls/syn/report; echo x >hls/hls/syn/report/csynth.xml ;;
    *"--mode hls --cosim"*) grep '^cosim.argv' hls_cosim.cfg >>"$RECORD" ;;
    *"--mode hls --package"*) mkdir -p hls/hls/impl/ip; echo x >hls/hls/impl/ip/component.xml; echo x >hls/hlsgen_engine.xo ;;
    *"-mode batch"*) mkdir -p export; echo x >export/hlsgen.bit ;;
    *"-l -t hw"*) printf 'DATA_CLK\\n  Frequency: %s MHz\\n' "${{KERNEL_MHZ:-300}}" >export/hlsgen.xclbin.info ;;
esac
"""
BANNERS = {
    "vitis_hls": "Vitis HLS - High-Level Synthesis from C, C++ and OpenCL",
    "v++": "****** v++",
    "vitis-run": "****** vitis-run",
    "vivado": "Vivado",
}


def install(folder: Path, **versions: str) -> Path:
    """Fake tools in `folder`; a name's `_` stands for `-`, and vpp for v++. An empty version is not told."""
    folder.mkdir(parents=True, exist_ok=True)
    for key, version in versions.items():
        name = {"vpp": "v++", "vitis_run": "vitis-run"}.get(key, key)
        path = folder / name
        text = TOOL.format(name=name, banner=BANNERS[name], version=version)
        path.write_text(text if version else text.replace(" v (64-bit)", ""))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return folder
