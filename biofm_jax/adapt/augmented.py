"""A model that is shown another view of each image in every step of tuning."""

import dataclasses

import jax

from biofm_jax.data.batch import Batch
from biofm_jax.models.api import Model
from biofm_jax.objectives.api import row_keys
from biofm_jax.objectives.image_views import ImageViews, views

VIEWS = 7  # folded into a step's key, so that views are not drawn as dropout is


def flipped_and_cropped(
    flips: tuple[float, ...], crop: float, image: tuple[int, ...]
) -> ImageViews:
    """Views that keep colours, and the shape of the image up to a third.

    Args:
        flips: as of `ImageViews`.
        crop: smallest share of the area that is kept; 1 keeps all of it.
        image: pixels of the model along each axis.
    """
    shape = image[-1] / image[-2] if len(image) == 2 else 1.0
    wider = 4 / 3 if crop < 1 else 1.0
    return ImageViews(
        area=(crop, 1.0),
        aspect=(shape / wider, shape * wider),
        flips=flips,
        jitter=0.0,
        grey=0.0,
        blur=0.0,
    )


def augmented(model: Model, how: ImageViews) -> Model:
    """The model, which while training reads a view of each image in its place.

    A view depends on the step and on the number of the record alone: neither on the batch nor on
    the number of devices.
    """

    def apply(params, batch: Batch, *, rngs=None, train=False, **options):
        if train:
            keys = row_keys(jax.random.fold_in(rngs, VIEWS), batch)
            batch = batch.replace(images=views(how, batch.images, keys))
        return model.apply(params, batch, rngs=rngs, train=train, **options)

    return dataclasses.replace(model, apply=apply)
