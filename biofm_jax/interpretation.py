"""`biofm interpret`: why a model says what it says, as files that `biofm report` draws."""

import dataclasses
import functools
import hashlib
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np
import tyro
from sklearn.linear_model import RidgeCV

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.marginals import Marginals
from biofm_jax.adapt.probe import probe_adapter
from biofm_jax.data.pictures import Picture
from biofm_jax.data.structures import read_chains
from biofm_jax.errors import UserError
from biofm_jax.evaluate.contact_maps import contact_result
from biofm_jax.evaluate.provenance import code_commit
from biofm_jax.evaluate.results import slug
from biofm_jax.evaluate.task import Dataset, Task, get_task
from biofm_jax.experiment import load_encoder
from biofm_jax.interpret.attention import contact_map, rollout
from biofm_jax.interpret.contacts import (
    ContactHead,
    predict_contacts,
    published_contact_head,
)
from biofm_jax.interpret.embedding_map import Projection, embedding_map
from biofm_jax.interpret.mutagenesis import mutagenesis
from biofm_jax.interpret.records import Interpretation, write_interpretation
from biofm_jax.interpret.tokens import (
    attentions_of,
    log_likelihood,
    read_text,
    token_attributions,
)
from biofm_jax.interpretation_images import KINDS as IMAGE_KINDS
from biofm_jax.interpretation_images import ImageInterpreter
from biofm_jax.interpretation_reasons import ALPHABETS, REASONS, of_images, speaks
from biofm_jax.zoo.store import is_stored, load_stored

Kind = Literal["rollout", "contacts", "mutagenesis", "gradients", "embeddings", "pointing",
               "neighbours", "reconstruction"]  # fmt: skip
FITTED = 2000  # training items that a probe or readout is fitted to: enough for a picture
MAPPED = 3000  # test items of a map


@dataclasses.dataclass(frozen=True)
class Interpret:
    """Show what a model attends to, what it reacts to and how it groups things.

    Attributes:
        model: folder of a finished run, FOLDER@best, or random:EXPERIMENT.py.
        text: sequences, SMILES or files of images to explain.
        task: explain this task's wild type or first test items, by a linear readout of its
            labels too, and map its test items.
        show: rollout (attention through all layers), contacts (coupled residues), mutagenesis
            (every substitution), gradients (integrated gradients by token), embeddings (a map);
            of images rollout and gradients by pixel, pointing (whether they fall into masks),
            neighbours (the nearest training images), reconstruction (what a masked autoencoder
            draws), embeddings; by default all that the input allows.
        items: test items of a task to explain.
        chains: folder of proteins of known structure ($BIOFM_DATA/compbio/pdb_chains): contacts
            become probabilities by a regression fitted to 20 of them, or by the published one of
            an imported ESM model, with its precision on the others.
        masks: of images, folder of masks named as the images, .png ($BIOFM_DATA/imaging/retina_hrf/
            masks): outlined in maps, and what the pointing game asks for.
        projection: of the map of embeddings: pca, or umap (extra umap).
        steps: points of the integral of gradients.
        seed: of a random model, and of the map.
        out: folder for the files; `biofm report` draws them.
        dry_run: show what would be made.
        json: print JSON instead of a table.
    """

    model: tyro.conf.Positional[str]
    text: tuple[str, ...] = ()
    task: str | None = None
    show: tuple[Kind, ...] = ()
    items: int = 1
    chains: Path | None = None
    masks: Path | None = None
    projection: Projection = "pca"
    steps: int = 64
    seed: int = 0
    out: Path = Path("results")
    dry_run: bool = False
    json: bool = False


@dataclasses.dataclass(frozen=True)
class Piece:
    """One interpretation to make.

    Attributes:
        kind: of the picture.
        text: that is explained; empty for a map.
        readout: by what: "model", or "probe" for a linear readout of the task's labels.
    """

    kind: str
    text: str
    readout: str = "model"


