"""Several random views of every image of a batch, as rows of a larger batch."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.objectives.api import row_keys
from biofm_jax.objectives.image_views import ImageViews, views


def crops(augments: Sequence[ImageViews], batch: Batch, key: jax.Array) -> Batch:
    """A view of every image for each way to draw one, all of one size.

    Args:
        augments: n ways.
        batch: images (b, ...), one a row.
        key: of the step. What is drawn depends on it and on the number of the record alone.

    Returns:
        Rows (b * n, ...), those of an image side by side and so on one device, with numbers of
        their own, by which dropout and masks are drawn.

    Raises:
        UserError: the batch has no images.
    """
    if batch.images is None:
        raise UserError(
            "views are drawn of images, and this batch has none; set data=ImageData(...)"
        )
    count = len(augments)
    rows = repeated(batch, count)
    keys = row_keys(key, rows).reshape(-1, count)
    if len(set(augments)) == 1:
        return rows.replace(images=views(augments[0], rows.images, keys.reshape(-1)))
    drawn = [views(how, batch.images, keys[:, i]) for i, how in enumerate(augments)]
    images = jnp.stack(drawn, axis=1)
    return rows.replace(images=images.reshape(-1, *images.shape[2:]))


def repeated(batch: Batch, count: int) -> Batch:
    """Every row `count` times, the number of its record times `count` plus 0, 1, ..."""
    rows = jax.tree.map(lambda x: jnp.repeat(x, count, axis=0), batch)
    copy = jnp.tile(jnp.arange(count, dtype=rows.examples.dtype), batch.examples.shape[0])[:, None]
    return rows.replace(
        examples=jnp.where(rows.examples < 0, rows.examples, count * rows.examples + copy)
    )


def apart(x: jax.Array, count: int) -> jax.Array:
    """Rows (b * count, ...) of `crops` as (b, count, ...)."""
    return x.reshape(-1, count, *x.shape[1:])
