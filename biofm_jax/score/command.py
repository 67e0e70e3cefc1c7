"""`biofm score`: how a language model rates variants, without any label."""

import csv
import dataclasses
import io
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from biofm_jax.adapt.allele_scores import allele_scores
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.token_scores import language_model
from biofm_jax.adapt.zero_shot import Score as Method
from biofm_jax.adapt.zero_shot import zero_shot_adapter
from biofm_jax.data.readers import TABLE_ENDINGS, file_ending
from biofm_jax.data.variant_tables import read_variants
from biofm_jax.errors import UserError
from biofm_jax.evaluate.labels import numbers
from biofm_jax.evaluate.metrics_number import spearman
from biofm_jax.experiment import load_encoder
from biofm_jax.files import write_whole
from biofm_jax.score.genomes import allele_items
from biofm_jax.score.items import Items
from biofm_jax.score.proteins import read_wild_type, table_items

KINDS = ("protein", "genome")
ENDINGS = (*TABLE_ENDINGS, ".parquet")


@dataclasses.dataclass(frozen=True)
class Score:
    """Score variants by a pretrained model alone: higher = the model finds it likelier.

    biofm score runs/esm2 dms.csv scores.csv --wild-type wt.fasta --label DMS_score

    biofm score runs/esm2 mutants.txt scores.tsv --wild-type wt.fasta --first 24

    biofm score runs/dna variants.vcf.gz scores.parquet --reference genome.fa

    Scores are differences of log-probabilities in nats; the wild type has 0.

    Attributes:
        model: folder of a finished run, FOLDER@best, of an import, or random:EXPERIMENT.py.
        variants: a list with one variant a line (A123T, several joined by : or , or HGVS such as
            p.Ala123Thr); a .csv or .tsv with a column mutant, mutation, variant or hgvs_p, or of
            whole sequences (mutated_sequence); or a .vcf. Each also as .gz.
        out: .csv, .tsv or .parquet: id, score and the columns of the variants, in their order.
        wild_type: FASTA file of one sequence, or the sequence itself; needed but for a VCF, and
            for whole sequences scored alone.
        reference: FASTA file of the genome, for a VCF.
        method: masked_marginal (mutant against wild type with the mutated places masked),
            wild_type_marginal (the same, nothing masked: one pass for all variants),
            pseudo_perplexity (each place masked in turn, mean; insertions and deletions too; a
            pass for each place), next_token (of causal models).
        first: number of the wild type's first letter, such as 24 where numbers are those of a
            precursor.
        column: of the table that holds the variants; empty takes the names above.
        label: column of measured values: their rank correlation with the scores is given.
        unscored: stops and frameshifts, alleles without bases, and insertions and deletions by
            marginal scores have no score: refuse, or report the reason in a column `reason`.
        window: bases around a variant of a VCF; 0: as many as the model's rows hold.
        name: of the column of scores.
        seed: of a random model.
        dry_run: read and check everything, score nothing.
        json: print JSON instead of a table.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    variants: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="VARIANTS")]
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    wild_type: str = ""
    reference: Path | None = None
    method: Method = "masked_marginal"
    first: int = 1
    column: str = ""
    label: str = ""
    unscored: Literal["refuse", "report"] = "refuse"
    window: int = 0
    name: str = "score"
    seed: int = 0
    dry_run: bool = False
    json: bool = False


class Job:
    """Variants that are read and checked, and their model."""

    def __init__(self, options: Score):
        """Read model and variants.

        Raises:
            UserError: no such model, a model or options that do not suit the variants, or a
                variant that is wrong; it names file and line.
        """
        self.options = options
        ending = file_ending(options.out)
        if ending not in ENDINGS or options.out.suffix == ".gz":
            raise UserError(f"{options.out}: unknown ending; name it {', '.join(ENDINGS)}")
        if options.out.resolve() == options.variants.resolve():
            raise UserError(f"{options.out} would be written over the variants; name another file")
        self.encoder: Encoder = load_encoder(options.model)
        if self.encoder.data.kind not in KINDS:
            raise UserError(
                f"{options.model} reads {self.encoder.data.kind}; variants are of models of "
                f"{' or '.join(KINDS)}"
            )
        language_model(self.encoder, options.seed, causal=options.method == "next_token")
        self.items = self._items()
        if taken := {"id", options.name, "reason"} & set(self.items.columns):
            raise UserError(
                f"{options.variants} has a column {sorted(taken)[0]!r} already; rename it"
                + (", or name that of the scores with --name" if options.name in taken else "")
            )
        if options.unscored == "refuse":
            self.items.refuse_unscored()
        self.labels = self._labels()

    def _items(self) -> Items:
        options, marginal = self.options, self.options.method.endswith("marginal")
        if file_ending(options.variants) == ".vcf":
            if self.encoder.data.kind != "genome":
                raise UserError(
                    f"{options.variants} holds nucleotide variants, and {options.model} reads "
                    f"{self.encoder.data.kind}: translate them to A123T first"
                )
            if options.reference is None:
                raise UserError(
                    f"{options.variants} names places of a genome; give --reference FASTA"
                )
            return allele_items(
                options.variants, options.reference, self.encoder, marginal, options.window
            )
        if options.reference is not None:
            raise UserError(
                f"--reference is for a VCF, and {options.variants} is none: give --wild-type"
            )
        table, wild_type = read_variants(options.variants, options.column), None
        if options.wild_type:
            wild_type = read_wild_type(options.wild_type, self.encoder.data)
        elif marginal:
            raise UserError(
                f"{options.method} compares variants with a wild type; give --wild-type FASTA or "
                "the sequence"
            )
        return table_items(table, wild_type, self.encoder.data, options.first, marginal)

    def _labels(self) -> np.ndarray | None:
        name, columns = self.options.label, self.items.columns
        if not name:
            return None
        if name not in columns:
            raise UserError(
                f"{self.options.variants} has no column {name!r}; it has {', '.join(columns)}"
            )
        return numbers(list(columns[name]), str(self.options.variants), name)

    def scores(self) -> np.ndarray:
        """(n,) float64 nats, nan where a row has none; the numbers of `biofm evaluate`."""
        items, rows = self.items, self.items.scored()
        found = np.full(len(items.ids), np.nan)
        if not len(rows):
            return found
        texts, where = [items.texts[i] for i in rows], [items.where[i] for i in rows]
        method, seed = self.options.method, self.options.seed
        if items.references is not None:
            pairs = [(items.references[i], text) for i, text in zip(rows, texts, strict=True)]
            found[rows] = allele_scores(self.encoder, method, pairs, seed=seed, ids=where)
            return found
        none = Labelled((), (), np.zeros((0, 1)))
        asked = Labelled(tuple(where), tuple(texts), np.full((len(rows), 1), np.nan))
        adapter = zero_shot_adapter(self.encoder, method, items.wild_type)
        found[rows] = adapter(none, none, asked, seed)[:, 0]
        return found

    def run(self) -> dict[str, Any]:
        """Score, write, and sum up.

        Raises:
            UserError: a variant that the model cannot read; nothing is written then.
        """
        scores = self.scores()
        columns: dict[str, Any] = {"id": self.items.ids, self.options.name: scores}
        if any(self.items.reasons):
            columns["reason"] = self.items.reasons
        write_table(self.options.out, columns | self.items.columns)
        row = self.summary() | {"out": str(self.options.out)}
        if self.labels is not None:
            known = np.isfinite(scores) & np.isfinite(self.labels)
            row["labelled"] = int(known.sum())
            row["spearman"] = spearman(self.labels[known], scores[known])
        return row

    def summary(self) -> dict[str, Any]:
        """What is to be scored, and how."""
        items, rows = self.items, self.items.scored()
        row = {
            "model": self.options.model,
            "method": self.options.method,
            "variants": len(items.ids),
            "scored": len(rows),
        }
        if items.references is None:
            row["wild type"] = "none" if items.wild_type is None else len(items.wild_type)
        elif len(rows):
            sizes = [items.bases[i] for i in rows]
            same = min(sizes) == max(sizes)
            row["window"] = max(sizes) if same else f"{min(sizes)} to {max(sizes)}"
        return row


def write_table(path: Path, columns: dict[str, Any]) -> None:
    """Write columns of n cells as .csv, .tsv or .parquet, whole or not at all.

    Args:
        path: its ending names the format.
        columns: name -> n texts, or (n,) float64 where nan is written as a blank (null).
    """
    if file_ending(path) == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        arrays = [
            pa.array(cells, from_pandas=True)
            if isinstance(cells, np.ndarray)
            else pa.array(cells, pa.string())
            for cells in columns.values()
        ]
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_arrays(arrays, names=list(columns)), sink)
        write_whole(path, sink.getvalue())
        return
    text = io.StringIO()
    writer = csv.writer(text, delimiter=TABLE_ENDINGS[file_ending(path)], lineterminator="\n")
    writer.writerow(columns)
    cells = [
        ["" if np.isnan(value) else repr(float(value)) for value in column]
        if isinstance(column, np.ndarray)
        else column
        for column in columns.values()
    ]
    writer.writerows(zip(*cells, strict=True))
    write_whole(path, text.getvalue())
