"""How the methods that train are to train."""

import dataclasses

from biofm_jax.adapt.finetune import FinetuneSpec
from biofm_jax.adapt.lora_tuning import LoraSpec


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The specs of the tuning methods; each field is a method's name.

    Attributes:
        finetune: all parameters, or all that are not frozen.
        lora: low-rank adapters.
    """

    finetune: FinetuneSpec = FinetuneSpec()
    lora: LoraSpec = LoraSpec()
