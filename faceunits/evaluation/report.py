"""All figures of a pair of networks on one page, each beside its bar, with intervals by person.

`fit` runs the steps of `fits` one after the other and tells of each as soon as it is done, so that an
interrupted run has not been in vain; `contrast` compares neutral and smiling photos of any folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from faceunits import fitting
from faceunits.alignment import detect, warp
from faceunits.errors import InputError
from faceunits.evaluation import fits, metrics, photos, subjects
from faceunits.evaluation.crops import of_reading, read_beside
from faceunits.fitting.optimise import Recipe
from faceunits.io import image as images
from faceunits.io.files import make_folder, printable, replacing

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Tell = Callable[["Figure"], None]


@dataclass(frozen=True)
class Figure:
    """One number: `value` with its 95 % interval `low`..`high` where people were drawn again.

    `bar`: what it must reach, from below when `falling`; `peer`: the better of OpenFace and MediaPipe's
    blend shapes on the same photos; `n`: faces or people.
    """

    step: str
    name: str
    value: float
    n: int
    bar: float | None = None
    falling: bool = False
    low: float | None = None
    high: float | None = None
    peer: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached; None without a bar; an undefined value reaches none."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.falling else self.value >= self.bar

    def line(self) -> str:
        """One line for a log."""
        text = f"{self.step}: {self.name} {_number(self.value)}"
        if self.low is not None:
            text += f" [{_number(self.low)}, {_number(self.high)}]"
        return text + (
            f" (bar {self._bar()}, {'met' if self.met else 'missed'})" if self.bar is not None else ""
        )

    def _bar(self) -> str:
        return "" if self.bar is None else f"{'<=' if self.falling else '>='} {self.bar:g}"


@dataclass
class Report:
    """Figures, tables and what they were made with; grows as the steps are done."""

    title: str
    about: dict[str, Any] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    def markdown(self) -> str:
        """The page."""
        lines = [f"# {self.title}", ""]
        lines += [f"- {key}: {value}" for key, value in self.about.items()]
        lines += ["", "| step | figure | value | 95 % interval | bar | met | peers | n |",
                  "|---|---|---|---|---|---|---|---|"]  # fmt: skip
        for f in self.figures:
            interval = "" if f.low is None else f"{_number(f.low)} .. {_number(f.high)}"
            met = {None: "", True: "yes", False: "no"}[f.met]
            peer = "" if f.peer is None else f"{f.peer:g}"
            cells = (f.step, f.name, _number(f.value), interval, f._bar(), met, peer, str(f.n))
            lines.append("| " + " | ".join(cells) + " |")
        for name, table in self.tables.items():
            heads = ["", *map(str, table.columns)]
            lines += ["", f"## {name}", "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
            for key, row in table.iterrows():
                lines.append("| " + " | ".join([str(key), *(_number(v) for v in row)]) + " |")
        return "\n".join(lines) + "\n"

    def values(self) -> dict[str, Any]:
        """The same for programs; undefined numbers are null."""
        return {
            "title": self.title,
            "about": self.about,
            "figures": [{k: _json(v) for k, v in asdict(f).items()} | {"met": f.met} for f in self.figures],
            "tables": {
                name: {str(k): {c: _json(v) for c, v in row.items()} for k, row in table.iterrows()}
                for name, table in self.tables.items()
            },
        }

    def write(self, folder: str | Path, name: str) -> list[Path]:
        """`name.md` and `name.json` in a folder, each whole or not at all; makes the folder.

        Raises:
            InputError: a place that cannot be written to.
        """
        place = make_folder(folder)
        texts = {".md": self.markdown(), ".json": json.dumps(self.values(), indent=2, allow_nan=False) + "\n"}
        paths = [place / (name + ending) for ending in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return paths


def _number(value: Any) -> str:
    return "undefined" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _json(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return round(float(value), 5) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


PAIRS: dict[str, tuple[float | None, bool, float | None]] = {
    "AU12": (0.96, False, 0.96), "AU6": (0.88, False, 0.99), "AU6 hard": (None, False, 0.93),
    "AU25": (0.95, False, 0.98), "AU25 hard": (None, False, 0.96), "Spearman AU12": (0.80, False, 0.84),
    "neutral mean": (0.20, True, 0.20), "neutral mean, worst unit": (0.35, True, None),
    "share > 1": (0.05, True, 0.05), "mirror ICC": (0.95, False, 0.93),
}  # fmt: skip
"""Of each figure of neutral/smiling pairs: its bar, whether lower is better, and the better peer's value
where it is known."""


def fit(
    models: fitting.Models, recipe: str | Recipe, *, plain: str | Path, varied: str | Path, faces: str | Path,
    count: int = 200, detector: Any = None, report: Report | None = None, tell: Tell = lambda figure: None,
) -> Report:  # fmt: skip
    """Every figure of a fit.

    Args:
        models: of `fitting.load`.
        recipe: by name, or settings.
        plain: shard of plain renders kept for testing.
        varied: shard of varied renders kept for testing.
        faces: folder with `london` and `canada`.
        count: faces of the closed loop and of each shard.
        detector: finds the faces of the London photos; the built-in one when None.
        report: is filled; a new one when None.
        tell: gets each figure when its step is done.
    """
    page = report or Report("How well a fit measures")
    # what can be wrong with the arguments comes out before the long steps
    shards = {"plain": fits.read_shard(plain, count), "varied": fits.read_shard(varied, count)}
    for name, path in (("plain", plain), ("varied", varied)):
        shards[name] = fits.checked(shards[name], path, models)

    def add(figures: list[Figure]) -> None:
        page.figures += figures
        for figure in figures:
            tell(figure)

    add(_generator(models, shards["plain"]))
    add(_extractor(models, faces))
    pairs = fits.london(faces, models.crop_size, which="all", detector=detector)
    add([_time(models, recipe, pairs.neutral)])
    add(_london(models, recipe, pairs))
    add(_canada(models, recipe, fits.canada(faces, models.crop_size, detector=detector)))
    for step, bar, table in _recovered(models, recipe, shards, count):
        page.tables[step] = table
        defined = table["icc"].dropna()
        mean = float(defined.mean()) if len(defined) else float("nan")
        add([Figure(step, f"mean ICC(3,1) of {len(defined)} parameters", mean, count, bar)])
    return page


def _recovered(
    models: fitting.Models, recipe: str | Recipe, shards: dict[str, dict[str, NDArray[Any]]], count: int
) -> Iterator[tuple[str, float, pd.DataFrame]]:
    yield "closed loop", 0.90, fits.closed_loop(models, recipe, count=count)
    yield "plain renders", 0.80, fits.renders(models, recipe, shards["plain"])
    yield "varied renders", 0.60, fits.renders(models, recipe, shards["varied"])


def _generator(models: fitting.Models, shard: dict[str, NDArray[Any]]) -> list[Figure]:
    """M on unseen parameters."""
    got, n = fits.generator_error(models, shard), len(shard["image"])
    rest = [
        Figure("M", f"F1 {k}", v, n) for k, v in got.items() if k not in ("mean absolute error", "mean F1")
    ]
    return [
        Figure("M", "mean absolute error", got["mean absolute error"], n, 0.03, True),
        Figure("M", "class agreement of E, mean F1", got["mean F1"], n, 0.85), *rest,
    ]  # fmt: skip


def drawn_crops(faces: str | Path, size: int) -> tuple[F32, NDArray[np.uint8]]:
    """Crops `(N, 3, S, S)` and drawn label maps `(N, S, S)` of the kept-out people's neutral portraits."""
    from faceunits.training import people

    crops, labels = [], []
    for person in people.people(faces, "test"):
        if person.neutral:
            matrix = warp.similarity(person.points[None], size)[0]
            crops.append(warp.crop(person.image, matrix, size))
            labels.append(people.crop_label(person.label, matrix.astype(np.float32), size))
    if not crops:
        raise InputError(f"expected the london or canada portraits of kept-out people in {faces}; found none")
    return np.stack(crops), np.stack(labels)


