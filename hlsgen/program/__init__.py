"""The Program: machine ops on tiles, its arithmetic, its golden model and its encoding."""
