"""Images with a class each: what supervised training from scratch reads."""

import dataclasses

import jax
import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.data.image_store import ImageRows, ImageStore
from biofm_jax.data.imaging import ImageData
from biofm_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class LabelledImageData(ImageData):
    """Images whose labels are `Batch.targets`: class numbers (b, 1, 1), weight 0 without a label.

    Attributes:
        classes: the labels of the source, in the order of their class numbers.
    """

    classes: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise UserError(
                f"data.classes is {self.classes}; name two labels of the source or more, each once"
            )

    def shapes(self, rows: int, paired: bool = False) -> Batch:
        """The shapes of a batch of so many images."""
        label = jax.ShapeDtypeStruct((rows, 1, 1), "float32")
        return super().shapes(rows).replace(targets=label, weights=label)

    def row_builder(self, store: ImageStore, batch_size: int, seed: int) -> ImageRows:
        """What builds batches of `batch_size` images with their classes.

        Raises:
            UserError: a label is none of `classes`, or no image has one; the message names it.
        """
        number = {name: float(place) for place, name in enumerate(self.classes)} | {"": np.nan}
        for record in store.records:
            if record["label"] not in number:
                raise UserError(
                    f"{self.path}: {record['id']} has the label {record['label']!r}, which is none "
                    f"of data.classes {' '.join(self.classes)}"
                )
        labels = np.array([[number[record["label"]]] for record in store.records], np.float32)
        if np.isnan(labels).all():
            raise UserError(f"{self.path}: no image has a label; name its column with "
                            "--data.columns.label")  # fmt: skip
        return ImageRows(store, 1, 1, batch_size, seed, labels)