def _extractor(models: fitting.Models, faces: str | Path) -> list[Figure]:
    """E on real people kept out, with intervals by person."""
    crops, labels = drawn_crops(faces, models.networks.generator.config.size)
    seen = fits.parse(models, crops)
    groups = metrics.FACE_GROUPS
    masks = [(np.isin(seen, c), np.isin(labels, c)) for c in groups.values()]
    both = np.array([(a & b).sum((1, 2)) for a, b in masks])  # G, N
    total = np.array([a.sum((1, 2)) + b.sum((1, 2)) for a, b in masks])

    def f1(rows: I64) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = 2 * both[:, rows].sum(1) / np.maximum(total[:, rows].sum(1), 1)
        return scores

    n = len(crops)
    everyone = f1(np.arange(n))
    low, high = metrics.interval(n, lambda rows: float(f1(rows).mean()))
    parts = []
    for k, name in enumerate(groups):
        a, b = metrics.interval(n, lambda rows, k=k: float(f1(rows)[k]))  # type: ignore[misc]
        parts.append(Figure("E, people kept out", f"F1 {name}", float(everyone[k]), n, low=a, high=b))
    mean = Figure("E, people kept out", "mean F1", float(everyone.mean()), n, 0.85, low=low, high=high)
    return [mean, *parts]


