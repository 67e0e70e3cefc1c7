"""Steps whose loss or gradient is infinite or not a number: the run stops, or skips a few."""

import logging
import math
from collections.abc import Sequence

from biofm_jax.errors import UserError
from biofm_jax.train import hosts

log = logging.getLogger("biofm_jax")


class NonFiniteLoss(RuntimeError):
    """The loss or a gradient became infinite or not a number."""


class NonFiniteSteps:
    """What becomes of such steps, decided when their metrics reach the host.

    The update itself was already left away inside the step (`build_program`, `skip_nonfinite`),
    so that nothing of the step is kept whenever the host comes to look.

    Args:
        policy: "stop" or "skip".
        budget: steps that may be skipped in the whole run.

    Attributes:
        skipped: steps skipped so far, those before a resume included.
    """

    POLICIES = ("stop", "skip")

    def __init__(self, policy: str, budget: int):
        if policy not in self.POLICIES:
            raise UserError(
                f"loop.on_nonfinite is {policy!r}; it must be one of {', '.join(self.POLICIES)}"
            )
        if budget < 0:
            raise UserError(f"loop.skip_budget is {budget}; it must be 0 or more")
        self._skip, self._budget = policy == "skip", budget
        self.skipped = 0

    def passed(self, step: int, metrics: dict, names: Sequence[str], saved: int | None) -> bool:
        """Whether the step counted: False for one that was skipped.

        Args:
            step: steps done.
            metrics: of the step, `loss` and `gradient_norm` among them.
            names: the records of this process's rows of its batch.
            saved: the step of the last good checkpoint, if any.

        Raises:
            NonFiniteLoss: the policy is to stop, or the budget is used up.
        """
        if math.isfinite(metrics["loss"]) and math.isfinite(metrics["gradient_norm"]):
            return True
        # Every process comes here at the same step, since the metrics are of all of them.
        # Hosts whose devices split rows among them name the same records.
        parts = hosts.share("records", list(names))
        every = list(dict.fromkeys(name for part in parts for name in part))
        shown = ", ".join(every[:20])
        shown += f" and {len(every) - 20} more" if len(every) > 20 else ""
        what = (
            f"step {step}: loss {metrics['loss']}, gradient norm {metrics['gradient_norm']}. "
            f"Records of the batch: {shown}"
        )
        if self._skip and self.skipped < self._budget:
            self.skipped += 1
            log.warning(f"skipped {what}. {self.skipped} of {self._budget} skips are used")
            return False
        kept = (
            "no checkpoint was saved before"
            if saved is None
            else f"the checkpoint of step {saved} is good"
        )
        spent = f" --loop.skip_budget {self._budget} is used up;" if self._skip else ""
        raise NonFiniteLoss(
            f"{what}. {kept}.{spent} Lower --optimizer.learning_rate, lengthen "
            "--optimizer.warmup, look at these records"
            + ("" if self._skip else ", or let --loop.on_nonfinite skip pass over a few")
        )
