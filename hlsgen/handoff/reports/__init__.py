"""Vendor reports, one kind a file: what Vitis HLS and Vivado say of a project (docs/reports.md)."""
