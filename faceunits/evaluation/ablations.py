"""The paper's ablations on one page: feature spaces, similarity of expressions, iterations, recipes,
identity subspace (GE-Net, section 4.4); on rendered faces and on real neutral/smiling pairs.

Rendered faces are those of a shard that trained nothing or, without one, faces that M draws itself. Those
are a closed loop: there even raw pixels find the parameters, and only the real pairs tell. Pictures show
rendered faces only: a page is easily passed on, and the people of the pairs were not asked for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits import aus, fitting
from faceunits.alignment import warp
from faceunits.alignment.detect import Detector
from faceunits.evaluation import fits, metrics, similarity
from faceunits.evaluation.crops import read_pairs
from faceunits.evaluation.report import Figure, Report
from faceunits.evaluation.similarity import Person
from faceunits.evaluation.spaces import Descent, Space, descend, left_out
from faceunits.fitting.optimise import DEFAULT, PAPER, RECIPES, Recipe
from faceunits.rig.shape import parameters
from faceunits.viz import curves

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Tell = Callable[[str], None]
Statistic = Callable[[NDArray[np.int64]], float]

BY_FEATURES = Recipe(iterations=30, optimiser="adam", features=10.0)
"""A fit by the features of a space alone, from the base face. Adam, because the paper's step sizes suit the
scale of E's features only."""


@dataclass(frozen=True)
class Faces:
    """What is measured: rendered `crops` `(B, 3, S, S)` with the true `au` `(B, A)`, and real pairs
    `neutral` and `smiling` `(N, 3, S, S)`, empty where the user names none."""

    crops: F32
    au: F32
    neutral: F32
    smiling: F32


@dataclass(frozen=True)
class Plan:
    """How much is done."""

    iterations: tuple[int, ...] = (0, 2, 5, 15, 30, 100)
    """Steps of the default recipe, of the photo alone: with its mirror image each costs twice as much."""
    space_iterations: int = 20
    """Steps of the fit in each space."""
    recipes: tuple[str, ...] = tuple(RECIPES)
    """By name."""
    rounds: int = 1000
    """Of the bootstrap over faces and people."""


QUICK = Plan(iterations=(0, 5, 15), space_iterations=10)
"""For a first look, in some three minutes with the faces of `QUICK_FACES`."""

QUICK_FACES = 12
"""Rendered faces, and at most this many people and real pairs, of a quick run."""


@dataclass
class Page:
    """The report and its pictures by title."""

    report: Report
    pictures: dict[str, U8] = field(default_factory=dict)


def closed_loop_faces(models: fitting.Models, count: int, *, seed: int = 900_100) -> tuple[F32, F32]:
    """Crops that M draws of natural faces `(count, 3, S, S)`, and their action units `(count, A)`."""
    from faceunits.rig import sample  # numpy only: no rig data are needed

    rng = np.random.default_rng(seed)
    n_id = models.networks.generator.config.parameters - 2 - len(models.names)
    drawn = sample.naturals(rng, models.profile, n_id, count)
    return similarity.draw(models, parameters(drawn)), drawn["au"]


def gather(
    models: fitting.Models, shard: Path | None, pairs: Path | None, count: int, people: int, detector: str
) -> tuple[Faces, dict[str, list[Person]]]:
    """The faces to fit and those of the similarity matrices, from what the user names.

    Raises:
        InputError: a shard of other networks, or a folder without pairs.
    """
    size = models.networks.generator.config.size  # every space sees faces as large as M draws them
    groups: dict[str, list[Person]] = {}
    if shard is None:
        crops, au = closed_loop_faces(models, count)
        groups["faces of M"] = similarity.own_faces(models, people)
    else:
        # a matrix takes ten faces of one shard
        pack = fits.checked(fits.read_shard(shard, max(count, 20 * people)), shard, models)
        crops, au = fits.crops_of(pack["image"][:count], size), pack["au"][:count].astype(np.float32)
        groups["renders"] = similarity.shard_faces(models, pack, people)
    neutral = smiling = np.zeros((0, 3, size, size), np.float32)
    if pairs is not None:
        neutral, smiling = read_pairs(pairs, size, Detector(detector), people)
        groups["real pairs"] = similarity.real_faces(models, neutral, smiling)
    return Faces(crops, au, neutral, smiling), {k: v for k, v in groups.items() if v}


