"""Where a run may write."""

from pathlib import Path

import pytest

from biofm_jax.data.protein import ProteinData
from biofm_jax.errors import UserError
from biofm_jax.files import refuse_address
from biofm_jax.train.lock import locked


@pytest.mark.parametrize("path", ["gs://b/x", Path("gs://b/x"), "s3://b/x"])
def test_a_bucket_is_no_folder(path):
    with pytest.raises(UserError, match=r"--workdir is .*mount the bucket.*/MOUNT/b/x"):
        refuse_address(path, "--workdir")


def test_ordinary_paths_pass():
    for path in ("runs/a", "/gcs/b/x", "a:/b", "./gs:/b"):
        refuse_address(path, "--workdir")
    with pytest.raises(UserError, match=r"data\.path is gs://b/p\.fasta"):
        ProteinData(path="gs://b/p.fasta").source_path()


def test_a_workdir_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="cannot be used: Not a directory"),
        locked(tmp_path / "file" / "run"),
    ):
        pass
