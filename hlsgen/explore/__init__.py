"""Design-space exploration: networks on parts at several clocks and budgets, and what cannot be bettered in every respect."""