def _time(models: fitting.Models, recipe: str | Recipe, crops: F32) -> Figure:
    seconds = fits.seconds_per_face(models, recipe, crops[:8])
    name = f"seconds per face, batch of 8, {torch.get_num_threads()} threads"
    return Figure("time", name, seconds, min(8, len(crops)), 1.5, True)


@dataclass(frozen=True)
class Fitted:
    """Fits of neutral and smiling photos of the same people, and of their mirror images.

    `columns` `(2 N, ...)` of the table, `straight` `(2 N, A)` and `turned`, its sides swapped back, hold
    the neutral faces first, then the smiles; `labels` one row per person.
    """

    labels: pd.DataFrame
    columns: pd.DataFrame
    straight: F32
    turned: F32

    def figures(self, rows: I64) -> dict[str, float]:
        """Figures of the people of `rows`, who may occur more than once."""
        n = len(self.labels)
        labels = self.labels.iloc[rows].reset_index(drop=True)
        out = fits.contrast(self.columns.iloc[rows], self.columns.iloc[n + rows], labels)
        both = np.concatenate([rows, n + rows])
        icc = metrics.icc_columns(self.straight[both], self.turned[both])
        return out | {"mirror ICC": float(np.nanmean(icc)) if np.isfinite(icc).any() else float("nan")}


def fit_pairs(
    models: fitting.Models, recipe: str | Recipe, neutral: F32, smiling: F32, labels: pd.DataFrame
) -> Fitted:
    """Fits of crops `(N, 3, S, S)` and of their mirror images."""
    crops = np.concatenate([neutral, smiling])
    straight = fits.fit_all(crops, models, recipe)
    turned = fits.fit_all(np.ascontiguousarray(crops[..., ::-1]), models, recipe)
    return Fitted(labels, of_reading(straight), straight.au, turned.au[:, models.profile.mirror()])


def _london(models: fitting.Models, recipe: str | Recipe, pairs: fits.Pairs) -> list[Figure]:
    """The pairs of the people kept out, and of all."""
    fitted = fit_pairs(models, recipe, pairs.neutral, pairs.smiling, pairs.labels)
    out = np.flatnonzero([photos.is_kept_out("london", i) for i in pairs.ids])
    # the peers were measured on all sixty
    figures = [
        *(replace(f, peer=None) for f in pair_figures("London, people kept out", fitted, out)),
        *pair_figures("London, all", fitted, np.arange(len(pairs.ids))),
    ]
    if recipe == "fast" and models.comparison is not None:
        figures += [replace(f, peer=None) for f in _beside_rest(models, pairs, out)]
    return figures


SMILES = ("AU6 hard", "AU25 hard", "Spearman AU12")
"""Figures that compare smiles with smiles: a neutral face beside itself shows nothing."""


def _beside_rest(models: fitting.Models, pairs: fits.Pairs, chosen: I64) -> list[Figure]:
    """Smiles of the people `chosen`, each read beside the same person's neutral photo."""
    columns = of_reading(read_beside(pairs.smiling[chosen], pairs.neutral[chosen], models))
    labels = pairs.labels.iloc[chosen].reset_index(drop=True)

    def smiles(rows: I64) -> dict[str, float]:
        some = columns.iloc[rows]
        figures = fits.contrast(some, some, labels.iloc[rows].reset_index(drop=True))
        return {name: figures[name] for name in SMILES}

    return drawn_again("London, people kept out, beside their rest", smiles, len(chosen))


def _canada(models: fitting.Models, recipe: str | Recipe, crops: F32) -> list[Figure]:
    """False alarms on the neutral faces of another set."""
    columns = of_reading(fits.fit_all(crops, models, recipe))

    def rest(rows: I64) -> dict[str, float]:
        return fits.at_rest(columns.iloc[rows])

    # the peers were measured on London's photos
    return [replace(f, peer=None) for f in drawn_again("Canada, people kept out", rest, len(crops))]


def pair_figures(step: str, fitted: Fitted, chosen: I64, *, rounds: int = 1000) -> list[Figure]:
    """Figures of pairs with 95 % intervals over the people `chosen`."""
    return drawn_again(step, lambda rows: fitted.figures(chosen[rows]), len(chosen), rounds=rounds)


