"""Reading a report: any file may be missing, huge, cut in half, or something else altogether."""

import re
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from hlsgen.errors import HlsgenError

LARGEST = 64 << 20  # bytes; the largest csynth.xml of an engine has a few million


def read_text(path: Path, what: str) -> str:
    """The text of a report; what: its kind, for messages.

    Raises:
        HlsgenError: where it cannot be read, is no text, or is far too large for a report.
    """
    try:
        size = path.stat().st_size
        if path.is_file() and size > LARGEST:
            raise HlsgenError(f"{path} has {size >> 20} MiB, {what} at most {LARGEST >> 20}: it is something else")
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise HlsgenError(f"cannot read {path}, expected {what}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise HlsgenError(f"{path} is no text (byte {error.start}), expected {what}") from error


def read_xml(path: Path, what: str, root: str) -> Element:
    """The root element `root` of an XML report; entities and document types are refused.

    Raises:
        HlsgenError: as `read_text`, or the file is not whole or not such a report.
    """
    text = read_text(path, what)
    try:
        found: Element = fromstring(text, forbid_dtd=True)
    except DefusedXmlException as error:
        raise HlsgenError(f"{path} declares a document type or entities, which {what} never does: not read") from error
    except ParseError as error:
        line = error.position[0]
        raise HlsgenError(
            f"{path} is cut off or damaged at line {line}, expected {what}; run the tool again"
        ) from error
    if found.tag != root:
        raise HlsgenError(f"{path} begins with <{found.tag[:40]}>, expected {what}, which begins with <{root}>")
    return found


def same_part(a: str, b: str) -> bool:
    """Whether two part names are one part: xc7z020-clg400-1, xc7z020clg400-1."""
    return _plain(a) == _plain(b)


def _plain(part: str) -> str:
    return re.sub(r"[^a-z0-9]", "", part.lower())
