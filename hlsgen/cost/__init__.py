"""The cost model: cycles, resources and fit of a Program on a part (docs/cost-model.md)."""
