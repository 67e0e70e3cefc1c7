"""What `biofm interpret` shows of models of images; see `interpretation`."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import NearestNeighbors

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.data.pictures import Picture
from biofm_jax.errors import UserError
from biofm_jax.evaluate.task import Dataset, Task
from biofm_jax.experiment import load_run
from biofm_jax.interpret.gradients import points_inside
from biofm_jax.interpret.images import (
    Maps,
    attention_maps,
    gradient_maps,
    over_patches,
    pooled_vector,
    read_image,
    read_mask,
)
from biofm_jax.interpret.reconstruction import reconstruct
from biofm_jax.models.masked_autoencoder import MaskedAutoencoderSpec
from biofm_jax.models.vision import VisionSpec

KINDS = ("rollout", "gradients", "pointing", "neighbours", "reconstruction")
FITTED = 2000  # training items that a readout is fitted to, and neighbours are looked for among
QUERIES, NEAREST = 4, 4  # rows and columns of a panel of neighbours
JUDGED = 1000  # test items whose neighbours are counted
POINTED = 50  # items of a pointing game
DRAWN = 4  # images of a panel of reconstructions


@dataclasses.dataclass(frozen=True)
class Made:
    """What a picture shows.

    Attributes:
        kind: a key of `interpret.records.KINDS`.
        title: what is shown.
        caption: how to read it.
        unit: of the values.
        arrays: what is drawn.
    """

    kind: str
    title: str
    caption: str
    unit: str
    arrays: dict[str, np.ndarray]


class ImageInterpreter:
    """Makes the pictures of one model of images."""

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        task: Task | None,
        data: Callable[[], Dataset],
        masks: Path | None,
        seed: int,
        steps: int,
    ):
        """Load nothing yet.

        Args:
            name: of the model, as `load_run` takes it.
            encoder: the model.
            task: whose labels are read out, or None.
            data: its data.
            masks: folder of masks, or None.
            seed: of a random model, and of what is drawn.
            steps: points of the integral of gradients.

        Raises:
            UserError: the folder of masks is none.
        """
        if masks is not None and not masks.is_dir():
            raise UserError(f"--masks {masks} is no folder; give one of PNG files named as images")
        self.name, self.encoder, self.task, self.masks = name, encoder, task, masks
        self.seed, self.steps, self._data = seed, steps, data

    @functools.cached_property
    def data(self) -> Dataset:
        """The task's data."""
        return self._data()

    def reason(self, kind: str) -> str:
        """Why a picture cannot be made; empty where it can."""
        spec = self.encoder.reader().spec
        if kind in ("rollout", "pointing") and not isinstance(spec, VisionSpec):
            return "it is no vision transformer, and has no attention"
        if kind in ("rollout", "gradients", "pointing") and len(self.encoder.data.image) != 2:
            return "it reads volumes, and maps are of flat images"
        if kind == "gradients" and self.task is None:
            return "without a task it has no output: give --task for a readout of its labels"
        if kind == "pointing" and (self.task is None or self.masks is None):
            return "it needs --task, whose images are looked at, and --masks FOLDER"
        if kind in ("neighbours", "embeddings") and self.task is None:
            return "it is of a task's items: give --task"
        if kind == "reconstruction":
            if not isinstance(self.encoder.spec, MaskedAutoencoderSpec):
                return "it is no masked autoencoder, and draws nothing"
            if self.task is None:
                return "it is of a task's items: give --task"
        return ""

    def make(self, kind: str, picture: str) -> Made:
        """One picture, of an image where its kind is of one."""
        if kind in ("rollout", "gradients"):
            return getattr(self, f"_{kind}")(picture)
        return getattr(self, f"_{kind}")()

    def chosen(self, count: int) -> list[int]:
        """Numbers of test items, in an order drawn from the seed."""
        order = np.random.default_rng(self.seed).permutation(len(self.data.tested))
        return order[:count].tolist()

    @functools.cached_property
    def untrained(self) -> "ImageInterpreter | None":
        """The same of the model with random parameters; None where these are the model's."""
        if self.encoder.params is None:
            return None
        control = self.encoder.control()
        return ImageInterpreter(
            self.name, control, self.task, lambda: self.data, self.masks, self.seed, self.steps
        )

    @functools.cached_property
    def learned_from(self) -> Labelled:
        """Training items of the first fold, some drawn from the seed where there are many.

        Of a file in the order of its classes the first ones would be of one class.
        """
        train = self.data.folds[0].train
        order = np.random.default_rng(self.seed).permutation(len(train))
        return self.data.part(train[np.sort(order[:FITTED])])

    @functools.cached_property
    def readouts(self) -> dict[float, tuple[np.ndarray, float]]:
        """For each class weights (d,) and a constant of a ridge regression of "is of this class".

        Of numbers there is one, under nan; of 0/1 labels that of 1.
        """
        train = self.learned_from
        known = ~np.isnan(train.targets[:, 0])
        labels = train.targets[known, 0]
        texts = [text for text, there in zip(train.texts, known) if there]
        features = self.encoder.features(self.seed)(texts).astype(np.float64)
        spread = features.std(0) + 1e-9
        wanted = {
            "number": {np.nan: labels},
            "binary": {1.0: labels},
            "class": {value: (labels == value).astype(float) for value in np.unique(labels)},
        }[self.task.kind]
        found = {}
        for value, target in wanted.items():
            ridge = RidgeCV(np.logspace(-2, 6, 17)).fit(features / spread, target)
            found[value] = (ridge.coef_ / spread, float(ridge.intercept_))
        return found

    def _class(self, value: float) -> str:
        names = self.data.classes
        return names[int(value)] if names and not np.isnan(value) else self.data.columns[0]

    def _read_out(self, image: np.ndarray) -> tuple[str, np.ndarray]:
        """What is explained, the class whose readout is highest, and the readout's weights."""
        vector = pooled_vector(self.encoder, image, self.seed)
        scores = {value: vector @ w + b for value, (w, b) in self.readouts.items()}
        best = max(scores, key=scores.get)
        return self._class(best), self.readouts[best][0]

    def _label(self, picture: str) -> str:
        """What the task says of a picture, for a title."""
        if self.task is None or picture not in self.data.items.texts:
            return ""
        row = self.data.items.texts.index(picture)
        value = self.data.items.targets[row, 0]
        return f", labelled {self._class(value)}" if self.data.classes else f", labelled {value:g}"

    def _arrays(self, maps: Maps, picture: str) -> dict[str, np.ndarray]:
        arrays = {"image": maps.image, "maps": np.stack(list(maps.values.values()))}
        arrays["names"] = np.array(list(maps.values))
        if self.masks is not None:
            mask = read_mask(self.encoder.data, picture, self.masks)
            if mask is not None:
                arrays["mask"] = mask
        return arrays

    def _rollout(self, picture: str) -> Made:
        maps = attention_maps(self.encoder, read_image(self.encoder, picture), self.seed)
        reads = "class token" if self.encoder.reader().spec.pooling == "first" else "mean state"
        return Made(
            "maps",
            f"Attention of {short(picture)}{self._label(picture)}",
            f"Which patches the {reads} draws on: through all layers (rollout), and in the last "
            "block alone, the mean over heads. A model of the flow of information, not of "
            "influence on an output." + self._outlined(picture),
            "share of attention",
            self._arrays(maps, picture),
        )

    def _gradients(self, picture: str) -> Made:
        image = read_image(self.encoder, picture)
        what, weights = self._read_out(image)
        maps = gradient_maps(self.encoder, image, weights, self.seed, self.steps)
        total = maps.values["integrated gradients"].sum()
        control = ""
        if self.untrained is not None:
            _, other = self.untrained._read_out(image)
            plain = gradient_maps(self.untrained.encoder, image, other, self.seed, steps=0)
            rank = spearmanr(*(m.values["gradient"].ravel() for m in (maps, plain))).statistic
            control = (
                f" Rank correlation of the gradient's sizes with those of the untrained model: "
                f"{rank:.2f}; near 1 they would show the network's build, not what it learned "
                "(Adebayo et al. 2018)."
            )
        return Made(
            "maps",
            f"Gradients of {short(picture)}{self._label(picture)}",
            f"Which pixels move a linear readout of {what} on the frozen features: the size of the "
            "gradient; gradient times input and integrated gradients against the model's mean "
            f"colour, where red raises the output. The last sum to {total:.4g}, "
            f"{abs(maps.gap):.1g} from the difference of outputs."
            + control
            + self._outlined(picture),
            "attribution",
            self._arrays(maps, picture),
        )

    def _outlined(self, picture: str) -> str:
        if self.masks is None or read_mask(self.encoder.data, picture, self.masks) is None:
            return ""
        return " The mask is outlined in green."

    def pointed(self) -> tuple[dict[str, list[float]], list[float]]:
        """How far each map's highest place lies in the mask, and the masks' shares of images.

        Raises:
            UserError: no mask is of a test image.
        """
        hits: dict[str, list[float]] = {}
        areas: list[float] = []
        tested = self.data.tested.texts
        for number in self.chosen(len(tested)):
            if len(areas) == POINTED:
                break
            mask = read_mask(self.encoder.data, tested[number], self.masks)
            if mask is None:
                continue
            image = read_image(self.encoder, tested[number])
            found = dict(attention_maps(self.encoder, image, self.seed).values)
            _, weights = self._read_out(image)
            slopes = gradient_maps(self.encoder, image, weights, self.seed, steps=0).values
            patch = self.encoder.reader().spec.patch
            found |= slopes
            found |= {f"{n}, by patch": over_patches(v, patch) for n, v in slopes.items()}
            for name, values in found.items():
                hits.setdefault(name, []).append(points_inside(np.abs(values), mask))
            areas.append(float(mask.mean()))
        if not areas:
            raise UserError(
                f"--masks {self.masks}: no mask is named as a test image of {self.task.name}, such "
                f"as {Picture(tested[0]).file.with_suffix('.png').name}, or all are empty"
            )
        return hits, areas

    def _pointing(self) -> Made:
        hits, areas = self.pointed()
        arrays = {
            "names": np.array(list(hits)),
            "hits": np.array(list(hits.values())),
            "areas": np.array(areas),
        }
        if self.untrained is not None:
            arrays["untrained"] = np.array(list(self.untrained.pointed()[0].values()))
        return Made(
            "pointing",
            f"Pointing game on {len(areas)} test images of {self.task.name}",
            "How often the place with the highest value lies in the mask (Zhang et al. 2018), with "
            "a 95 % interval; dashed: the mask's mean share of an image, which a place at random "
            "reaches. Of a patch, the share of it that lies in the mask counts; by patch, sizes "
            "are added up over each. Untrained: the same model with random parameters, which a map "
            "must beat to show what was learned.",
            "share",
            arrays,
        )

    def _neighbours(self) -> Made:
        fold = self.data.folds[0]
        gallery, tested = self.learned_from, self.data.part(fold.test)
        order = np.random.default_rng(self.seed).permutation(len(tested))
        queries = tested.at(order[:JUDGED])
        features = self.encoder.features(self.seed)
        search = NearestNeighbors(n_neighbors=min(NEAREST, len(gallery)), metric="cosine")
        search.fit(features(gallery.texts))
        distance, places = search.kneighbors(features(queries.texts))
        alike = gallery.targets[places, 0] == queries.targets[:, :1]
        chance = np.mean([(gallery.targets[:, 0] == y).mean() for y in queries.targets[:, 0]])
        shown = min(QUERIES, len(queries))

        def panel(texts: Sequence[str]) -> np.ndarray:
            return np.stack([read_image(self.encoder, text) for text in texts])

        def named(values: np.ndarray) -> np.ndarray:
            several = bool(self.data.classes)
            flat = [self._class(v) if several else f"{v:g}" for v in values.reshape(-1)]
            return np.array(flat).reshape(values.shape)

        near = places[:shown]
        return Made(
            "neighbours",
            f"Nearest training images of {shown} test images of {self.task.name}",
            "By the cosine of frozen features, the nearest first; green titles: the label is the "
            f"query's. Of the {places.shape[1]} nearest of {len(queries):,} test images "
            f"{alike.mean():.1%} have the query's label, by chance {chance:.1%}.",
            "cosine",
            {
                "queries": panel(queries.texts[:shown]),
                "found": np.stack([panel([gallery.texts[i] for i in row]) for row in near]),
                "query_labels": named(queries.targets[:shown, 0]),
                "found_labels": named(gallery.targets[near, 0]),
                "similarity": 1 - distance[:shown],
            },
        )

    def _reconstruction(self) -> Made:
        objective = load_run(self.name).experiment.objective
        tested = self.data.tested.texts
        texts = [tested[number] for number in self.chosen(DRAWN)]
        images = np.stack([example.pixels for example in self.encoder.tokenize(texts)])
        params = self.encoder.params_for(self.seed)
        drawn = reconstruct(self.encoder.spec, params, objective, images, self.seed)
        put_back = ""
        if objective.normalise:
            put_back = (
                "Each hidden patch's mean and deviation are put back, since the model draws "
                "normalised pixels. "
            )
        return Made(
            "reconstruction",
            f"Reconstructions of test images of {self.task.name}",
            f"{objective.rate:.0%} of the patches are hidden. {put_back}The squared error of "
            f"hidden pixels is {drawn.error:.3f} of the images' variance; the mean colour of each "
            f"hidden patch gives {drawn.blank:.3f}.",
            "",
            {"images": drawn.images, "shown": drawn.shown, "drawn": drawn.drawn},
        )


def short(picture: str) -> str:
    """The name of a picture without its folders."""
    return str(picture).rpartition("/")[2] if "#" not in picture else picture.partition("#")[2]
