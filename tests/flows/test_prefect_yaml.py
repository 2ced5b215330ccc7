"""prefect.yaml, as the installed Prefect reads it."""

import re
from pathlib import Path

import pytest
import yaml
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.cli.deploy._triggers import _initialize_deployment_triggers
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from prefect.flows import load_flow_from_entrypoint

from flows.ui.server import POOL

ROOT = Path(__file__).parents[2]
MODEL = PrefectYamlModel.model_validate(yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8")))


def test_prefect_understands_every_deployment_of_the_project():
    assert [(each.entrypoint, each.name) for each in MODEL.deployments] == [
        ("flows.retrain.retrain", "retrain"),
        ("flows.approve.approve", "approve"),
        ("flows.backfill.backfill", "backfill"),
        ("flows.publish.publish", "publish"),
        ("flows.publish.rollback", "rollback"),
    ]
    for each in MODEL.deployments:
        assert (each.work_pool.name, each.work_pool.job_variables) == (POOL, {"stream_output": False})
        assert "csd" in each.tags
        assert all(f"**What it {verb}.**" in each.description for verb in ("does", "needs", "leaves"))


def test_the_retraining_is_scheduled_triggered_and_alone():
    retraining = MODEL.deployments[0]
    assert ConcurrencyLimitStrategy(retraining.concurrency_limit.collision_strategy).value == "CANCEL_NEW"
    assert retraining.concurrency_limit.limit == 1
    (schedule,) = retraining.schedules
    assert (schedule.cron, schedule.timezone) == ("0 3 * * *", "UTC")
    assert (schedule.slug, schedule.active) == ("nightly", None)
    (trigger,) = _initialize_deployment_triggers("retrain", retraining.triggers)
    assert trigger.expect == {"csd.data.task-added"}
    assert trigger.match.matches({"prefect.resource.id": "csd.inbox.batch-7"})
    assert not trigger.match.matches({"prefect.resource.id": "csd.release.0007"})


def test_the_deployments_hold_no_paths_of_a_machine():
    assert not re.findall(r"(?<![\w.>])/\w+", (ROOT / "prefect.yaml").read_text("utf-8").replace("`", ""))


@pytest.mark.parametrize("entrypoint", [each.entrypoint for each in MODEL.deployments])
def test_every_deployment_names_a_flow_that_prefect_finds_anywhere(entrypoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False).name == entrypoint.rpartition(".")[2]