def of_rendered(truth: F32, predicted: F32) -> dict[str, Statistic]:
    """Error (0-5) and ICC(3,1) over all units and faces together, of some faces by their index: few faces
    are too few for one unit."""
    errors = aus.MAX_INTENSITY * np.abs(truth - predicted).mean(1)
    return {
        "error": lambda rows: float(errors[rows].mean()),
        "ICC": lambda rows: metrics.icc31(np.stack([truth[rows].ravel(), predicted[rows].ravel()], 1)),
    }


def of_pairs(names: tuple[str, ...], predicted: F32) -> dict[str, Statistic]:
    """AU12 of real pairs, the neutral photos first: AUC, means, and what is seen at rest (0-5), of some
    people by their index; none without pairs."""
    if not len(predicted):
        return {}
    n = len(predicted) // 2
    smile = aus.MAX_INTENSITY * _unit(names, predicted, "AU12").max(1)
    rest = aus.MAX_INTENSITY * predicted[:n].mean(1)
    return {
        "AUC AU12": lambda rows: metrics.auc(smile[n:][rows], smile[:n][rows]),
        "AU12 neutral": lambda rows: float(smile[:n][rows].mean()),
        "AU12 smiling": lambda rows: float(smile[n:][rows].mean()),
        "neutral mean": lambda rows: float(rest[rows].mean()),
    }


def _unit(names: tuple[str, ...], au: F32, unit: str) -> F32:
    return au[:, [i for i, n in enumerate(names) if n[:4] == unit]]


def run(
    models: fitting.Models, all_spaces: Sequence[Space], faces: Faces, people: dict[str, list[Person]],
    plan: Plan, *, tell: Tell = lambda text: None,
) -> Page:  # fmt: skip
    """Every ablation.

    Args:
        models: M and E.
        all_spaces: of `spaces.spaces`.
        faces: to fit.
        people: for the similarity matrices, by what they are.
        plan: how much.
        tell: gets a line when a part begins.
    """
    page = Page(Report("Ablations of the fit"))
    page.report.about |= {"rendered faces": len(faces.crops), "real pairs": len(faces.neutral)}
    for title, group in people.items():
        tell(f"similarity of expressions, {title}")
        _similarity(page, title, group, all_spaces, models, plan.rounds)
    crops = np.concatenate([faces.crops, faces.neutral, faces.smiling])
    score = _Scores(page.report, faces, models.names, plan.rounds)
    _spaces(page, all_spaces, crops, models, plan, score, tell)
    tables = {
        "iterations": {str(n): replace(DEFAULT, iterations=n, mirror=False) for n in plan.iterations},
        "recipes": {name: RECIPES[name] for name in plan.recipes},
        "identity subspace": {
            f"{name}, {'with' if keep else 'without'}": replace(recipe, subspace=keep, mirror=False)
            for name, recipe in (("default", DEFAULT), ("paper", PAPER))
            for keep in (True, False)
        },
    }
    done: dict[Recipe, F32] = {}  # the tables share some of their recipes
    for title, recipes in tables.items():
        for name, recipe in recipes.items():
            if recipe not in done:
                tell(f"{title}: {name}")
                done[recipe] = fits.fit_all(crops, models, recipe).au
        pairs = {n: n.replace("without", "with") for n in recipes if n.endswith("without")}
        score.table(title, {name: done[recipe] for name, recipe in recipes.items()}, against=pairs or None)
    table = page.report.tables["iterations"]
    shown = [c for c in ("error", "neutral mean") if c in table]
    lines = [curves.Line(c, list(table[c])) for c in shown]
    page.pictures["iterations"] = curves.panel(
        lines, list(map(str, table.index)), title="default recipe without mirror, 0-5", across="iterations"
    )
    return page


