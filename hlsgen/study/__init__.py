"""Quantization strategies side by side: accuracy, agreement, noise, size, speed; one table, one page."""
