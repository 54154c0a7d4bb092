"""Trains the student R on renders with exact parameters, and on portraits whose parameters nobody knows.

Squared error in standard units, whose optimum is the mean: an absolute error pulls sparse action units to
zero. Of portraits R learns what E makes of them (the paper's authors label faces with GE-Net and learn a
faster method, ACM MM 2020), that people asked for a neutral face are at rest, and that two views of one
portrait say the same; of portraits whose muscles were moved, what was added to each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceunits import aus, fitting, weights
from faceunits.alignment import warp
from faceunits.errors import ConfigError
from faceunits.evaluation.fits import crops_of
from faceunits.fitting import curves
from faceunits.fitting.models import MEASURED_ON_STUDENT, student_config
from faceunits.networks.student import Student, StudentConfig, deeper, finer
from faceunits.training import drawn, loop, shards, views
from faceunits.training.parser import codes, likely_errors, reading_names

F32 = NDArray[np.float32]
Batch = dict[str, Tensor]

NORM_BATCHES = 24
"""Batches that measure the batch norms of averaged weights."""


@dataclass(frozen=True)
class StudentTraining:
    """Data and weights of the loss."""

    renders: tuple[str, ...] = ()
    """Folders of shards made by `synth`; all are held in memory (50 kB a face of 128 px), new ones join.
    Plain ones beside the varied keep R at home in the pictures that M draws."""
    valid: str = ""
    """Folder of varied shards that train nothing: the curves, the doubt and the validation figures."""
    photos: str = ""
    """File made by `people.write`; empty for renders only."""
    out: str = ""
    """Folder of checkpoints."""
    init: str = ""
    """Weights of R to start from; empty for none."""
    share: float = 1.0
    """Of the trained weights in what is kept; the rest are those of `before`, see `averaged`."""
    before: str = ""
    """Weights of R of the same sizes, of an earlier training than `init`; those of `init` when empty."""
    profile: str = "default"
    """Action-unit profile of the renders."""
    n_identity: int = 60
    """Identity parameters that are read."""
    channels: tuple[int, ...] = (48, 96, 192)
    """See `networks.student.StudentConfig`."""
    blocks: tuple[int, ...] = (1, 2, 2)
    """See `networks.student.StudentConfig`."""
    size: int = 128
    """Side of the crops in pixels; renders of another size are brought to it."""
    kernel: int = 5
    """See `networks.student.StudentConfig`."""
    stride: int = 2
    """See `networks.student.StudentConfig`: 3, with a kernel of 9, for crops of 192 px."""
    moved: tuple[str, ...] = ()
    """Folders of portraits whose muscles were moved (`animate`), all held in memory; new ones join."""
    batch: int = 64
    """Renders per step."""
    drawn: int = 0
    """So many of them are what the shipped M draws, new in every step."""
    photo_batch: int = 6
    """Portraits per step, each seen twice."""
    moved_batch: int = 0
    """Moved portraits per step, two pictures of each."""
    rest_share: float = 0.5
    """Share of the portraits of a step that are of people asked for a neutral face."""
    identity_weight: float = 0.15
    """Of the squared error of identity, beside 1 for action units, lip gap and pose."""
    landmark_weight: float = 4.0
    """Of the squared error of landmarks, in standard units."""
    rest_weight: float = 0.1
    """Of the squared readings of people at rest."""
    twin_weight: float = 0.1
    """Of the squared difference between two views of a portrait."""
    moved_weight: float = 0.15
    """The same of two pictures of a moved portrait, less the difference of what was added to them."""
    taught_weight: float = 0.05
    """Of the squared difference from what E reads in portraits that are not known to be at rest."""
    norm_portraits: float = 0.5
    """Share of portraits among the faces that measure the batch norms in the end; 0 for training's own."""
    harder: bool = False
    """Some crops in uneven light, from smaller faces, and renders with something in front of them."""
    shift_px: float = 2.5
    """Spread of the crop's shift, as an imperfect detector would."""
    scale: float = 0.04
    """Spread of the crop's scale."""
    turn_deg: float = 2.5
    """Spread of the crop's roll."""
    bend_px: float = 0.0
    """Spread of a smooth bend of the crop, which makes somebody else of a face."""
    loop: loop.LoopConfig = field(default_factory=lambda: loop.LoopConfig(steps=12000, lr=2e-3))


