"""hlsgen: quantized vision networks to Vitis HLS projects that fit a named FPGA part, proved bit-exact."""

__version__ = "0.1.0"