def drawn_again(
    step: str, figures_of: Callable[[I64], dict[str, float]], n: int, *, rounds: int = 1000
) -> list[Figure]:
    """What `figures_of` says of `n` people, under names of `PAIRS`, with 95 % intervals over them."""
    known: dict[bytes, dict[str, float]] = {}

    def of(rows: I64) -> dict[str, float]:
        # every figure is asked about the same draws of people
        key = rows.tobytes()
        if key not in known:
            known[key] = figures_of(rows)
        return known[key]

    figures, values = [], of(np.arange(n))
    for name, (bar, falling, peer) in PAIRS.items():
        if name not in values:
            continue
        low, high = metrics.interval(n, lambda rows, name=name: of(rows)[name], rounds=rounds)  # type: ignore[misc]
        figures.append(Figure(step, name, values[name], n, bar, falling, low, high, peer))
    return figures


def contrast(
    models: fitting.Models,
    recipe: str | Recipe,
    folder: str | Path,
    *,
    detector: Any = None,
    rounds: int = 1000,
) -> Report:
    """Neutral against smiling photos of the same people: `neutral/NAME.*` and `smiling/NAME.*`.

    With `contrast_labels.csv` (columns as in the London set) the figures of `fits.contrast`; in any case
    how well each column tells the two folders apart. Who has no face in both is left out and counted.

    Raises:
        InputError: folders that are missing or share no names.
    """
    root = Path(folder)
    found = {kind: {p.stem: p for p in images.find([root / kind])} for kind in ("neutral", "smiling")}
    names = sorted(found["neutral"].keys() & found["smiling"].keys())
    labels = _labels(root / "contrast_labels.csv", names)
    finder = detector or detect.Detector()
    pairs = {n: [_crop(found[kind][n], models.crop_size, finder) for kind in found] for n in names}
    crops = {n: [c for c in both if c is not None] for n, both in pairs.items()}
    ids = [n for n in names if len(crops[n]) == 2]
    if not ids:
        raise InputError(
            f"expected photos of the same names, with faces, in neutral and smiling of {printable(root)}; "
            f"found {len(names)} common names and nobody with a face in both"
        )
    page = Report("Neutral against smiling photos")
    page.about |= {
        "people": len(ids), "without a face in both photos": len(names) - len(ids),
        "photos without a partner in the other folder, left out": len(
            found["neutral"].keys() ^ found["smiling"].keys()
        ),
    }  # fmt: skip
    if labels is None:
        page.about["labels"] = "none: every smile is taken to show AU6, AU12 and AU25"
        labels = pd.DataFrame({"AU12": 1, "AU6": 1, "AU25": 1, "AU12_intensity": 0}, index=names)
    neutral, smiling = (np.stack([crops[i][k] for i in ids]) for k in (0, 1))
    fitted = fit_pairs(models, recipe, neutral, smiling, labels.loc[ids].reset_index())
    n = len(ids)
    page.tables["columns"] = apart(fitted.columns.iloc[:n], fitted.columns.iloc[n:])
    figures = pair_figures("pairs", fitted, np.arange(n), rounds=rounds)
    # bars and peers hold for the London photos only
    page.figures = [replace(f, bar=None, peer=None) for f in figures if np.isfinite(f.value)]
    return page


def _labels(path: Path, names: list[str]) -> pd.DataFrame | None:
    """Labels by name, if there is such a file."""
    if not path.exists():
        return None
    labels = subjects.read_labels(path)
    wanted = {"AU12", "AU6", "AU25", "AU12_intensity"}
    if not wanted <= set(labels):
        raise InputError(
            f"expected the columns id, {', '.join(sorted(wanted))} in {printable(path)}; got "
            f"{', '.join(map(str, labels))}"
        )
    unknown = [n for n in names if n not in labels.index]
    if unknown:
        raise InputError(f"expected a row for {unknown[0]} in {printable(path)}; there is none; add it")
    return labels


def _crop(path: Path, size: int, finder: Any) -> F32 | None:
    """The crop of a photo's best face; None without one, or where the file cannot be read."""
    try:
        return fits.face_of(path, size, finder)
    except InputError:
        return None


def apart(neutral: pd.DataFrame, smiling: pd.DataFrame) -> pd.DataFrame:
    """Per column: means (0-5), AUC of smiling against neutral, share of people whose smile has more."""
    n, s = neutral.to_numpy(), smiling.to_numpy()
    auc = [metrics.auc(b, a) for a, b in zip(n.T, s.T, strict=True)]
    more = np.mean((s > n) + 0.5 * (s == n), 0)
    rows = {"neutral": n.mean(0), "smiling": s.mean(0), "AUC": auc, "smile has more": more}
    return pd.DataFrame(rows, index=[str(c).removesuffix("_r") for c in neutral.columns])