class Interpreter:
    """Makes the pieces of one model."""

    def __init__(self, options: Interpret):
        """Load model and task.

        Raises:
            UserError: neither text nor task, no such model or task, or a task of another
                modality.
        """
        if not options.text and options.task is None:
            raise UserError("there is nothing to explain: give --text SEQUENCE or --task TASK")
        self.options = options
        self.encoder: Encoder = load_encoder(options.model)
        self.task: Task | None = None if options.task is None else get_task(options.task)
        if options.chains is not None and self.encoder.data.kind != "protein":
            raise UserError(f"--chains is for models of proteins; {options.model} is none")
        self.images: ImageInterpreter | None = None
        if self.encoder.reads_images:
            given = options.masks, options.seed, options.steps
            self.images = ImageInterpreter(
                options.model, self.encoder, self.task, lambda: self.data, *given
            )
        elif options.masks is not None:
            raise UserError(f"--masks is for models of images; {options.model} is none")
        if self.task is not None and self.task.modality != self.encoder.data.kind:
            raise UserError(
                f"{self.task.name} is a task of {self.task.modality} models; {options.model} "
                f"reads {self.encoder.data.kind}"
            )
        if self.task is not None and self.task.kind == "residue":
            raise UserError(
                f"{self.task.name} has a label for every residue, and a picture is of one label of "
                "a sequence: give --text SEQUENCE alone"
            )

    @functools.cached_property
    def data(self) -> Dataset:
        """The task's data."""
        return self.task.data(None)

    @functools.cached_property
    def contact_head(self) -> tuple[ContactHead | None, str]:
        """The regression from attention to contacts, and what it reaches, for a caption."""
        folder, head, said = Path(self.options.model), None, ""
        if is_stored(folder):
            head = published_contact_head(load_stored(folder).left_out())
        if self.options.chains is not None:
            chains, seed = read_chains(self.options.chains), self.options.seed
            result = contact_result(self.encoder, chains, head, seed)
            head = result.head
            reached = ", ".join(f"{name} {v:.3f}" for name, v in result.precision.items())
            said = (
                f" Precision on {len(result.tested)} other chains, pairs 24 residues apart: "
                f"{reached}; a random order {result.random:.3f}."
            )
            if not head.weights.any():
                said += " No attention head tells contacts: all weights are 0, all pairs alike."
        return head, said

    def pieces(self) -> list[Piece]:
        """What is to be made, in order.

        Raises:
            UserError: a kind was asked for that model or input do not allow; it says why.
        """
        if self.images is not None:
            return self._image_pieces(self.images)
        texts = list(self.options.text)
        if self.task is not None:
            wild, tested = self.data.wild_type, self.data.tested.texts
            texts += [wild] if wild else list(tested[: self.options.items])
        pieces, refused = [], []
        for kind in self.options.show or tuple(REASONS):
            if reason := REASONS.get(kind, of_images)(self.encoder, self.task):
                refused.append(f"{kind} of {self.options.model}: {reason}")
                if self.options.show:
                    raise UserError(refused[0])
                continue
            if kind == "embeddings":
                pieces.append(Piece(kind, ""))
                continue
            readouts = [] if kind in ("mutagenesis", "gradients") else ["model"]
            if not readouts:
                readouts += ["model"] if speaks(self.encoder) else []
                readouts += ["probe"] if self.task is not None else []
            pieces += [Piece(kind, text, readout) for text in texts for readout in readouts]
        if not pieces:
            raise UserError("\n  ".join(["nothing can be shown", *refused]))
        return pieces

    def _image_pieces(self, images: ImageInterpreter) -> list[Piece]:
        """`pieces` of a model of images."""
        texts = [Picture(text) for text in self.options.text]
        if self.task is not None:
            tested = self.data.tested.texts
            texts += [tested[number] for number in images.chosen(self.options.items)]
        pieces, refused = [], []
        for kind in self.options.show or (*IMAGE_KINDS, "embeddings"):
            if kind not in (*IMAGE_KINDS, "embeddings"):
                raise UserError(f"{kind} of {self.options.model}: it is for sequences, not images")
            if reason := images.reason(kind):
                refused.append(f"{kind} of {self.options.model}: {reason}")
                if self.options.show:
                    raise UserError(refused[0])
            elif kind in ("rollout", "gradients"):
                readout = "probe" if kind == "gradients" else "model"
                pieces += [Piece(kind, text, readout) for text in texts]
            else:
                pieces.append(Piece(kind, ""))
        if not pieces:
            raise UserError("\n  ".join(["nothing can be shown", *refused]))
        return pieces

    def make(self, piece: Piece) -> Path:
        """Compute a piece and write it; returns its file."""
        kind = piece.kind
        if self.images is not None and kind in IMAGE_KINDS:
            made = self.images.make(kind, piece.text)
            kind, title, caption = made.kind, made.title, made.caption
            unit, arrays = made.unit, made.arrays
        else:
            title, caption, unit, arrays = _MAKERS[kind](self, piece)
        found = Interpretation(
            kind=kind,
            model=self.encoder.name,
            task=self.task.name if self.task else "",
            title=title,
            caption=caption,
            unit=unit,
            seed=self.options.seed,
            command=shlex.join(sys.argv),
            commit=code_commit(),
            arrays=arrays,
        )
        what = hashlib.sha256(f"{piece.text}{self.encoder.name}".encode()).hexdigest()[:8]
        where = slug(self.task.name) if self.task else "text"
        name = f"{where}.{slug(self.encoder.name)[-40:]}.{piece.kind}-{piece.readout}-{what}"
        return write_interpretation(found, self.options.out, name)

    @functools.cached_property
    def probe(self) -> Callable[[Sequence[str]], np.ndarray]:
        """Texts -> (n,) predictions of a probe that was fitted to the task's first label."""
        fold = self.data.folds[0]
        train, valid = self.data.part(fold.train[:FITTED]), self.data.part(fold.valid[:FITTED])
        adapter = probe_adapter(self.encoder.features_for_seeds(), self.task.kind)

        def predict(texts):
            names = tuple(map(str, range(len(texts))))
            missing = np.full((len(texts), train.targets.shape[1]), np.nan)
            test = Labelled(names, tuple(texts), missing)
            return adapter(train, valid, test, self.options.seed)[:, 0]

        return predict

    @functools.cached_property
    def readout(self) -> tuple[np.ndarray, float]:
        """(d,) weights and a constant of a ridge regression of the first label on features."""
        train = self.data.part(self.data.folds[0].train[:FITTED])
        known = ~np.isnan(train.targets[:, 0])
        texts = [text for text, there in zip(train.texts, known) if there]
        features = self.encoder.features(self.options.seed)(texts).astype(np.float64)
        spread = features.std(0) + 1e-9
        fitted = RidgeCV(np.logspace(-2, 6, 17)).fit(features / spread, train.targets[known, 0])
        return fitted.coef_ / spread, float(fitted.intercept_)


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:12]}…{text[-8:]} ({len(text)} letters)"


