import subprocess
import sys
import textwrap

import pytest

FAULTS = """
    import resource, sys
    import numpy as np
    from biofm_jax.train.host_memory import keep_freed_memory

    changed = keep_freed_memory()
    def faults():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(20_000_000)  # 160 MB, freed at once
    before = faults()
    for _ in range(5):
        np.ones(20_000_000)
    print(changed, faults() - before)
"""


def run(**environment) -> tuple[bool, int]:
    """Whether the setting was made, and the page faults of five allocations after the first."""
    script = textwrap.dedent(FAULTS)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        env={"PATH": "/usr/bin", **environment},
    )
    changed, faults = done.stdout.split()
    return changed == "True", int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the setting is glibc's")
def test_freed_memory_is_used_again_and_the_users_setting_wins():
    kept, faults = run()
    asked, without = run(MALLOC_ARENA_MAX="8")
    assert kept and not asked
    assert faults < without / 10
