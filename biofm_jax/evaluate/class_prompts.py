"""How the classes of a task are put into words, for models of images and texts.

Each class has phrases and the task has templates for them; its prompts are all combinations, whose
vectors are averaged (Radford et al. 2021, arXiv:2103.00020, section 3.1.4). The words were written
before any model was scored with them.
"""

from biofm_jax.adapt.prompt_classes import ensemble
from biofm_jax.evaluate.task import Dataset, Task

CHEST = ("a chest x-ray with {}", "chest x-ray showing {}", "there is {} in this chest x-ray", "{}")
HISTOLOGY = ("{}", "an H&E stained image of {}", "a histopathology image showing {}", "there is {}")
FUNDUS = ("a fundus photograph of {}", "a retinal image showing {}", "{}")
REGION = ("an image of the {}", "a radiology image of the {}", "which organ is this? {}", "{}")

PNEUMONIA = (
    ("no finding", "clear lungs", "no evidence of pneumonia"),
    ("pneumonia", "consolidation", "an opacity in the lung"),
)
GRADES = (
    ("normal colorectal mucosa", "normal colon tissue"),
    ("a colorectal polyp", "hyperplastic polyp"),
    ("low-grade intraepithelial neoplasia", "low-grade dysplasia of the colon"),
    ("high-grade intraepithelial neoplasia", "high-grade dysplasia of the colon"),
    ("colorectal adenocarcinoma", "invasive cancer of the colon"),
    ("a serrated adenoma", "sessile serrated lesion of the colon"),
)
DIAGNOSES = (
    ("a healthy eye", "a normal retina"),
    ("an eye with diabetic retinopathy", "retinal haemorrhages and exudates"),
    ("an eye with glaucoma", "a cupped optic disc"),
)
ORGANS = (
    ("brain", "head", "brain mri", "head ct"),
    ("chest", "lungs", "chest x-ray", "heart"),
    ("abdomen", "liver", "abdominal ct", "kidneys"),
)

# Task -> its templates, and the phrases of each class in the order of `Dataset.classes`.
WORDS: dict[str, tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]] = {
    "pneumoniamnist": (CHEST, PNEUMONIA),
    "pneumoniamnist_accuracy": (CHEST, PNEUMONIA),
    "ebhi_grade": (HISTOLOGY, GRADES),
    "ebhi_grade_f1": (HISTOLOGY, GRADES),
    "retina_hrf": (FUNDUS, DIAGNOSES),
    "vqa_rad_organ": (REGION, ORGANS),
    "vqa_rad_organ_unseen": (REGION, ORGANS),
}


def prompts_of(task: Task, dataset: Dataset) -> tuple[tuple[str, ...], ...]:
    """The prompts of each class; of a task without words of its own, the names of its classes.

    Args:
        task: of classes.
        dataset: its data; no classes named give no prompts.
    """
    if task.name not in WORDS:
        return ensemble([name.replace("_", " ") for name in dataset.classes])
    templates, phrases = WORDS[task.name]
    return tuple(tuple(t.format(phrase) for phrase in of for t in templates) for of in phrases)
