"""Jobs read as plans: sync rules, and the original's six fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from kelpie.config import WorkerConfig
from kelpie.contract import Job
from kelpie.worker.plan import plan_of
from kelpie.worker.refusals import DirectoryRefused
from tests.worker.scripted import python_job


def job(**fields: Any) -> Job:
    return msgspec.convert(python_job("", **fields), Job)


def config(tmp_path: Path) -> WorkerConfig:
    return WorkerConfig(
        input_dir=tmp_path / "i",
        checkpoint_dir=tmp_path / "c",
        output_dir=tmp_path / "o",
        state_file=tmp_path / "state" / "s.json",
    )


def test_the_originals_fields_are_read_as_rules(tmp_path: Path) -> None:
    """Input and checkpoint before, checkpoint during, output after."""
    fields = {
        f"{name}_{what}": f"{name[0]}/" if what == "prefix" else "b"
        for name in ("input", "checkpoint", "output")
        for what in ("bucket", "prefix")
    }
    plan = plan_of(job(sync=None, compression=True, **fields), config(tmp_path))
    assert [(one.prefix, one.local_path.name) for one in plan.before] == [("i/", "i"), ("c/", "c")]
    assert [(one.prefix, one.local_path.name) for one in plan.during] == [("c/", "c")]
    assert [(one.prefix, one.local_path.name) for one in plan.after] == [("o/", "o")]
    assert plan.compression
    assert [plan.restores(one) for one in plan.before] == [False, True]


def test_a_pair_may_be_given_alone(tmp_path: Path) -> None:
    """Only outputs, say; empty strings count as absent."""
    plan = plan_of(job(sync=None, input_bucket="", output_bucket="b", output_prefix="o/"), config(tmp_path))
    assert [one.local_path.name for one in plan.pairings] == ["o"]


@pytest.mark.parametrize("sync", [{}, {"before": None}, {"before": [], "during": [], "after": []}])
def test_a_job_may_have_no_data(tmp_path: Path, sync: dict[str, Any]) -> None:
    """Nothing is locked, nothing emptied."""
    assert not plan_of(job(sync=sync), config(tmp_path)).pairings


def test_a_rule_for_a_forbidden_path_refuses_the_job(tmp_path: Path) -> None:
    """Wherever it stands."""
    rule = {"bucket": "b", "prefix": "p/", "local_path": "/etc", "direction": "upload"}
    with pytest.raises(DirectoryRefused):
        plan_of(job(sync={"after": [rule]}), config(tmp_path))


def test_what_is_fetched_counts_as_restored_only_if_it_is_kept_in_step(tmp_path: Path) -> None:
    """KELPIE_RESTORED is about checkpoints, not about input."""
    down = {"bucket": "b", "local_path": str(tmp_path / "x"), "direction": "download"}
    up = {"bucket": "b", "prefix": "steps/", "local_path": str(tmp_path / "x"), "direction": "upload"}
    sync = {"before": [{**down, "prefix": "steps/"}, {**down, "prefix": "corpus/"}], "during": [up]}
    plan = plan_of(job(sync=sync), config(tmp_path))
    assert [plan.restores(one) for one in plan.before] == [True, False]
