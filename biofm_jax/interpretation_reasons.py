"""Which pictures `biofm interpret` makes of models of sequences and graphs, and why not others."""

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.heads import LanguageHead

ALPHABETS = {"protein": "ACDEFGHIKLMNPQRSTVWY", "genome": "ACGT", "rna": "ACGU"}


def of_images(encoder, task) -> str:
    """Why none but a model of images gets a picture."""
    return "it is for models of images"


def speaks(encoder: Encoder) -> bool:
    """Whether the model gives log-probabilities of tokens."""
    alone = not isinstance(encoder.spec, EncoderDecoderSpec)
    return alone and isinstance(encoder.spec.head, LanguageHead)


def _attention_reason(encoder, task) -> str:
    return _OF_GRAPHS if encoder.reads_graphs else ""


_OF_GRAPHS = "a model of graphs passes messages; gradients with --task show what each atom adds"


def _contacts_reason(encoder, task) -> str:
    if encoder.reads_graphs:
        return _OF_GRAPHS
    if encoder.data.kind not in ALPHABETS:
        return f"{encoder.data.kind} tokens are no residues; rollout shows its attention"
    return "a causal model sees one side of a pair only" if encoder.spec.causal else ""


def _mutagenesis_reason(encoder, task) -> str:
    if encoder.data.kind not in ALPHABETS:
        return f"a letter of a {encoder.data.kind} cannot be exchanged; it is for sequences"
    if task is None and (not speaks(encoder) or encoder.spec.causal):
        return "without a task it needs a masked language model: give --task for a fitted probe"
    return ""


def _gradients_reason(encoder, task) -> str:
    if task is None and not speaks(encoder):
        return "without a task it needs a language head: give --task for a readout of its labels"
    return ""


def _embeddings_reason(encoder, task) -> str:
    return "a map is of a task's test items: give --task" if task is None else ""


# Kind of picture -> why a model, with a task or without, cannot have it; empty where it can.
REASONS = {
    "rollout": _attention_reason,
    "contacts": _contacts_reason,
    "mutagenesis": _mutagenesis_reason,
    "gradients": _gradients_reason,
    "embeddings": _embeddings_reason,
}
