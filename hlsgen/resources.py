"""Where the files that are not Python lie: templates, targets and the C-simulation harness."""

from pathlib import Path
from typing import Literal

from hlsgen.errors import HlsgenError


def folder(name: Literal["templates", "targets", "sim"]) -> Path:
    """The folder `name`, in an installed wheel (`hlsgen/_data`) or in a checkout (beside the package).

    Raises:
        HlsgenError: where neither holds it.
    """
    package = Path(__file__).resolve().parent
    for base in (package / "_data", package.parent):
        if (base / name).is_dir():
            return base / name
    raise HlsgenError(f"the folder {name!r} is missing beside {package}; reinstall hlsgen")
