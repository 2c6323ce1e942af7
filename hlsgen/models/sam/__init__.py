"""The Segment Anything Model: its variants, its checkpoints, its forward pass as graphs, and prompts for it."""
