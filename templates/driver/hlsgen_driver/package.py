"""The folder that `make package` makes: its files, held to their checksums and to each other before anything runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from .errors import MismatchError, PackageError
from .network import Network, read_network

SUMS = "SHA256SUMS"


class Package:
    """A package whose every file is the one that its SHA256SUMS lists, and whose weights belong to its Program."""

    def __init__(self, folder: Path) -> None:
        """Check the package.

        Raises:
            PackageError: a file is missing, truncated or altered.
            MismatchError: weights and Program are of different builds.
        """
        self.folder = folder
        self.sums = read_sums(folder / SUMS)
        self.network: Network = read_network(folder / "network.json")
        self.parameters = self._parameters()
        for name, wanted in self.sums.items():
            if file_sum(self._file(name)) != wanted:
                raise PackageError(
                    f"{folder / name} is not the file that {SUMS} lists: it was altered or damaged; copy the "
                    "package again"
                )

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if name not in self.sums:
            raise PackageError(f"{self.folder / SUMS} does not list {name}; run make package again")
        if not path.is_file():
            raise PackageError(f"{path} is missing; copy the whole package")
        return path

    def _parameters(self) -> bytes:
        """The weights: their size, then their sum, then their identity with the Program's."""
        network, path = self.network, self._file("parameters.bin")
        data = path.read_bytes()
        if len(data) < network.parameter_bytes:
            raise PackageError(
                f"the weights in {path} are truncated: expected {network.parameter_bytes:,} bytes, got "
                f"{len(data):,}; copy the package again"
            )
        digest = hashlib.sha256(data).hexdigest()
        if digest != network.parameter_sha256:
            if digest == self.sums["parameters.bin"]:
                raise MismatchError(
                    f"the weights in {path} belong to another build than network.json; take both from one package"
                )
            raise PackageError(
                f"the weights in {path} are damaged (their SHA-256 is not the one in {SUMS}); copy the package again"
            )
        if identity(network.program_sha256, digest) != network.identity:
            raise MismatchError(
                f"network.json says build 0x{network.identity:08x}, its Program and weights are "
                f"0x{identity(network.program_sha256, digest):08x}; run make package again"
            )
        return data

    def find(self, suffix: str) -> Path | None:
        """The package's bitstream: its file hlsgen`suffix`, checked, or None where it holds none."""
        path = self.folder / ("hlsgen" + suffix)
        return self._file(path.name) if path.exists() or path.name in self.sums else None

    def golden(self, name: str, expected: int) -> np.ndarray:
        """golden/`name`, int8, of `expected` bytes."""
        data = np.frombuffer(self._file("golden/" + name).read_bytes(), np.int8)
        if len(data) != expected:
            raise PackageError(f"golden/{name} expected {expected:,} bytes, got {len(data):,}; run make package again")
        return data


def identity(program: str, parameters: str) -> int:
    """The build identity of a Program and its weights, both given by their SHA-256 (hex): 32 bits, never 0."""
    found = hashlib.sha256((program + parameters).encode()).digest()
    return int.from_bytes(found[:4], "big") or 1


def file_sum(path: Path) -> str:
    """The SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                digest.update(piece)
    except OSError as error:
        raise PackageError(f"{path} cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def read_sums(path: Path) -> dict[str, str]:
    """SHA256SUMS, as sha256sum writes it: sum by file name.

    Raises:
        PackageError: it is missing or damaged, or names a file outside the package.
    """
    try:
        rows: list[str] = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise PackageError(
            f"{path} is missing: expected a package; run make package in the project, and the driver in the folder "
            "it makes"
        ) from error
    except ValueError as error:
        raise PackageError(f"{path} is damaged; copy the package again") from error
    sums = {}
    for row in rows:
        digest, _, name = row.partition("  ")
        if len(digest) != 64 or not name or name.startswith("/") or ".." in name.split("/"):
            raise PackageError(f"{path} is damaged; copy the package again")
        sums[name] = digest
    return sums
