"""Faces along a video: one number per person, crops that follow the face, the detector only now and then.

A frame's crops lie where registration finds last frame's faces; their landmarks, read anyway, correct
that slowly. The detector runs on the first frame, when a face is lost, for a second after that, and at
intervals. It also says how its own points lie to the landmarks, so that a followed crop is placed as the
detector would place it and a photo and a video of the same face give the same numbers.

A face counts as lost when the detector's second look no longer believes in it. That look is taken at
intervals and whenever something is odd: the picture under the face changed, the landmarks jumped.

Convention: as in `warp`. Times in seconds, of presentation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceunits.alignment import people, register, warp
from faceunits.alignment.detect import FaceSource
from faceunits.errors import AlignmentError
from faceunits.types import Face, Reading

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
Read = Callable[[F32], Reading]

_BATCH = 8
_BELIEF = 0.3
"""Least belief of the second look in a followed face; on photos of faces it is above 0.9, beside them
below 0.05."""
_ODD = 0.85
"""Correlation with the frame before, below which the face is looked at again; blinks stay above."""
_LAG = 0.02
"""Of the crop's side: a crop that lies further from its landmarks than this is cut and read again."""


@dataclass(frozen=True)
class TrackOptions:
    """How often to look."""

    redetect_s: float = 1.0
    """The detector looks for new faces at least this often."""
    verify_s: float = 1.0
    """A followed face is looked at again at least this often; that the detector saw it counts."""
    search_s: float = 1.0
    """After a loss the detector runs on every frame for so long."""


@dataclass(frozen=True)
class Seen:
    """One face in one frame: `matrix` `(2, 3)` to its `crop` `(3, S, S)`; `reading` holds it at `index`."""

    face_id: int
    face: Face
    matrix: F64
    crop: F32
    reading: Reading
    index: int


@dataclass
class _Track:
    """A person: where the crop was last, what it showed, how landmarks and detector differ there."""

    face_id: int
    matrix: F64
    offset: F64
    score: float
    seen_s: float
    checked_s: float
    patch: F32
    looks: list[F32] = field(default_factory=list)
    near_s: float = -np.inf
    is_lost: bool = False


@dataclass
class _Sight:
    """A track in the frame at hand."""

    track: _Track
    face: Face
    matrix: F64
    crop: F32
    reading: Reading
    index: int
    target: F64
    look: F32
    place: register.Around | None = None
    is_odd: bool = False
    is_checked: bool = False


