"""What the command line says of itself, and its tables, word for word."""

from collections.abc import Callable

import pytest

from hlsgen.cli import cli, main

Golden = Callable[[str, str], None]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return f"$ hlsgen {' '.join(arguments)}\n{out}\n"


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")


def test_help(capsys: pytest.CaptureFixture[str], golden: Golden) -> None:
    pages = [said(capsys, "--help")] + [said(capsys, name, "--help") for name in sorted(cli.commands)]
    golden("cli_help.txt", "".join(pages))


def test_targets(capsys: pytest.CaptureFixture[str], golden: Golden) -> None:
    golden("cli_targets.txt", said(capsys, "targets") + said(capsys, "targets", "pynq-z2"))
