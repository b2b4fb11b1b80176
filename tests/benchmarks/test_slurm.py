"""The documented job array on a real Slurm, where one can run."""

from __future__ import annotations

import subprocess

import pytest

from benchmarks import slurm

SMALL = slurm.SWEEP.replace("steps = 2000", "steps = 4000").replace("19456", "9728")


def test_the_documented_script_is_a_script(tmp_path):
    text = slurm.script(tmp_path / "out")
    assert "#SBATCH --requeue" in text and f"--array=1-{slurm.TASKS}\n" in text
    assert f"{tmp_path}/out" in text
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.skipif(bool(slurm.unavailable()), reason=f"Slurm: {slurm.unavailable()}")
def test_a_job_array_is_killed_stopped_and_put_back_and_loses_nothing():
    try:
        found = slurm.array(SMALL)
    except slurm.Unavailable as error:
        pytest.skip(f"Slurm: {error}")
    assert found.different == 0
    assert found.states == ("COMPLETED",) * slurm.TASKS
    assert found.killed.startswith("FAILED 137")
    assert found.told >= 1 and found.requeued >= 1
