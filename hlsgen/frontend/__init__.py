"""ONNX in and out: FP32 and QDQ graphs to and from the network vocabulary, and on to hls4ml layers."""
