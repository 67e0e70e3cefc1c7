"""Classification without labels: pictures against prompts, by a model of images and texts.

The vector of a class is the mean of those of its prompts, each of length 1, and a picture belongs
to the class whose vector is nearest by cosine (Radford et al. 2021, arXiv:2103.00020, sections
3.1.2 and 3.1.4; with "with" and "without" a finding in chest X-rays CheXzero, Tiu et al. 2022, doi
10.1038/s41551-022-00936-9).
"""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float
from scipy.special import softmax

from biofm_jax.adapt.columns import Kind
from biofm_jax.adapt.encoder import ROWS, Encoder
from biofm_jax.adapt.fractions import unlabelled_adapter
from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.data.in_memory import pack_examples
from biofm_jax.errors import UserError
from biofm_jax.models.dual_encoder import DualEncoderSpec
from biofm_jax.models.spec import ModelSpec
from biofm_jax.models.vision import VisionSpec
from biofm_jax.objectives.contrastive import unit

METHOD = "zero_shot_prompts"
TEMPLATES = ("{}", "an image of {}", "a medical image showing {}", "this is {}")


def ensemble(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Prompts of classes that have none of their own: their names in `TEMPLATES`."""
    return tuple(tuple(template.format(name) for template in TEMPLATES) for name in names)


def prompts_adapter(encoder: Encoder, prompts: Sequence[Sequence[str]], kind: Kind) -> Adapter:
    """A model of images and texts as an adapter that looks at no label.

    It predicts class numbers, or for "binary" labels the probability of class 1 by the model's
    temperature. An untrained model does so for each seed anew.

    Args:
        encoder: of two towers, the first of images.
        prompts: of each class 0, 1, ..., one or more.
        kind: of the label, "binary" or "class".

    Raises:
        UserError: another model, labels of another kind, or no prompts.
    """
    check_model(encoder)
    if kind not in ("binary", "class"):
        raise UserError(f"{METHOD} tells classes apart, and these labels are of kind {kind}")
    if len(prompts) < 2 or not all(prompts) or (kind == "binary" and len(prompts) != 2):
        need = "two classes" if kind == "binary" else "each of two or more classes"
        raise UserError(
            f"{METHOD} needs prompts of {need}, and the task gives them for {len(prompts)}; "
            "Dataset.classes or Dataset.prompts of the task name them"
        )
    rows: dict[int, dict[str, np.ndarray]] = {}

    def adapt(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        drawn = seed if encoder.params is None else 0
        known = rows.setdefault(drawn, {})
        new = list(dict.fromkeys(text for text in test.texts if text not in known))
        classes = class_vectors(encoder, prompts, drawn)
        if new:
            known.update(zip(new, picture_vectors(encoder, new, drawn), strict=True))
        cosines = np.array([known[text] for text in test.texts]) @ classes.T
        if kind == "class":
            guess = cosines.argmax(1).astype(np.float64)
        else:
            guess = softmax(cosines * similarity_factor(encoder, drawn), axis=1)[:, 1]
        return np.repeat(guess[:, None], test.targets.shape[1], axis=1)

    return unlabelled_adapter(adapt)


def check_model(encoder: Encoder) -> None:
    """Refuse a model that does not compare images with texts.

    Raises:
        UserError: names the model and what would do.
    """
    spec = encoder.spec
    towers = isinstance(spec, DualEncoderSpec) and isinstance(spec.first, VisionSpec)
    if not towers:
        raise UserError(
            f"{METHOD} compares pictures with texts, and {encoder.name} is no model of both: take "
            "an import of clip, siglip or biomedclip, a run of "
            "experiments/medical_imaging/clip_contrastive.py, or another method"
        )
    require_texts(encoder)


def require_texts(encoder: Encoder) -> None:
    """Refuse two towers that were imported without the files of their tokenizer.

    Raises:
        UserError: the model's data has no texts.
    """
    if not hasattr(encoder.data, "pair_tokenizer"):
        raise UserError(
            f"{encoder.name} was imported without the files of its tokenizer, so it reads no "
            "texts; import it again with --tokenizer FOLDER"
        )


def class_vectors(
    encoder: Encoder, prompts: Sequence[Sequence[str]], seed: int
) -> Float[np.ndarray, "c e"]:
    """(c, e) float64 vectors of length 1, one for each class.

    Args:
        encoder: as of `prompts_adapter`.
        prompts: of each class.
        seed: of random parameters.
    """
    vectors = text_vectors(encoder, [text for texts in prompts for text in texts], seed)
    ends = np.cumsum([len(texts) for texts in prompts])
    return _unit(np.stack([part.mean(0) for part in np.split(vectors, ends[:-1])]))


def text_vectors(encoder: Encoder, texts: Sequence[str], seed: int) -> Float[np.ndarray, "n e"]:
    """(n, e) float64 vectors of length 1 of texts, by the second tower."""
    data = encoder.data
    params = encoder.params_for(seed)["second"]
    ids = [data.caption(text) for text in texts]
    return _vectors(encoder.spec.second, params, ids, data.pair_vocabulary, data.pair_tokens)


def picture_vectors(encoder: Encoder, items: Sequence[str], seed: int) -> np.ndarray:
    """(n, e) float64 vectors of length 1 of a task's pictures, by the first tower."""
    params = encoder.params_for(seed)["first"]
    return _vectors(encoder.spec.first, params, encoder.tokenize(items), None, 1)


def similarity_factor(encoder: Encoder, seed: int) -> float:
    """By what cosines are multiplied before the softmax: the inverse temperature."""
    space = encoder.params_for(seed).get("space", {})
    if "scale" in space:
        return float(np.exp(np.asarray(space["scale"], np.float64)))
    return 1.0 / encoder.spec.head.temperature


def _vectors(spec: ModelSpec, params, examples, vocabulary, tokens: int) -> np.ndarray:
    apply = spec.build().apply
    vectors = jax.jit(lambda params, batch: unit(apply(params, batch)))
    packed = pack_examples(examples, vocabulary, max_tokens=tokens, segments=1, batch_size=ROWS)
    made = [np.asarray(vectors(params, batch), np.float64) for batch in packed.batches]
    return packed.gather(made)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
