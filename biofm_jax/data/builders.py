"""TFDS builders in ArrayRecord form. Importing this module imports tensorflow_datasets.

A builder reads records that were checked already, in file order, with a whole number as key, so
that record i of the data set is record i of the file less the bad ones.
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from biofm_jax.data.readers import Record

VERSION = "1.0.0"
SPLIT = "records"


class _LocalInfo(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """These data are in no bucket; TFDS would leave an empty temporary folder each time."""


class _RecordsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Records of one text file."""

    VERSION = tfds.core.Version(VERSION)
    text_name = "text"
    # Nothing is downloaded. Left to itself TFDS looks for a checksum file beside this module,
    # through importlib_resources, which it does not declare as a dependency.
    url_infos: ClassVar[dict] = {}

    def __init__(self, records: Iterable[Record], source: dict[str, str | int], data_dir: str):
        self._records = records
        self._source = source
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "id": tfds.features.Text(doc="the source file's name of the record"),
            "line": tfds.features.Scalar(np.int64, doc="line of the source file, from 1"),
            self.text_name: tfds.features.Text(),
        }
        return _LocalInfo(
            builder=self,
            description=f"{self.text_name} records of {self._source['file']}",
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(self._source),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self):
        for number, record in enumerate(self._records):
            yield number, {"id": record.id, "line": record.line, self.text_name: record.text}


class ProteinRecords(_RecordsBuilder):
    """Protein sequences of a FASTA file or a table."""

    text_name = "sequence"


class MoleculeRecords(_RecordsBuilder):
    """Canonical SMILES of a SMILES file or a table."""

    text_name = "smiles"


class GenomeRecords(_RecordsBuilder):
    """DNA or RNA sequences of a FASTA file or a table."""

    text_name = "sequence"


class NotesRecords(_RecordsBuilder):
    """Notes of a text file, a table or JSON lines."""


BUILDERS = {
    "protein": ProteinRecords,
    "molecule": MoleculeRecords,
    "genome": GenomeRecords,
    "notes": NotesRecords,
}
