"""A package that compiles for absent TPUs leaves other runs alone, and a real TPU too."""

import importlib.util
import os

from biofm_jax.train import absent_tpu


def test_only_a_machine_without_tpu_is_told_to_libtpu(tmp_path, monkeypatch):
    for name in absent_tpu.ALONE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("TPU_WORKER_ID", "3")
    for vendor, present in (("0x1af4", False), ("0x1ae0", True)):
        device = tmp_path / vendor
        device.mkdir()
        (device / "vendor").write_text(vendor + "\n")
        assert absent_tpu.has_tpu(tmp_path) is present
    monkeypatch.setattr(absent_tpu, "has_tpu", lambda: True)
    absent_tpu.quiet_libtpu()
    assert "TPU_ACCELERATOR_TYPE" not in os.environ
    monkeypatch.setattr(absent_tpu, "has_tpu", lambda: False)
    try:
        absent_tpu.quiet_libtpu()
        assert os.environ["TPU_SKIP_MDS_QUERY"] == "1"
        assert os.environ["TPU_WORKER_ID"] == "3"  # what the user says holds
    finally:
        for name in absent_tpu.ALONE:
            os.environ.pop(name, None)
