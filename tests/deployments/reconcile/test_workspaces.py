"""Workspaces: what the reconciler makes of a wish, and what it tells, on a cluster in memory."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.clusters.port import Observation
from deployments.serving.models import DeletionReceipt
from deployments.serving.spec import WorkspaceSpec
from deployments.workspaces.models import Workspace
from marketplace.ids import make_public_id
from tests.deployments.reconcile.workloads import RESOURCES, World
from tests.frameworks import add_framework

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def workspace(world: World) -> Workspace:
    public_id = make_public_id("wsp")
    spec = WorkspaceSpec(
        resource=public_id,
        organization=world.organization.public_id,
        image="marketplace/workspace-pytorch:test",
        resources=RESOURCES,
        volume_gib=5,
    )
    return Workspace.objects.create(
        public_id=public_id,
        organization=world.organization,
        name="lab",
        framework=add_framework(),
        flavor=world.market.flavor,
        cluster=world.row,
        price=world.market.price,
        volume_gib=5,
        spec=spec.to_json(),
        token_hash="a" * 64,
        created_at=world.clock.now(),
    )


def kinds(seen: Observation) -> list[str]:
    return sorted(item.ref.kind for item in seen.objects if item.resource)


def start(world: World, workspace: Workspace) -> None:
    world.settle()
    world.clock.advance(20)
    world.cluster.make_ready(workspace.public_id)
    world.settle()
    workspace.refresh_from_db()


def pause(world: World, workspace: Workspace) -> None:
    world.wish(workspace, desired_state="paused", stop_requested_at=world.clock.now())


def condition(workspace: Workspace) -> tuple[str, str]:
    found: dict[str, Any] = workspace.conditions[0]
    return found["reason"], found["message"]


def test_it_makes_a_volume_a_server_and_an_address(world: World, workspace: Workspace):
    world.settle()
    workspace.refresh_from_db()

    assert kinds(world.cluster.observe()) == ["Deployment", "PersistentVolumeClaim", "Service"]
    assert workspace.state == "pending"


def test_it_runs_once_its_server_answers(world: World, workspace: Workspace):
    start(world, workspace)

    assert workspace.state == "running"
    assert condition(workspace) == ("Serving", "The notebook server answers.")
    assert workspace.explanation is None
    assert world.events(workspace) == ["Running"]


def test_paused_means_that_nothing_but_the_volume_is_left(world: World, workspace: Workspace):
    start(world, workspace)
    pause(world, workspace)

    world.settle()
    workspace.refresh_from_db()
    assert workspace.state == "running"
    assert condition(workspace)[0] == "Stopping"

    world.cluster.let_go()
    world.settle()
    workspace.refresh_from_db()
    assert workspace.state == "paused"
    assert kinds(world.cluster.observe()) == ["PersistentVolumeClaim"]


def test_it_resumes_on_the_same_volume(world: World, workspace: Workspace):
    world.cluster.lingers = False
    start(world, workspace)
    before = [item.uid for item in world.cluster.observe().objects if "Claim" in item.ref.kind]
    pause(world, workspace)
    world.settle()

    world.resume(workspace)
    start(world, workspace)

    assert workspace.state == "running"
    assert [item.uid for item in world.cluster.observe().objects if "Claim" in item.ref.kind] == before
    assert world.events(workspace) == ["Running", "Paused", "WaitingForCapacity", "Running"]


def test_it_is_billed_from_the_first_answer_to_the_request_to_pause(world: World, workspace: Workspace):
    began = world.clock.now()
    start(world, workspace)
    world.clock.advance(60)
    pause(world, workspace)
    world.settle()
    world.clock.advance(5)
    world.cluster.let_go()
    world.settle()

    billed = [item for item in world.usage(workspace, since=began) if item[1] == "customer"]
    assert [(phase, end - start) for phase, _, start, end in billed] == [("serving", 60.0)]


def test_a_pause_that_was_over_before_anybody_could_look_is_not_billed(world: World, workspace: Workspace):
    start(world, workspace)
    began = world.clock.now()
    world.clock.advance(60)
    pause(world, workspace)
    world.clock.advance(30)
    world.resume(workspace)
    world.clock.advance(60)
    pause(world, workspace)
    world.settle()
    world.cluster.let_go()
    world.settle()

    billed = [item[2:] for item in world.usage(workspace, since=began) if item[1] == "customer"]
    assert billed == [(0, 60), (90, 150)]


def test_another_token_changes_the_server_and_not_the_volume(world: World, workspace: Workspace):
    start(world, workspace)
    world.cluster.writes.clear()

    world.wish(workspace, token_number=2, token_hash="b" * 64)
    world.settle()

    assert [write.split("/")[0].split()[:2] for write in world.cluster.writes] == [["apply", "Deployment"]]


def test_a_deletion_takes_the_volume_too_and_is_receipted(world: World, workspace: Workspace):
    start(world, workspace)
    world.delete(workspace)  # type: ignore[arg-type]

    world.settle()
    workspace.refresh_from_db()
    assert (workspace.state, workspace.deleted_at) == ("deleting", None)

    world.cluster.let_go()
    world.settle()
    workspace.refresh_from_db()
    assert workspace.state == "deleted"
    assert kinds(world.cluster.observe()) == []
    assert DeletionReceipt.objects.get().resource == workspace.public_id


def test_a_settled_workspace_causes_no_writes(world: World, workspace: Workspace):
    start(world, workspace)
    world.cluster.writes.clear()

    assert world.look().rung == []
    assert world.cluster.writes == []
