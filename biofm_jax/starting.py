"""A run that starts from a model that is there: `biofm train EXPERIMENT.py --start MODEL`."""

import dataclasses
import logging

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.prompt_classes import require_texts
from biofm_jax.errors import UserError
from biofm_jax.experiment import Experiment, load_encoder

log = logging.getLogger("biofm_jax")

# What of an experiment's model stays: how it is computed, not what it is.
COMPUTED = ("dtype", "backend", "scan", "remat")
# What of the data goes with a model: how its images and texts are made.
READ = ("image", "channels", "fit", "tokenizer_path", "tokenizer_family")


def started(experiment: Experiment, name: str) -> tuple[Experiment, Encoder]:
    """The experiment with the architecture of a model, and with data that it can read.

    Image size, channels, fit and tokenizer become the model's, captions are cut to what it reads;
    objective, optimizer, records and the rest stay the experiment's.

    Args:
        experiment: any.
        name: folder of an import or of a finished run, as `load_encoder` reads it.

    Returns:
        The experiment, and the model with its parameters.

    Raises:
        UserError: no such model, one without parameters, or one of another modality or kind.
    """
    if name.startswith("random:"):
        raise UserError(
            f"--start {name} has no parameters; leave it away to start from random ones"
        )
    encoder = load_encoder(name)
    wanted, found = type(experiment.model).__name__, type(encoder.spec).__name__
    kinds = encoder.data.kind, getattr(experiment.data, "kind", "")
    if wanted != found or kinds[0] != kinds[1]:
        raise UserError(
            f"--start {name} is a {found} of {kinds[0]}, and the experiment trains a {wanted} of "
            f"{kinds[1]}; take an experiment of such a model (`biofm list experiments`)"
        )
    if hasattr(experiment.data, "pair_tokenizer"):
        require_texts(encoder)
    stacks = experiment.model.stacks()
    stack = next(iter(stacks.values())) if stacks else experiment.model
    computed = {field: getattr(stack, field) for field in COMPUTED if hasattr(stack, field)}
    model = encoder.spec.replaced(**computed)
    there = {field.name for field in dataclasses.fields(experiment.data)}
    changes = {n: getattr(encoder.data, n) for n in READ if n in there and hasattr(encoder.data, n)}
    if "pair_tokens" in there:
        changes["pair_tokens"] = min(encoder.data.pair_tokens, experiment.data.pair_tokens)
    data = dataclasses.replace(experiment.data, **changes)
    changed = [f"data.{n} {v}" for n, v in changes.items() if getattr(experiment.data, n) != v]
    log.info("starting from %s: its architecture, %s", name, ", ".join(changed) or "the same data")
    return dataclasses.replace(experiment, model=model, data=data), encoder