class Faces:
    """Renders held in memory, with what R should say of them: NaN where nobody knows."""

    def __init__(self, folders: tuple[str, ...], size: int = 128) -> None:
        self.folders, self.size = folders, size
        self.known: set[Path] = set()
        self.images: list[NDArray[np.uint8]] = []
        self.codes: list[F32] = []
        self.points: list[F32] = []
        self.moved: list[tuple[NDArray[np.int64], F32] | None] = []
        self.sizes = np.zeros(0, np.int64)

    def refresh(self) -> None:
        """Takes in shards that have appeared; those of seeds kept for testing are left alone.

        Raises:
            ConfigError: there are none.
        """
        for path in shards.find(self.folders):
            if path in self.known:
                continue
            self.known.add(path)
            with np.load(path) as pack:
                image, points = pack["image"], pack["landmarks"].astype(np.float32)
                if image.shape[1] != self.size:  # plain faces are as large as M draws them
                    points = warp.resized(points, self.size / image.shape[1])
                    image = warp.picture(crops_of(image, self.size))
                self.images.append(image)
                self.points.append(points)
                self.codes.append(codes({k: pack[k] for k in ("au", "lip_gap", "pose_deg", "identity")}))
                self.moved.append((pack["portrait"], pack["added"]) if "added" in pack else None)
        self.sizes = np.array([len(i) for i in self.images])

    def draw(self, rng: np.random.Generator, count: int) -> tuple[NDArray[np.uint8], F32, F32]:
        """Images `(n, S, S, 3)`, codes `(n, R)` and landmarks `(n, 68, 2)` of random faces."""
        return self._take(self._rows(rng, count))

    def pairs(self, rng: np.random.Generator, count: int) -> tuple[tuple[NDArray[np.uint8], F32, F32], F32]:
        """As `draw`, of two pictures each of random moved portraits, in turns `(2n, ...)`; and what was added
        to each `(2n, A + 1)`.

        Raises:
            ConfigError: a file that does not say what was added.
        """
        rows, added = [], []
        for k, i in self._rows(rng, count):
            moved = self.moved[k]
            if moved is None:
                raise ConfigError(
                    f"expected in {', '.join(self.folders)} shards of `faceunits animate` that say what was "
                    "added; got others; name the folders of renders in `renders`"
                )
            of_it = np.flatnonzero(moved[0] == moved[0][i])
            j = int(rng.choice(of_it[of_it != i])) if len(of_it) > 1 else i
            rows += [(k, i), (k, j)]
            added += [moved[1][i], moved[1][j]]
        return self._take(rows), np.stack(added)

    def known_whole(self) -> list[tuple[NDArray[np.uint8], F32]]:
        """Images and codes of the files in which nothing is unknown."""
        return [(i, c) for i, c in zip(self.images, self.codes, strict=True) if np.isfinite(c).all()]

    def _rows(self, rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
        which = rng.choice(len(self.sizes), count, p=self.sizes / self.sizes.sum())
        return [(int(k), int(rng.integers(self.sizes[k]))) for k in which]

    def _take(self, rows: list[tuple[int, int]]) -> tuple[NDArray[np.uint8], F32, F32]:
        return (
            np.stack([self.images[k][i] for k, i in rows]),
            np.stack([self.codes[k][i] for k, i in rows]),
            np.stack([self.points[k][i] for k, i in rows]),
        )


@dataclass(frozen=True)
class Portraits:
    """Crops of people: `image` `(n, S, S, 3)` uint8, `rest` `(n,)`, and what the teachers say of them: `code`
    `(n, R)`, `points` `(n, 68, 2)`."""

    image: NDArray[np.uint8]
    rest: NDArray[np.bool_]
    code: F32
    points: F32


def portraits(path: str) -> Portraits:
    """Portraits of `people.write` as the shipped E reads them, before its curves.

    What R learns is a mean over what a face might be doing, and its own curves carry that to the scale of the
    parameters; taught what E says after its curves, R would stretch the same reading twice.
    """
    with np.load(path) as pack:
        image, rest = pack["image"], pack["neutral"]
    teacher = fitting.load("parser", "generator", "fitting")
    read: list[tuple[Tensor, Tensor]] = []
    with torch.inference_mode():
        for i in range(0, len(image), 32):
            crops = torch.from_numpy(crops_of(image[i : i + 32], teacher.crop_size))
            read.append(teacher.reader(crops)[:2])
    points, code = (torch.cat(of).numpy() for of in zip(*read, strict=True))
    return Portraits(image, rest, code, warp.resized(points, image.shape[1] / teacher.crop_size))


class Batches:
    """Renders and portraits of a step, each crop moved a little."""

    def __init__(
        self, config: StudentTraining, faces: Faces, moved: Faces | None, people: Portraits | None, seed: int
    ) -> None:
        self.config, self.faces, self.moved, self.people = config, faces, moved, people
        self.drawer = drawn.drawer(config.profile, config.n_identity) if config.drawn else None
        self.rng = np.random.default_rng([config.loop.seed, seed])
        self.torch_rng = torch.Generator().manual_seed(config.loop.seed * 1_000_003 + seed)

    def __iter__(self) -> Iterator[Batch]:
        count = 0
        while True:
            if count % 200 == 0:
                self.faces.refresh()
                if self.moved is not None:
                    self.moved.refresh()
            count += 1
            yield self.batch()

    def batch(self) -> Batch:
        """`image` `(n + 2k + 2m, 3, S, S)` float: n renders, two pictures in turns of k moved portraits, and
        m portraits seen twice; `code` and `points` for all (of portraits what E says), `added` `(2k + 2m,
        A + 1)`, `rest` `(2m,)`."""
        config, rng = self.config, self.rng
        parts = [self.faces.draw(rng, config.batch - config.drawn)]
        if self.drawer is not None:
            parts.append(self.drawer.draw(rng, config.drawn, config.size))
        n_au = len(aus.profile(config.profile))
        rest, added = np.zeros(0, bool), np.zeros((0, n_au + 1), np.float32)
        if self.moved is not None and config.moved_batch:
            of_pairs, added = self.moved.pairs(rng, config.moved_batch)
            parts.append(of_pairs)
        image, code, points = (np.concatenate(of) for of in zip(*parts, strict=True))
        if self.people is not None and config.photo_batch:
            people = self.people
            quiet, others = np.flatnonzero(people.rest), np.flatnonzero(~people.rest)
            calm = round(config.photo_batch * config.rest_share)
            rows = np.concatenate([rng.choice(quiet, calm), rng.choice(others, config.photo_batch - calm)])
            rows = np.repeat(rows, 2)
            image = np.concatenate([image, people.image[rows]])
            code = np.concatenate([code, people.code[rows]])
            points = np.concatenate([points, people.points[rows]])
            rest = people.rest[rows]
            added = np.concatenate([added, np.zeros((len(rows), n_au + 1), np.float32)])
        x, at = views.moved(
            torch.from_numpy(views.toned(rng, image)), torch.from_numpy(points), self.torch_rng,
            shift_px=config.shift_px, scale=config.scale, turn_deg=config.turn_deg, bend_px=config.bend_px,
        )  # fmt: skip
        if config.harder:
            x = views.coarser(views.shaded(x, self.torch_rng), self.torch_rng)
            views.covered(x[: config.batch], self.torch_rng)  # two views of a portrait must show the same
        return {
            "image": views.worsened(x, self.torch_rng), "code": torch.from_numpy(code), "points": at,
            "added": torch.from_numpy(added), "rest": torch.from_numpy(rest),
        }  # fmt: skip


def losses(net: nn.Module, batch: Batch, config: StudentTraining) -> loop.Losses:
    """The weighted terms, in standard units of the training faces."""
    assert isinstance(net, Student)
    size, known = net.config.size, net.config.known
    n, told, n_au = config.batch, config.batch + 2 * config.moved_batch, len(net.config.au_mirror)
    points, readings, _ = net(batch["image"].contiguous(memory_format=torch.channels_last))
    unit = net.std[: readings.shape[1]]
    code = batch["code"]
    wrong = ((readings - torch.where(code.isnan(), readings, code)) / unit).square()
    gap = (points - batch["points"]) / (size * net.std[readings.shape[1] :].view(-1, 2))
    terms = {
        "au": wrong[:told, :known].sum() / code[:told, :known].isfinite().sum(),
        "identity": config.identity_weight * wrong[:told, known:].mean(),
        "points": config.landmark_weight * gap.square().mean(),
    }
    now = readings[n:, : n_au + 1]
    still = (now - batch["added"]) / unit[: n_au + 1]
    apart = (still[0::2] - still[1::2]).square()
    if config.moved_batch:
        terms["moved"] = config.moved_weight * apart[: config.moved_batch].mean()
    rest = batch["rest"]
    if len(rest):
        terms["twins"] = config.twin_weight * apart[config.moved_batch :].mean()
        if bool(rest.any()):
            terms["rest"] = (
                config.rest_weight * (now[2 * config.moved_batch :][rest] / unit[: n_au + 1]).square().mean()
            )
        if not bool(rest.all()):
            terms["taught"] = config.taught_weight * wrong[told:][~rest][:, :known].mean()
    return terms


def build(config: StudentTraining, faces: Faces) -> Student:
    """R of a training configuration, in the standard units of the faces."""
    mirror = aus.profile(config.profile).mirror()
    size = config.size
    sizes = StudentConfig(
        size=size, left=size // 8, top=size // 8, half=size // 2,
        kernel=config.kernel, stride=config.stride, channels=config.channels, blocks=config.blocks,
        au_mirror=tuple(int(k) for k in mirror), n_identity=config.n_identity,
    )  # fmt: skip
    net = Student(sizes)
    if config.share < 1 and not config.init:
        raise ConfigError("expected weights to start from (init), since a share of them is kept; got none")
    if config.init:
        state, about = weights.load(config.init)
        before = student_config(about, config.init)
        state = {k: v for k, v in state.items() if k not in MEASURED_ON_STUDENT}
        if before.size != size:
            state = finer(state, before, replace(sizes, blocks=before.blocks))
        if before.blocks != sizes.blocks:
            state = deeper(state, before, sizes)
        weights.fill(net, state, source=config.init)
    else:
        points = np.concatenate(faces.points) / sizes.size
        truth = np.concatenate([np.concatenate(faces.codes), points.reshape(len(points), -1)], 1)
        net.mean.copy_(torch.from_numpy(truth.mean(0)))
        net.std.copy_(torch.from_numpy(truth.std(0) + 1e-4))
        nn.init.zeros_(net.doubt.weight)
        nn.init.normal_(net.answer.weight, std=0.01)
        nn.init.zeros_(net.answer.bias)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def averaged(net: Student, start: dict[str, Tensor], share: float, batches: Iterator[Batch]) -> Student:
    """`net` with `share` of its weights and the rest of those it started from, `normed` anew.

    Weights of two trainings of one network lie in one basin, and those between them err less than either.
    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models".
    """
    net.load_state_dict(loop.between(start, net.state_dict(), share))
    return normed(net, batches)


def normed(net: Student, batches: Iterator[Batch]) -> Student:
    """`net` with the means and variances of its batch norms measured on batches.

    Where half of these are portraits, renders and photos meet half way: features of photos come to where
    those of the renders lay that R learnt from. Source: Li et al. 2017, "Revisiting batch normalization for
    practical domain adaptation".
    """
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    net.train()
    with torch.no_grad():
        for batch in islice(batches, NORM_BATCHES):
            net(batch["image"].contiguous(memory_format=torch.channels_last))
    return net.eval()


def measure(net: Student, valid: Faces, *trained: Faces, most: int = 8000) -> dict[str, Tensor]:
    """What a reader of R must know of it: `knots` and `values` of the curves, `spread` of the errors (see
    `fitting.optimise.Networks`), from `valid`. Its doubt is fitted too, in place, and nothing else changes;
    that takes more faces, so `most` of those that trained join, whose errors are hardly smaller. Of faces of
    which not everything is known nothing is learnt."""
    n = len(net.config.au_mirror)
    fresh = valid.known_whole()
    heard, readings, wrong = _errors(net, fresh, int(valid.sizes.max()))
    truth = torch.from_numpy(np.concatenate([code for _, code in fresh]))
    swap = torch.cat([net.au_mirror, torch.tensor([n])])  # both sides get one curve
    knots, values = curves.matching(
        torch.cat([readings[:, : n + 1], readings[:, swap]]), torch.cat([truth[:, : n + 1], truth[:, swap]])
    )
    straight = curves.apply(readings[:, : n + 1].contiguous(), knots, values)
    spread = torch.cat([(readings - truth)[:, n + 1 : n + 3] / 2, (straight - truth[:, : n + 1])[:, :n]], 1)
    of_every_kind = [shard for faces in trained for shard in faces.known_whole()]
    more = _errors(net, of_every_kind, -(-most // len(of_every_kind)))
    x, errors = torch.cat([heard, more[0]], 1).flatten(0, 1), torch.cat([wrong, more[2]])
    turned = torch.cat([errors[:, :n][:, net.au_mirror], errors[:, n:]], 1)
    weight, bias = likely_errors(x, torch.cat([errors, turned]), penalty=1.0)
    with torch.no_grad():
        net.doubt.weight.copy_(weight)
        net.doubt.bias.copy_(bias)
        limits = torch.tensor([0.001, 0.999])
        net.doubt_range.copy_(torch.quantile(x @ weight.T + bias, limits, dim=0))
    return {"knots": knots, "values": values, "spread": spread.square().mean(0).sqrt()}


def _errors(
    net: Student, files: list[tuple[NDArray[np.uint8], F32]], each: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the first `each` faces of every shard: what is heard `(2, n, H)`, readings `(n, R)`, and their
    errors `(n, N)`."""
    heard, read, truth = [], [], []
    with torch.no_grad():
        for images, code in files:
            truth.append(torch.from_numpy(code[:each]))
            for i in range(0, min(each, len(images)), 50):
                rows = slice(i, min(i + 50, each))
                h = net.heard(torch.from_numpy(crops_of(images[rows])))
                heard.append(h.view(2, -1, h.shape[1]))
                read.append(net.answers(h)[1])
    readings = torch.cat(read)
    return torch.cat(heard, 1), readings, (readings - torch.cat(truth))[:, : net.config.known]


def export(net: Student, measured: dict[str, Tensor], config: StudentTraining, path: Path) -> None:
    """Writes R with what `measure` says of it."""
    names = reading_names(aus.profile(config.profile), config.n_identity)
    about = {**net.config.__dict__, "kind": "student", "profile": config.profile, "reading_names": names}
    weights.save(path, weights.halved(net.state_dict()) | measured, about, {})


def train(config: StudentTraining) -> Student:
    """Trains R and writes `student.safetensors` into the output folder.

    Raises:
        ConfigError: settings that do not go together, or folders without shards.
    """
    if bool(config.moved) != bool(config.moved_batch):
        raise ConfigError(
            f"expected both moved (folders) and moved_batch (portraits of a step), or neither; got "
            f"{list(config.moved)} and {config.moved_batch}"
        )
    torch.manual_seed(config.loop.seed)
    faces, valid = Faces(config.renders, config.size), Faces((config.valid,), config.size)
    faces.refresh()
    valid.refresh()
    people = portraits(config.photos) if config.photos else None
    moved = Faces(config.moved, config.size) if config.moved else None
    if moved is not None:
        moved.refresh()
    net = build(config, faces)
    # before anything is learnt: what is new in a deeper R begins at random
    start: dict[str, Tensor] = {}
    if config.share < 1:
        first = build(replace(config, init=config.before), faces) if config.before else net
        start = {k: v.clone() for k, v in first.state_dict().items()}
    mean = loop.run(
        net,
        lambda step: loop.ahead(iter(Batches(config, faces, moved, people, step))),
        lambda m, b: losses(m, b, config),
        config.loop, config.out, settings=config,
    )  # fmt: skip
    assert isinstance(mean, Student)
    shared = config.norm_portraits if people is not None else 0.0
    seen = Batches(config, faces, moved, people, 5)
    if shared:
        photos = round(config.batch * shared / 2)  # each is seen twice
        even = replace(config, batch=config.batch - 2 * photos, photo_batch=photos, moved_batch=0)
        seen = Batches(even, faces, moved, people, 6)
    if config.share < 1:
        mean = averaged(mean, start, config.share, iter(seen))
    elif shared:
        mean = normed(mean, iter(seen))
    known = (faces,) if moved is None else (faces, moved)
    export(mean, measure(mean, valid, *known), config, Path(config.out) / "student.safetensors")
    return mean