@dataclass(frozen=True)
class _Scores:
    """Rows of a report from fitted units, rendered faces first, then neutral and smiling photos."""

    report: Report
    faces: Faces
    names: tuple[str, ...]
    rounds: int

    def table(
        self, title: str, fitted: Mapping[str, F32], *, more: Mapping[str, float] | None = None,
        against: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """A table with a row per fit `(B, A)`, and its errors with intervals among the figures.

        Differences between two fits are of the same faces, which tells fits apart that their own intervals
        do not. `more`: a further column by row; `against`: with which row a row is compared; all with the
        first when None.
        """
        n, rows = len(self.faces.crops), {}
        errors = {k: aus.MAX_INTENSITY * np.abs(self.faces.au - au[:n]).mean(1) for k, au in fitted.items()}
        pairs = dict.fromkeys(list(fitted)[1:], next(iter(fitted))) if against is None else against
        for name, au in fitted.items():
            of = of_rendered(self.faces.au, au[:n]) | of_pairs(self.names, au[n:])
            rows[name] = {key: f(np.arange(self._count(key))) for key, f in of.items()}
            rows[name] |= {"loss left": more[name]} if more else {}
            for key in ("error", "ICC", "AUC AU12", "neutral mean"):
                if key in of:
                    self._figure(title, f"{name}: {key}", key, of[key])
            if name in pairs:
                rise = errors[name] - errors[pairs[name]]
                self._figure(title, f"{name}: error above that of {pairs[name]}", "error",
                             lambda at, rise=rise: float(rise[at].mean()))  # type: ignore[misc]  # fmt: skip
        self.report.tables[title] = pd.DataFrame.from_dict(rows, orient="index")

    def _count(self, key: str) -> int:
        return len(self.faces.crops) if key in ("error", "ICC") else len(self.faces.neutral)

    def _figure(self, step: str, name: str, key: str, of: Statistic) -> None:
        n = self._count(key)
        low, high = metrics.interval(n, of, rounds=self.rounds) if n > 1 else (float("nan"),) * 2
        self.report.figures.append(Figure(step, name, of(np.arange(n)), n, low=low, high=high))


def _spaces(
    page: Page, all_spaces: Sequence[Space], crops: F32, models: fitting.Models, plan: Plan,
    score: _Scores, tell: Tell,
) -> None:  # fmt: skip
    """Fits by the features of each space alone, and some of the rendered faces that they end in."""
    recipe = replace(BY_FEATURES, iterations=plan.space_iterations)
    fitted: dict[str, Descent] = {}
    for space in all_spaces:
        tell(f"feature space: {space.name}")
        fitted[space.name] = descend(space, crops, models, recipe)
    left = {name: float(r.trace[-1].mean() / r.trace[0].mean()) for name, r in fitted.items()}
    score.table("feature spaces", {name: r.au for name, r in fitted.items()}, more=left)
    page.report.about["feature spaces"] = (
        f"{recipe.iterations} steps of Adam by the features alone, from the base face"
    )
    missing = left_out(all_spaces)
    if missing:
        page.report.about["feature spaces left out"] = f"{missing}: no weights were named"
    n = len(score.faces.crops)
    chosen = np.unique(np.linspace(0, n - 1, min(n, 3)).astype(int))
    strips = [[warp.picture(crops[i]), *(warp.picture(r.image[i]) for r in fitted.values())] for i in chosen]
    heads = ["render", *(name.removeprefix("E's network, ") for name in fitted)]  # no wider than a face
    page.pictures["faces fitted in each space"] = curves.faces(strips, heads, side=96)


def _similarity(
    page: Page, title: str, group: Sequence[Person], all_spaces: Sequence[Space], models: fitting.Models,
    rounds: int,
) -> None:  # fmt: skip
    rows: dict[str, dict[str, Any]] = {}
    panels = []
    names = group[0].names
    for space in all_spaces:
        values = similarity.matrices(space, group, models)
        share = similarity.on_diagonal(values)
        level = values / np.maximum(values.mean((-2, -1), keepdims=True), 1e-12)
        diagonal = level[:, np.arange(len(names)), np.arange(len(names))]
        rows[space.name] = {
            "rows with the minimum on the diagonal": share,
            "by chance": 1 / len(names),
            "diagonal over all": float(diagonal.mean()),
        }
        n = len(values)
        low, high = (
            metrics.interval(n, lambda at, v=values: similarity.on_diagonal(v[at]), rounds=rounds)  # type: ignore[misc]
            if n > 1 else (float("nan"),) * 2
        )  # fmt: skip
        name = f"{space.name}: rows with the minimum on the diagonal"
        page.report.figures.append(Figure(f"similarity, {title}", name, share, n, low=low, high=high))
        cell = 34 if len(names) > 2 else 70
        shown = similarity.shown(values)
        text = f"{space.name}: {100 * share:.0f} %"
        panels.append(
            [curves.matrix(shown, names, title=text, scheme=s, cell=cell) for s in ("jet", "viridis")]
        )
    page.report.tables[f"similarity of expressions, {title}"] = pd.DataFrame.from_dict(rows, orient="index")
    for column, scheme in enumerate(("JET", "viridis")):
        page.pictures[f"similarity, {title}, {scheme}"] = curves.grid([p[column] for p in panels], columns=3)
