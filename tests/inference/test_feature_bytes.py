"""Feature bytes are the same on every CPU: others are emulated, and two makes gave the committed hashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.inference import logmel
from tests.inference import feature_hashes

# Equal on an AMD EPYC with AVX2 and an Intel Xeon with AVX-512, with NumPy 2.4 and 2.5, SciPy 1.17 and 1.18.
COMMITTED = {
    "mono 22050": "7ceafceb030596df3f459f7cb902a597bd2457424103de17debeb86ec7cd86c6",
    "stereo 44100": "1df1912bbb7505728da941c50e1c1642bbbb615bb77fe62326492068a3c590d9",
    "six channels 48000": "25d78abea5b5a1c42dfd5a4e16c8c90f07e763f7f114fa2b4522171ca0479777",
    # What musicnn is given; seen on the EPYC alone, and on what it emulates.
    "mono 22050, musicnn": "463f1b799df049257026c0fdc50d69fd6cf32580f8137889e9c78152b7e5e3bb",
    "stereo 44100, musicnn": "0e56893164e0d50ceb2017f4bec765497eb7d9ac170c675bc51478b6b2c68f76",
    "six channels 48000, musicnn": "400f65abc25a547dfb69fd666305a44af7013d80d897fb7c98fb3dfc23227fd9",
}

# OpenBLAS, NumPy and the C library each choose code by the CPU; these make them take it for an older one.
CPUS = {
    "this CPU": {"OMP_NUM_THREADS": "2"},
    "Haswell": {"OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "1"},
    "Sandybridge": {"OPENBLAS_CORETYPE": "Sandybridge", "OMP_NUM_THREADS": "2"},
    "old in all": {
        "OPENBLAS_CORETYPE": "Prescott",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4,-AVX512F",
        "OMP_NUM_THREADS": "1",
    },
}


@pytest.mark.parametrize("cpu", CPUS)
def test_features_are_equal_on_every_cpu(cpu: str) -> None:
    """A dense mel product by BLAS made three different hashes on one machine, and ``np.log10`` another."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.inference.feature_hashes"],
        env=os.environ | CPUS[cpu],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == COMMITTED


def test_the_clips_reach_every_level() -> None:
    """Else the hashes would say little: values from the floor to full scale, in every band."""
    features = np.concatenate([feature_hashes.features_of(clip) for clip in feature_hashes.clips().values()])
    assert len(np.unique(features)) > 5000
    assert features.max() > 10 > -60 > features.min()


@pytest.mark.parametrize("low", [1e-10, 1e-3, 1.0])
def test_decibels_are_within_a_float32s_rounding(low: float) -> None:
    power = np.geomspace(low, low * 1e7, 200_001, dtype=np.float64).astype(np.float32)
    np.testing.assert_allclose(
        logmel.decibels(power), 10 * np.log10(power.astype(np.float64)), atol=1e-5, rtol=0
    )


def test_decibels_of_powers_of_two_have_no_error_beyond_rounding() -> None:
    exponents = np.arange(-33, 60)
    np.testing.assert_allclose(
        logmel.decibels(np.exp2(exponents).astype(np.float32)), exponents * 10 * np.log10(2), rtol=1.2e-7
    )
