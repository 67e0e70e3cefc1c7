"""MoleculeNet sets on other splits than the scaffold's: at random, and by cluster.

NAME/random is what MoleculeNet prescribes for its three sets of physical chemistry: neighbours
of a test molecule were learned from, and the errors are smaller than on new scaffolds. The
published SVM, XGBoost and forest read computed descriptors; `descriptor_forest` is the floor of
that kind. NAME/cluster keeps molecules alike by fingerprint together, where scaffolds of one ring
system differ in an atom. Files, labels and licences are those of `molecule`.
"""

from biofm_jax.evaluate.tasks.molecule import moleculenet_task, random_table

_ESOL = ("esol", ("smiles", "logSolubility"), "rmse", "log10 mol/L")
_FREESOLV = ("freesolv", ("smiles", "freesolv"), "rmse", "kcal/mol")
_LIPO = ("lipo", ("smiles", "lipo"), "rmse", "logD")
_BBBP = ("bbbp", ("smiles", "p_np"), "auroc", "")
_BACE = ("bace", ("mol", "Class"), "auroc", "")

_RANDOM = {
    "esol": (*_ESOL, random_table(0.569, 0.582, 0.663, 0.708, 0.587, comparable=True)),
    "freesolv": (*_FREESOLV, random_table(0.852, 1.025, 1.143, 1.149, 1.091, comparable=True)),
    "lipophilicity": (*_LIPO, random_table(0.577, 0.574, 0.659, 0.664, comparable=True)),
}
_CLUSTER = {"bbbp": _BBBP, "bace": _BACE, "esol": _ESOL, "lipophilicity": _LIPO}

TASKS = (
    *(moleculenet_task(f"{name}/random", *task, "random") for name, task in _RANDOM.items()),
    *(moleculenet_task(f"{name}/cluster", *task, (), "cluster") for name, task in _CLUSTER.items()),
)
