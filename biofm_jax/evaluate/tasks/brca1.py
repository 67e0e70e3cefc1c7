"""BRCA1 missense variants, measured by saturation genome editing (Findlay et al. 2018).

Nature 562:217, Supplementary Table 1: 3,893 single-nucleotide changes of 13 exons, each with a
function score, from the log2 ratio of its abundance on day 11 and in the library (low: the cell
needs BRCA1 and dies), and a class: functional, intermediate or loss of function. From
github.com/ArcInstitute/evo2 (Apache-2.0). The protein of 1,863 residues is UniProt's, from the
table of ProteinGym (MIT). Here are the 2,086 changes that replace an amino acid, at 326 residues
of 1-101 (RING) and 1631-1855 (BRCT):

- brca1/missense: the function score of 1,837 protein variants, those that several nucleotide
  changes make (219) with their mean. These are the variants of ProteinGym's
  BRCA1_HUMAN_Findlay_2018 by number, protein and range; how ProteinGym joins the 219 is not
  stated in its table.
- brca1/missense_lof: the class of each nucleotide change, 1 = function kept (functional or
  intermediate), 0 = loss of function.

Five folds keep all variants of a residue together: variants of one residue are alike, and random
folds would tell a model's memory of sites. Groups: the domain, and the residue. A model with
shorter rows scores variants in a window around the residue (`adapt.marginals`); what reads whole
sequences refuses. All that needs genomic sequence, such as splicing, waits for genome models: the
table holds only the edited exons.

Of the columns, CADD, phyloP, SIFT and PolyPhen-2 are other models' scores: never features.
"""

import gzip
from collections import defaultdict
from pathlib import Path

import numpy as np

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.labels import numbers, read_columns
from biofm_jax.evaluate.split_groups import group_folds
from biofm_jax.evaluate.spreadsheet import read_sheet
from biofm_jax.evaluate.task import Dataset, Published, Task, data_file

SHEET = "compbio/brca1_sge/41586_2018_461_MOESM3_ESM.xlsx"
HEADER = 3
REFERENCE = "compbio/proteingym_reference/DMS_substitutions.csv.gz"
ASSAY = "BRCA1_HUMAN_Findlay_2018"
FOLDS = 5
RING_END = 101  # last residue of the first exons that were edited
SPLIT = "5 folds by residue (seed 0), scored over all out-of-fold predictions"
PROTEINGYM = f"OATML-Markslab/ProteinGym @ bb68524, {ASSAY}"
TABLE = "Findlay et al. 2018, Supplementary Table 1, its own columns scored on these items"
CLASSES = {"FUNC": 1.0, "INT": 1.0, "LOF": 0.0}


def load_missense(root: Path | None) -> Dataset:
    """The function score of each protein variant."""
    protein, variants, cells = _missense(root)
    scores = numbers(cells["function.score.mean"], SHEET, "function.score.mean")
    of_variant = defaultdict(list)
    for variant, score in zip(variants, scores):
        of_variant[variant].append(score)
    means = np.array([np.mean(scores) for scores in of_variant.values()])
    return _dataset(protein, list(of_variant), list(of_variant), means, "function score")


def load_lof(root: Path | None) -> Dataset:
    """Whether each nucleotide change that replaces an amino acid keeps the function."""
    protein, variants, cells = _missense(root)
    wrong = sorted(set(cells["func.class"]) - set(CLASSES))
    if wrong:
        raise UserError(f"{SHEET}: func.class is {wrong[0]!r}; {', '.join(CLASSES)} are known")
    labels = np.array([CLASSES[name] for name in cells["func.class"]])
    ids = [f"{v} {change}" for v, change in zip(variants, cells["transcript_variant"])]
    return _dataset(protein, ids, variants, labels, "function kept")


def protein_sequence(root: Path | None) -> str:
    """The 1,863 residues of BRCA1."""
    path = data_file(root, REFERENCE)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        names, sequences = read_columns(lines, str(path), ("DMS_id", "target_seq"))
    if ASSAY not in names:
        raise UserError(f"{path}: no assay {ASSAY}")
    return sequences[names.index(ASSAY)]


def _missense(root: Path | None) -> tuple[str, list[str], dict[str, list[str]]]:
    """The protein; of each missense change its variant (`M1L`) and the cells of some columns."""
    path, protein = data_file(root, SHEET), protein_sequence(root)
    wanted = ("function.score.mean", "func.class", "transcript_variant")
    places = ("consequence", "aa_pos", "aa_ref", "aa_alt")
    consequence, residue, old, new, *cells = read_sheet(path, HEADER, (*places, *wanted))
    kept = [i for i, name in enumerate(consequence) if name == "Missense"]
    variants = []
    for i in kept:
        if not (residue[i].isdigit() and protein[int(residue[i]) - 1 :][:1] == old[i]):
            raise UserError(f"{path}: {old[i]}{residue[i]}{new[i]} does not fit the protein")
        variants.append(f"{old[i]}{residue[i]}{new[i]}")
    return protein, variants, {n: [c[i] for i in kept] for n, c in zip(wanted, cells)}


def _dataset(protein: str, ids, variants, labels: np.ndarray, column: str) -> Dataset:
    residues = [int(variant[1:-1]) for variant in variants]
    texts = (protein[: r - 1] + v[-1] + protein[r:] for r, v in zip(residues, variants))
    return Dataset(
        Labelled(tuple(ids), tuple(texts), labels[:, None]),
        group_folds(residues, FOLDS, seed=0),
        (column,),
        wild_type=protein,
        groups={
            "domain": ["RING" if residue <= RING_END else "BRCT" for residue in residues],
            "residue": residues,
        },
        apart=("residue",),
    )


def _published(values: dict[str, float], source: str, note: str) -> tuple[Published, ...]:
    return tuple(Published(name, value, source, True, note) for name, value in values.items())


TASKS = (
    Task(
        name="brca1/missense",
        modality="protein",
        data=load_missense,
        split=SPLIT,
        metric="spearman",
        unit="",
        baselines=("substitution_ridge",),
        published=_published(
            {
                "ESM-2 8M zero-shot": 0.134,
                "ESM-2 35M zero-shot": 0.392,
                "ESM-2 150M zero-shot": 0.455,
                "ESM-2 650M zero-shot": 0.515,
                "site-independent zero-shot": 0.501,
                "SaProt 650M zero-shot": 0.539,
            },
            PROTEINGYM,
            "the same 1,837 variants, no label used",
        ),
    ),
    Task(
        name="brca1/missense_lof",
        modality="protein",
        data=load_lof,
        split=SPLIT,
        metric="auroc",
        unit="",
        baselines=("substitution_ridge",),
        published=_published(
            {"CADD": 0.738, "phyloP": 0.724, "SIFT": 0.697, "PolyPhen-2": 0.657},
            TABLE,
            "its direction chosen by the labels",
        ),
    ),
)
