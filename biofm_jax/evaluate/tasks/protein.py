"""Protein tasks: fitness landscapes of mutants.

- flip_gb1/*: 8,733 variants of the B1 domain of protein G at four sites (V39, D40, G41, V54);
  the label is binding fitness relative to the wild type (1.0), from Wu et al. 2016
  (eLife 5:e16965), in the splits of FLIP (Dallago et al. 2021; github.com/J-SNACKKB/FLIP,
  AFL-3.0, data CC BY 4.0). Labels are complete.
- dms_blat: 4,996 single mutants of TEM-1 beta-lactamase (residues 24-286); the label is the
  log10 relative fitness at 2,500 ug/ml ampicillin, the column `2500` of Stiffler et al. 2015
  (Cell 160:882). Labels are complete. Other columns hold other models' scores, other doses and
  single replicates of the label: never features, but metadata for the leak report. From
  github.com/facebookresearch/esm (MIT).
"""

import csv
import functools
import gzip
import io
import zipfile
from pathlib import Path

import numpy as np

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.labels import numbers, read_columns
from biofm_jax.evaluate.splits import Fold, random_folds
from biofm_jax.evaluate.task import Dataset, Published, Task, data_file

GB1_SPLITS = {
    "one_vs_rest": "wild type and single mutants train",
    "two_vs_rest": "up to two mutations train",
    "three_vs_rest": "up to three mutations train",
    "low_vs_high": "fitness below the wild type trains, above tests",
    "sampled": "random 80/20",
}
GB1_WILD_TYPE = {39: "V", 40: "D", 41: "G", 54: "V"}  # residue numbers, from 1
BLAT_FIRST_RESIDUE = 24
BLAT_FOLDS = 5
BLAT_NO_METADATA = ("", "Unnamed: 0", "mutant", "2500")  # row numbers, the id and the label
PROTEINGYM = "OATML-Markslab/ProteinGym @ bb68524, BLAT_ECOLX_Stiffler_2015"
ESM_1V = "facebookresearch/esm, variant-prediction/data/rho_pp.csv (Meier et al. 2021)"
ESM_1V_SCORES = "facebookresearch/esm, variant-prediction/data, its five columns scored here"


def load_gb1(root: Path | None, split: str) -> Dataset:
    """FLIP's GB1 with one of its official splits; validation rows are FLIP's own."""
    path = data_file(root, "compbio/flip_gb1/splits.zip")
    source = f"{path}:splits/{split}.csv"
    with zipfile.ZipFile(path) as archive, archive.open(f"splits/{split}.csv") as raw:
        columns = ("sequence", "target", "set", "validation")
        texts, target, part, validation = read_columns(
            io.TextIOWrapper(raw, "utf-8"), source, columns
        )
    labels = np.where(np.array(validation) == "True", "valid", np.array(part))
    wild = list(texts[0])
    for residue, letter in GB1_WILD_TYPE.items():
        wild[residue - 1] = letter
    ids = tuple(
        ":".join(f"{a}{i + 1}{b}" for i, (a, b) in enumerate(zip(wild, text)) if a != b) or "WT"
        for text in texts
    )
    targets = numbers(target, source, "target")[:, None]
    return Dataset(
        Labelled(ids, tuple(texts), targets),
        (Fold.from_labels(labels),),
        ("fitness",),
        wild_type="".join(wild),
        groups={"mutations": [0 if name == "WT" else name.count(":") + 1 for name in ids]},
    )


def load_blat(root: Path | None) -> Dataset:
    """The beta-lactamase scan in five random folds (seed 0)."""
    path = data_file(root, "compbio/dms_blat/BLAT_ECOLX_Ranganathan2015_labeled.csv.gz")
    wild_path = data_file(root, "compbio/dms_blat/wt.fasta")
    wild = "".join(wild_path.read_text().splitlines()[1:])
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        header = next(csv.reader([lines.readline()]), [])
        lines.seek(0)
        others = tuple(name for name in header if name not in BLAT_NO_METADATA)
        mutants, fitness, *cells = read_columns(lines, str(path), ("mutant", "2500", *others))
    texts = []
    for mutant in mutants:
        place = int(mutant[1:-1]) - BLAT_FIRST_RESIDUE
        if wild[place] != mutant[0]:
            raise UserError(f"{path}: {mutant} does not fit the wild type of {wild_path}")
        texts.append(wild[:place] + mutant[-1] + wild[place + 1 :])
    targets = numbers(fitness, str(path), "2500")[:, None]
    items = Labelled(tuple(mutants), tuple(texts), targets)
    return Dataset(
        items,
        random_folds(len(texts), BLAT_FOLDS, seed=0),
        ("fitness at 2500",),
        wild_type=wild,
        metadata=dict(zip(others, cells)),
    )


def _blat_published() -> tuple[Published, ...]:
    supervised = {
        "one-hot": 0.749,
        "ESM-1v embeddings": 0.819,
        "ProteinNPT": 0.914,
        "Kermut": 0.909,
    }
    zero_shot = {"ESM-2 8M": 0.399, "ESM-2 35M": 0.557, "ESM-2 150M": 0.661, "ESM-2 650M": 0.731}
    folds = "random 5 folds drawn by its authors"
    unlabelled = "the same variants, no label used; in the precursor, 23 residues longer"
    some = "on 4,788 of the 4,996 variants, of residues that its alignment covers"
    return (
        *(Published(name, value, PROTEINGYM, True, folds) for name, value in supervised.items()),
        *(
            Published(f"{name} zero-shot", value, PROTEINGYM, True, unlabelled)
            for name, value in zero_shot.items()
        ),
        Published(
            "ESM-1v zero-shot", 0.703, ESM_1V_SCORES, True, "five models averaged, on these items"
        ),
        Published(
            "ESM-1v zero-shot, as reported",
            0.725,
            ESM_1V,
            False,
            "its released scores give .703 on all variants, .720 on the 4,788 of the row below",
        ),
        Published("PSSM", 0.614, ESM_1V, False, some),
        Published("MSA Transformer", 0.773, ESM_1V, False, "a table whose other rows are " + some),
    )


TASKS = (
    *(
        Task(
            name=f"flip_gb1/{split}",
            modality="protein",
            data=functools.partial(load_gb1, split=split),
            split=f"FLIP official: {meaning}",
            metric="spearman",
            unit="",
            baselines=("one_hot_ridge",),
        )
        for split, meaning in GB1_SPLITS.items()
    ),
    Task(
        name="dms_blat",
        modality="protein",
        data=load_blat,
        split="5 random folds (seed 0), Spearman over all out-of-fold predictions",
        metric="spearman",
        unit="",
        baselines=("one_hot_ridge",),
        published=_blat_published(),
    ),
)
