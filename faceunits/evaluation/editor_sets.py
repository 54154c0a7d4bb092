"""People rendered in several frames each, and the edits that are asked of an editor on them.

An edit goes from a frame of a person to the labels of another frame of the same person, so that the truth of
what was asked for exists as a picture. Rare intensities count as much as common ones: units take turns, and
within a unit the levels that the person shows (AUEditNet's sampling, specified for DISFA).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits import aus, fitting
from faceunits.errors import InputError, ParameterError
from faceunits.io.files import printable
from faceunits.networks.editor import DISFA

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Frames:
    """`N` frames: `image` `(N, S, S, 3)`, `labels` `(N, K)` 0-5 of `names`, `person` `(N,)` numbered from 0
    in the order of the files, and `place`, file and row of each."""

    names: tuple[str, ...]
    image: U8
    labels: F32
    person: I64
    place: tuple[str, ...]

    def of(self, people: Sequence[int] | I64) -> Frames:
        """The frames of some people."""
        return self.rows(np.flatnonzero(np.isin(self.person, people)))

    def rows(self, rows: I64) -> Frames:
        """Some frames."""
        place = tuple(self.place[i] for i in rows)
        return Frames(self.names, self.image[rows], self.labels[rows], self.person[rows], place)


def columns_of(
    names: Sequence[str], parameters: tuple[str, ...], au: NDArray[np.floating], gap: NDArray[np.floating]
) -> F32:
    """Labels `(N, K)` 0-5 of the units `names` from parameters `(N, A)` and lip gaps `(N,)` in [0, 1].

    A two-sided unit has the value of its larger side, as in tables.

    Raises:
        ParameterError: a unit that tables do not have.
    """
    table = aus.columns(parameters, au.astype(np.float32), gap.astype(np.float32))
    wanted = ["".join(aus.parse(name)) + "_r" for name in names]
    for name, column in zip(names, wanted, strict=True):
        if column not in table:
            raise ParameterError(f"expected a unit of {', '.join(table)}; got {name}; leave it out")
    return np.stack([table[column] for column in wanted], 1)


def read(folder: str | Path, names: Sequence[str], models: fitting.Models) -> Frames:
    """All frames of the files in a folder (or of one file).

    Args:
        folder: of .npz files with several frames per person, as `frames render` and `frames disfa` write
            them: `image`, `person`, and either `au` and `lip_gap`, from which the labels follow, or `units`
            0-5 in the order of `networks.editor.DISFA`. The same number in two files is two people.
        names: units of a label, in order.
        models: whose parameters `au` holds.

    Raises:
        InputError: no such files, or files without people or labels.
        ParameterError: a unit that the files do not label.
    """
    root = Path(folder)
    paths = [root] if root.suffix == ".npz" else sorted(root.glob("*.npz"))
    paths = [p for p in paths if ".part" not in p.name]  # of a run that has not finished
    if not paths:
        raise InputError(
            f"expected rendered frames (.npz) in {printable(root)}; found none; name a folder of renders "
            "with several frames per person"
        )
    images, labels, places = [], [], []
    people: list[tuple[Path, int]] = []
    for path in paths:
        pack = _read(path)
        images.append(pack["image"])
        labels.append(labels_of(pack, names, models.names))
        people += [(path, int(number)) for number in pack["person"]]
        if "identity" in pack:
            _same_faces(pack["person"], pack["identity"], path)
        places += [f"{printable(path.name)}:{row}" for row in range(len(pack["image"]))]
    if len({x.shape[1:] for x in images}) > 1:
        raise InputError(
            f"expected pictures of one size in {printable(root)}; got several; put them in folders apart"
        )
    numbers = {key: i for i, key in enumerate(dict.fromkeys(people))}
    person = np.array([numbers[key] for key in people], np.int64)
    return Frames(tuple(names), np.concatenate(images), np.concatenate(labels), person, tuple(places))


_KEYS = ("image", "person", "identity", "units", "au", "lip_gap")


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path) as file:
            pack = {k: file[k] for k in _KEYS if k in file}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(
            f"cannot read the frames {printable(path)} ({error}); name a folder of renders"
        ) from None
    labelled = "units" in pack or {"au", "lip_gap"} <= pack.keys()
    if not {"image", "person"} <= pack.keys() or not labelled:
        raise InputError(
            f"expected pictures, people and labels in {printable(path)}; it holds "
            f"{', '.join(pack) or 'nothing of these'}; draw several frames per person"
        )
    return pack


def labels_of(pack: Mapping[str, NDArray[Any]], names: Sequence[str], parameters: tuple[str, ...]) -> F32:
    """Labels `(N, K)` 0-5 of the units `names` in a file of frames.

    Args:
        pack: arrays of `read`.
        names: units of a label, in order.
        parameters: what the columns of `au` are.

    Raises:
        InputError: as many parameters as another profile has.
        ParameterError: a unit that the file does not label.
    """
    if "units" not in pack:
        if pack["au"].shape[1] != len(parameters):
            raise InputError(
                f"expected {len(parameters)} parameters per face; got {pack['au'].shape[1]}; draw the "
                "frames with the profile of the networks"
            )
        return columns_of(names, parameters, pack["au"], pack["lip_gap"])
    known = {"".join(aus.parse(name)): i for i, name in enumerate(DISFA)}
    for name in names:
        if "".join(aus.parse(name)) not in known:
            raise ParameterError(f"expected units of {', '.join(DISFA)}; got {name}; leave it out")
    at = [known["".join(aus.parse(name))] for name in names]
    return pack["units"][:, at].astype(np.float32)


def _same_faces(person: I64, identity: NDArray[np.floating], path: Path) -> None:
    """Refuses numbers of people that stand for several faces: identities of edits would mean nothing."""
    for number in np.unique(person):
        if np.ptp(identity[person == number], axis=0).max() > 1e-3:
            raise InputError(
                f"expected one face per person in {printable(path)}; person {number} has several; draw others"
            )


def split(person: I64, count: int) -> tuple[I64, I64]:
    """People who may train and the last `count` people, who take the test; all do when 0 or too few."""
    people = np.unique(person)
    if not 0 < count < len(people):
        return people[:0], people
    return people[:-count], people[-count:]


def pairs(frames: Frames, per_person: int, *, seed: int = 0) -> pd.DataFrame:
    """Edits to ask for: `per_person` rows for each person.

    Units take turns in a random order; of a unit, the level (label rounded) that was asked least often so
    far; then a random frame of that level, and any other frame of the person as the source.

    Returns:
        `person`; `source`, `target` rows of `frames`; `unit`, `level` for which the target was chosen;
        `other` a frame of another person, whose expression is to be taken over (-1 with one person only);
        `source_at`, `target_at`, `other_at` file and row.

    Raises:
        InputError: a person with a single frame.
    """
    rng = np.random.default_rng(seed)
    level = np.rint(frames.labels).astype(int)
    out = []
    for person in np.unique(frames.person):
        own = np.flatnonzero(frames.person == person)
        strangers = np.flatnonzero(frames.person != person)
        if len(own) < 2:
            raise InputError(
                f"expected at least 2 frames of each person; person {person} has {len(own)}; draw more"
            )
        asked: Counter[tuple[int, int]] = Counter()
        order: list[int] = []
        for _ in range(per_person):
            order = order or rng.permutation(len(frames.names)).tolist()
            unit = order.pop()
            shown = rng.permutation(np.unique(level[own, unit])).tolist()
            chosen = min(shown, key=lambda v, unit=unit: asked[unit, v])  # type: ignore[misc]
            asked[unit, chosen] += 1
            target = int(rng.choice(own[level[own, unit] == chosen]))
            source = int(rng.choice(own[own != target]))
            other = int(rng.choice(strangers)) if len(strangers) else -1
            out.append((person, source, target, other, frames.names[unit], chosen))
    table = pd.DataFrame(out, columns=["person", "source", "target", "other", "unit", "level"])
    for name in ("source", "target", "other"):
        table[f"{name}_at"] = [frames.place[i] if i >= 0 else "" for i in table[name]]
    return table


def calmest(frames: Frames, per_person: int) -> I64:
    """Rows of the frames of each person with the least action, for series of single units."""
    rows = []
    for person in np.unique(frames.person):
        own = np.flatnonzero(frames.person == person)
        rows += own[np.argsort(frames.labels[own].sum(1), kind="stable")[:per_person]].tolist()
    return np.array(rows, np.int64)