def _rollout(self: Interpreter, piece: Piece):
    text = read_text(self.encoder, piece.text)
    flow = rollout(attentions_of(self.encoder, text, self.options.seed))
    return (
        f"Attention rollout of {_short(piece.text)}",
        "Row: the token whose last state it is; column: the input token it draws on, through all "
        "layers. A model of the flow of information, not of influence on an output.",
        "share",
        {"flow": flow, "tokens": np.array(text.tokens)},
    )


def _contacts(self: Interpreter, piece: Piece):
    text = read_text(self.encoder, piece.text)
    head, said = self.contact_head
    if head is not None:
        (found,) = predict_contacts(self.encoder, head, [piece.text], self.options.seed)
        return (
            f"Contacts of {_short(piece.text)}",
            "Probability of each pair of residues to be closer than 8 Å (CB), by "
            f"{head.source} over the attention heads.{said}",
            "probability",
            {"contacts": found, "tokens": np.array(text.tokens)[1:-1]},
        )
    attentions = attentions_of(self.encoder, text, self.options.seed)
    return (
        f"Attention contacts of {_short(piece.text)}",
        "Attention between pairs of residues, both ways, after the average product correction, "
        "mean over heads and layers: bright pairs may touch. No regression was fitted.",
        "coupling",
        {
            "contacts": contact_map(attentions, text.regular),
            "tokens": np.array(text.tokens)[text.regular],
        },
    )