class Tracker:
    """Follows faces from frame to frame.

    Args:
        detector: finds faces in a picture; one with `refine` is asked that way whether a face is still there.
        read: from crops `(B, 3, size, size)` to their readings.
        size: side of the crops in pixels.
        options: intervals.

    Example:
        tracker = Tracker(Detector(), lambda crops: fitting.read(crops, models), models.crop_size)
        for frame in video.frames("talk.mp4"):
            for seen in tracker(frame.picture, frame.time_s): ...
    """

    def __init__(
        self, detector: FaceSource, read: Read, size: int, *, options: TrackOptions = TrackOptions()
    ):
        self._detector, self._read, self._size, self._options = detector, read, size, options
        points = np.concatenate([warp.template(size), np.ones((5, 1))], 1)
        self._moments = points.T @ points / len(points)
        self._tracks: list[_Track] = []
        self._next_id = 0
        self._looked_s = self._lost_s = self._now = -np.inf

    def __call__(self, picture: U8, time_s: float) -> list[Seen]:
        """The faces of the next frame, by number.

        Args:
            picture: `(H, W, 3)` uint8.
            time_s: its time, later than that of the frame before.
        """
        gap, self._now = time_s - self._now, time_s
        active = [t for t in self._tracks if not t.is_lost]
        sights = self._follow(picture, active, jumped=not 0 <= gap < 0.5)
        sights = self._verified(picture, sights)
        sights = self._parted(sights)
        found = {s.track.face_id for s in sights}
        for track in active:
            if track.face_id not in found:
                track.is_lost, self._lost_s = True, self._now
        if self._is_due(sights):
            sights = self._search(picture, sights)
        for sight in sights:
            self._keep(picture, sight)
        self._tracks = people.recent(self._tracks, lambda t: t.seen_s)
        return [
            Seen(s.track.face_id, s.face, s.matrix, s.crop, s.reading, s.index)
            for s in sorted(sights, key=lambda s: s.track.face_id)
        ]

    def _follow(self, picture: U8, tracks: Sequence[_Track], *, jumped: bool) -> list[_Sight]:
        """Where the faces of the last frame are in this one."""
        places, matrices, alike = [], [], []
        for track in tracks:
            place = register.around(picture, track.matrix, self._size)
            matrix, same = register.follow(register.Patch(track.patch, self._size), place, track.matrix)
            places.append(place)
            matrices.append(matrix)
            alike.append(same)
        sights = self._sights(picture, tracks, matrices)
        # a face that moved on has landmarks far from where its crop expected them: once more, from there
        far = _LAG * self._size
        late = [i for i, s in enumerate(sights) if s and self._distance(s.matrix, s.target) > far]
        again = [sights[i] for i in late]
        better = self._sights(picture, [s.track for s in again if s], [s.target for s in again if s])
        for i, sight in zip(late, better, strict=True):
            sights[i] = sight
        out = []
        for track, sight, place, same in zip(tracks, sights, places, alike, strict=True):
            if sight is None or not _is_inside(sight.face, picture):
                continue
            sight.place = place
            change = float(warp.scale(sight.matrix) / warp.scale(track.matrix))
            late_still = self._distance(sight.matrix, sight.target) > 2 * far
            sight.is_odd = jumped or same < _ODD or late_still or not 0.9 < change < 1.1
            out.append(sight)
        return out

    def _sights(self, picture: U8, tracks: Sequence[_Track], matrices: Sequence[F64]) -> list[_Sight | None]:
        """Tracks seen under the given matrices; None where the landmarks make no face."""
        crops = [warp.crop(picture, m, self._size) for m in matrices]
        out: list[_Sight | None] = []
        readings = self._readings(crops)
        for track, matrix, crop, (reading, i) in zip(tracks, matrices, crops, readings, strict=True):
            try:
                points = warp.apply(warp.invert(matrix), people.five(reading.landmarks[i]))
                own = warp.similarity(points[None], self._size)[0]
                face = Face(warp.face_box(points), points.astype(np.float32), track.score)
                target = _after(track.offset, own)
                look = self._look(picture, matrix, crop, reading.identity[i])
                out.append(_Sight(track, face, matrix, crop, reading, i, target, look))
            except AlignmentError:
                out.append(None)
        return out

    def _look(self, picture: U8, matrix: F64, crop: F32, identity: F32) -> F32:
        return people.look(crop, identity, people.inside(matrix, self._size, picture))

    def _readings(self, crops: Sequence[F32]) -> list[tuple[Reading, int]]:
        out: list[tuple[Reading, int]] = []
        for start in range(0, len(crops), _BATCH):
            part = np.stack(crops[start : start + _BATCH])
            reading = self._read(part)
            out += [(reading, i) for i in range(len(part))]
        return out

    def _verified(self, picture: U8, sights: list[_Sight], *, also: Sequence[_Sight] = ()) -> list[_Sight]:
        """Without the faces that a second look no longer believes in."""
        refine = getattr(self._detector, "refine", None)
        if refine is None:  # a detector that cannot look twice looks at everything anew
            if any(s.is_odd for s in sights):
                self._looked_s = -np.inf
            return sights
        # where the detector looks in this very frame, it is the one to confirm
        limit = -np.inf if self._is_time() else self._now - self._options.verify_s
        asked = [s for s in sights if s in also or s.is_odd or s.track.checked_s <= limit]
        asked = [s for s in asked if not s.is_checked]
        gone = set()
        for sight, face in zip(asked, refine(picture, [s.face for s in asked]), strict=True):
            sight.is_checked, sight.track.checked_s = True, self._now
            if face.score < _BELIEF:
                gone.add(sight.track.face_id)
        return [s for s in sights if s.track.face_id not in gone]

    def _parted(self, sights: list[_Sight]) -> list[_Sight]:
        """Faces that meet: of two tracks on one face one stays; crossed ones are put back."""
        out = list(sights)
        for a in sights:
            for b in sights:
                if a.track.face_id >= b.track.face_id or a not in out or b not in out:
                    continue
                closeness = people.distance_in_faces(a.face, b.face)
                if closeness < people.NEAR:
                    a.track.near_s = b.track.near_s = self._now
                if closeness < people.SAME_PLACE:
                    mine = people.unlike(a.look, a.track.looks)
                    out.remove(b if mine <= people.unlike(b.look, b.track.looks) else a)
                elif min(self._now - t.near_s for t in (a.track, b.track)) < people.PARTED_S:
                    for hidden in self._untangled(a, b):
                        out.remove(hidden)
        return out

    def _untangled(self, a: _Sight, b: _Sight) -> list[_Sight]:
        """Put two crossed tracks back; the one that has come to lie on the other's face is returned."""
        gain_a = people.unlike(a.look, a.track.looks) - people.unlike(a.look, b.track.looks)
        gain_b = people.unlike(b.look, b.track.looks) - people.unlike(b.look, a.track.looks)
        if gain_a + gain_b > people.MARGIN and min(gain_a, gain_b) > 0:
            a.track, b.track = b.track, a.track
            return []
        return [s for s, gain in ((a, gain_a), (b, gain_b)) if gain > people.MARGIN][:1]

    def _is_due(self, sights: list[_Sight]) -> bool:
        return not sights or self._is_time()

    def _is_time(self) -> bool:
        """Whether the detector looks in this frame, whatever was followed."""
        return (
            not self._now < self._looked_s + self._options.redetect_s
            or self._now <= self._lost_s + self._options.search_s
        )

    def _search(self, picture: U8, sights: list[_Sight]) -> list[_Sight]:
        """Let the detector look: its faces confirm tracks, bring them back, or are new."""
        self._looked_s = self._now
        faces = sorted(self._detector(picture), key=lambda f: -float(f.box[2] * f.box[3]))
        unseen, free = list(sights), []
        for face in faces:
            same = [s for s in sights if people.overlap(s.face, face) > people.SAME_FACE]
            best = max(same, key=lambda s: people.overlap(s.face, face), default=None)
            if best is None:
                free.append(face)
            elif best in unseen:
                unseen.remove(best)
                self._confirm(best, face)
        if getattr(self._detector, "refine", None) is None:
            kept = [s for s in sights if s not in unseen]
        else:
            kept = self._verified(picture, sights, also=unseen)
        for sight in sights:
            if sight not in kept:
                sight.track.is_lost, self._lost_s = True, self._now
        return kept + self._met(picture, free, kept)

    def _confirm(self, sight: _Sight, face: Face) -> None:
        """The detector sees a followed face: take its belief, learn how its points lie to the landmarks."""
        track = sight.track
        track.score, track.checked_s, sight.is_checked = face.score, self._now, True
        sight.face = replace(sight.face, score=face.score)
        try:
            wanted = warp.similarity(face.points[None], self._size)[0]
        except AlignmentError:
            return
        own = _after(warp.invert(track.offset), sight.target)
        offset = _after(wanted, warp.invert(own))
        track.offset = track.offset + 0.25 * (offset - track.offset)
        sight.target = _after(track.offset, own)

    def _met(self, picture: U8, faces: Sequence[Face], sights: Sequence[_Sight]) -> list[_Sight]:
        """Faces that no track explains: people who return, by their looks, or new ones."""
        matrices, sound = [], []
        for face in faces:
            try:
                matrices.append(warp.similarity(face.points[None], self._size)[0])
                sound.append(face)
            except AlignmentError:
                continue
        crops = [warp.crop(picture, m, self._size) for m in matrices]
        readings = self._readings(crops)
        looks = [
            self._look(picture, m, c, r.identity[i])
            for m, c, (r, i) in zip(matrices, crops, readings, strict=True)
        ]
        lost = [t for t in self._tracks if t.is_lost]
        known = people.recognise(
            [(look, face) for look, face in zip(looks, sound, strict=True)],
            [
                people.Missing(t.looks, self._box(t), self._now - t.seen_s, t.seen_s - t.near_s < 0.5)
                for t in lost
            ],
            [s.track.looks for s in sights],
        )
        out = []
        for face, matrix, crop, look, (reading, i), who in zip(
            sound, matrices, crops, looks, readings, known, strict=True
        ):
            track = lost[who] if who is not None else self._new()
            track.is_lost, track.score, track.checked_s = False, face.score, self._now
            try:
                points = warp.apply(warp.invert(matrix), people.five(reading.landmarks[i]))
                own = warp.similarity(points[None], self._size)[0]
                track.offset = _after(matrix, warp.invert(own))
            except AlignmentError:
                track.offset = np.eye(2, 3)
            out.append(_Sight(track, face, matrix, crop, reading, i, matrix, look, is_checked=True))
        return out

    def _new(self) -> _Track:
        blank = np.zeros((register.SIDE, register.SIDE), np.float32)
        track = _Track(self._next_id, np.eye(2, 3), np.eye(2, 3), 0.0, self._now, self._now, blank)
        self._next_id += 1
        self._tracks.append(track)
        return track

    def _box(self, track: _Track) -> F32:
        return warp.face_box(warp.apply(warp.invert(track.matrix), warp.template(self._size)))

    def _keep(self, picture: U8, sight: _Sight) -> None:
        """Remember a face for the next frame: its crop drawn a little towards its landmarks."""
        track, size = sight.track, self._size
        share = float(np.clip(self._distance(sight.matrix, sight.target) / (0.025 * size), 0.2, 1.0))
        ends = [warp.apply(warp.invert(m), warp.template(size)) for m in (sight.matrix, sight.target)]
        track.matrix = warp.similarity(((1 - share) * ends[0] + share * ends[1])[None], size)[0]
        place = sight.place or register.around(picture, track.matrix, size)
        track.patch = register.patch(place, track.matrix, size).grey
        track.seen_s = self._now
        if self._now - track.near_s > people.PARTED_S or not track.looks:
            people.remember(track.looks, sight.look)

    def _distance(self, a: F64, b: F64) -> float:
        """Root mean square of the template's points under both matrices, crop pixels."""
        apart = _after(b, warp.invert(a)) - np.eye(2, 3)
        return float(np.sqrt(max(0.0, ((apart @ self._moments) * apart).sum())))

    def state(self) -> dict[str, NDArray[Any]]:
        """All that the next frame depends on, as arrays; `restore` takes it."""
        times = [self._looked_s, self._lost_s, self._now]
        out: dict[str, NDArray[Any]] = {"clock": np.array(times), "next_id": np.array(self._next_id)}
        for i, t in enumerate(self._tracks):
            numbers = [t.face_id, t.score, t.seen_s, t.checked_s, t.near_s, t.is_lost]
            out |= {f"{i}.numbers": np.array(numbers, np.float64), f"{i}.matrix": t.matrix}
            out |= {f"{i}.offset": t.offset, f"{i}.patch": t.patch}
            out[f"{i}.looks"] = np.array(t.looks, np.float32)
        return out

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on where another tracker's `state` was taken."""
        self._looked_s, self._lost_s, self._now = (float(v) for v in state["clock"])
        self._next_id = int(state["next_id"])
        self._tracks = []
        while f"{(i := len(self._tracks))}.numbers" in state:
            face_id, score, seen, checked, near, lost = state[f"{i}.numbers"].tolist()
            self._tracks.append(
                _Track(
                    int(face_id), state[f"{i}.matrix"], state[f"{i}.offset"], score, seen, checked,
                    state[f"{i}.patch"], list(state[f"{i}.looks"]), near, bool(lost),
                )
            )  # fmt: skip


def _after(second: F64, first: F64) -> F64:
    """The `(2, 3)` transform `first`, then `second`."""
    return np.concatenate(
        [second[:, :2] @ first[:, :2], (second[:, :2] @ first[:, 2] + second[:, 2])[:, None]], 1
    )


def _is_inside(face: Face, picture: U8) -> bool:
    """Whether the middle of the face is in the picture, and the face large enough to be one."""
    x, y = face.points.mean(0)
    height, width = picture.shape[:2]
    return bool(0 <= x < width and 0 <= y < height and 8 < face.box[2] < 3 * max(height, width))
