"""A short run of the fuzz benchmark: damaged files end in frames or in a `VideoError`."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("legato_fuzz", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_no_damaged_file_crashes_hangs_or_raises_anything_else(fuzz, tmp_path):
    cases = list(fuzz.fuzz(120, 1, tmp_path))
    assert len(cases) == 120
    assert {case.damage for case in cases} == {damage.__name__ for damage in fuzz.DAMAGES}
    assert [case for case in cases if case.failed] == []
    assert max(case.seconds for case in cases) < fuzz.LIMIT_SECONDS


def test_the_clean_clips_are_whole(fuzz, tmp_path):
    for kind in fuzz.FORMATS:
        fuzz.make_clip(kind, tmp_path / kind.name)
        assert fuzz.examine(str(tmp_path / kind.name)) in ("whole", "times repaired"), kind.name


def test_the_same_seed_damages_in_the_same_way(fuzz):
    clean = bytes(range(256)) * 20
    assert fuzz.damaged(clean, 3, 7) == fuzz.damaged(clean, 3, 7)
    assert fuzz.damaged(clean, 3, 7) != fuzz.damaged(clean, 4, 7)
