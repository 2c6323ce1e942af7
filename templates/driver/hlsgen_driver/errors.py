"""What can go wrong, each with a class of its own: the message is one sentence that says what to do."""


class DriverError(Exception):
    """Any of the below; detect.py prints it and exits with 2."""


class PackageError(DriverError):
    """A file of the package is missing, truncated, or not the one that its SHA256SUMS lists."""


class MismatchError(DriverError):
    """Bitstream, weights and Program are not of one build."""


class DeviceError(DriverError):
    """No such device, not enough memory, or an overlay without this engine."""


class HangError(DriverError):
    """The engine was started and did not finish within the time-out."""


class WrongResultError(DriverError):
    """The engine finished, and a tensor is not what the INT8 model computes."""


class PromptError(DriverError):
    """A prompt that is none, or lies outside its picture."""


class PictureError(DriverError):
    """A picture cannot be read, or written."""
