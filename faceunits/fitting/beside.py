"""A face read beside the same person at rest: R's reading, put right by the comparison C."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceunits.errors import ConfigError
from faceunits.fitting import curves, pipeline, steady
from faceunits.fitting.models import Models
from faceunits.networks.student import Student
from faceunits.types import Reading

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Neutral:
    """People at rest: `said` `(2, n, N)` what R says of each half of their faces, or of one for all that is
    read (n = 1)."""

    said: Tensor

    def mean(self) -> Neutral:
        """One person, of whom there are several pictures."""
        return Neutral(self.said.mean(1, keepdim=True))


def neutral(crops: F32, models: Models) -> Neutral:
    """What `read` must know of people at rest, each seen in the views of `steady`.

    Args:
        crops: `(n, 3, S, S)` as for `pipeline.read`, each of another person or, with `Neutral.mean`, of one.
        models: of `fitting.load`.

    Raises:
        ParameterError: something else than a batch of square crops.
        ConfigError: networks without an R, or an R without its C.
        WeightsError: weights of C that are missing or damaged.
    """
    student = _student(models)
    _ = models.comparer  # what is wrong with it comes out now rather than at the first face
    with torch.inference_mode():
        said = student.said(student.heard(steady.shifted(pipeline.checked_on(crops, models))))
    return Neutral(said.view(2, len(crops), steady.VIEWS, -1).mean(2))


def read(crops: F32, models: Models, calm: Neutral) -> Reading:
    """As `pipeline.read`, action units and lip gap judged by how the person looks at rest.

    Args:
        crops: `(B, 3, S, S)`.
        models: of `fitting.load`.
        calm: of `neutral`: of one person, or of the people of the crops, each in as many of these, which
            follow each other.

    Raises:
        ParameterError: something else than a batch of square crops.
        ConfigError: networks without an R, or an R without its C.
        WeightsError: weights of C that are missing or damaged.
    """
    student, (comparison, knots, values), count = _student(models), models.comparer, len(crops)
    with torch.inference_mode():
        heard = student.heard(pipeline.checked_on(crops, models))
        points, readings, log_variance = student.answers(heard)
        at_rest = calm.said.repeat_interleave(count // calm.said.shape[1], 1).flatten(0, 1)
        units = curves.apply(comparison(student.said(heard), at_rest), knots, values)
        readings = torch.cat([units, readings[:, units.shape[1] :].float()], 1)
    return pipeline.as_reading(models, points, readings, log_variance)


def _student(models: Models) -> Student:
    reader = models.reader
    if not isinstance(reader, Student):
        raise ConfigError("expected networks with an R to read beside a neutral face; name a student")
    return reader
