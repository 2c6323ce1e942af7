"""The one error that a user is meant to see."""


class HlsgenError(Exception):
    """Bad input: one clear sentence that says what was expected, what came and what to do (exit code 2)."""