def _mutagenesis(self: Interpreter, piece: Piece):
    alphabet = ALPHABETS[self.encoder.data.kind]
    if piece.readout == "probe":
        score, unit = self.probe, f"change of the predicted {self.data.columns[0]}"
        by = f"by a probe fitted to {self.task.name}"
    else:
        score = functools.partial(Marginals(self.encoder, piece.text), seed=self.options.seed)
        unit, by = "log-odds against the wild type (nats)", "by masked marginals, without labels"
    changes = mutagenesis(score, piece.text, alphabet)
    return (
        f"In-silico mutagenesis of {_short(piece.text)} {by}",
        "Column: place; row: the residue put there; a dot marks the wild type. Red raises the "
        "score, blue lowers it.",
        unit,
        {
            "changes": changes,
            "tokens": np.array(list(piece.text)),
            "alphabet": np.array(list(alphabet)),
        },
    )


def _gradients(self: Interpreter, piece: Piece):
    text = read_text(self.encoder, piece.text)
    if piece.readout == "probe":
        weights, constant = self.readout
        weights = jnp.asarray(weights, jnp.float32)
        what = f"a linear readout of {self.data.columns[0]}"

        def output(outputs):
            return outputs.pooled[0, 0] @ weights + constant
    else:
        what, output = "the log-likelihood of the text", log_likelihood(self.encoder, text)
    found, gap = token_attributions(
        self.encoder, text, output, self.options.seed, self.options.steps
    )
    arrays = {"attributions": found, "tokens": np.array(text.tokens), "gap": np.array(gap)}
    added = "What each token adds against a row of masks"
    if text.graph is not None:
        arrays["smiles"] = np.array(text.written)
        added = "What each atom adds against the same bonds between masked atoms"
    return (
        f"Integrated gradients of {what}, {_short(piece.text)}",
        f"{added}: red raises the output, blue lowers it. The "
        f"attributions sum to {found.sum():.4g}, {abs(gap):.1g} from the difference of outputs.",
        "attribution",
        arrays,
    )


def _embeddings(self: Interpreter, piece: Piece):
    tested = self.data.tested
    order = np.random.default_rng(self.options.seed).permutation(len(tested))[:MAPPED]
    texts = [tested.texts[i] for i in order]
    features = self.encoder.features(self.options.seed)(texts)
    points, variance = embedding_map(features, self.options.projection, self.options.seed)
    arrays = {"points": points, "labels": tested.targets[order, 0]}
    if variance is not None:
        arrays["variance"] = variance
    if self.data.classes:
        arrays["classes"] = np.array(self.data.classes)
    unit = self.data.columns[0] + (f" ({self.task.unit})" if self.task.unit else "")
    return (
        f"Embeddings of {len(order):,} test items of {self.task.name}",
        f"Pooled states of the frozen model, coloured by {self.data.columns[0]}. Labels were not "
        "used to place the points.",
        unit,
        arrays,
    )


_MAKERS = {
    "rollout": _rollout,
    "contacts": _contacts,
    "mutagenesis": _mutagenesis,
    "gradients": _gradients,
    "embeddings": _embeddings,
}
