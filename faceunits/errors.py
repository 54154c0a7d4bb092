"""The exception tree; a message says what was expected, what came, and what to do.

FaceunitsError
├── InputError       a photo, folder or table that cannot be read or written
├── AlignmentError   points from which no crop can be made
├── ParameterError   an action unit, value or shape that does not exist
├── RigError         face-model data that are missing or malformed
├── WeightsError     a weights file that is missing, damaged or of another network
└── ConfigError      a setting that is unknown or out of range
"""


class FaceunitsError(Exception):
    """Anything a caller can put right; the command line prints it in one line and exits with 2."""


class InputError(FaceunitsError):
    """A photo, folder or table that cannot be read or written."""


class AlignmentError(FaceunitsError):
    """Points from which no crop can be made."""


class ParameterError(FaceunitsError):
    """An action unit, value or shape that does not exist."""


class RigError(FaceunitsError):
    """Face-model data that are missing or malformed."""


class WeightsError(FaceunitsError):
    """A weights file that is missing, damaged or made for another network."""


class ConfigError(FaceunitsError):
    """A setting that is unknown or out of range."""
