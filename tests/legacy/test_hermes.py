"""The older orchestration service, agent coordinator and swarms: decided over what is registered, run, voted, or refused."""

import time
import uuid
from typing import Any

from tests.legacy.hermes_rows import REFUSED
from tests.legacy.installation import PATIENCE_SECONDS, Installation

STEP = {"does": "approve", "name": "ok", "question": "?", "within_seconds": 3600, "otherwise": "reject"}


def an_agent(installation: Installation, skill: str) -> str:
    """An agent of the operator's that can be called."""
    declared = {"id": skill, "name": skill, "description": "", "price": "0.1", "tags": ["inference"], "steps": [STEP]}
    return str(installation.ours("POST", "hermes/agents", {"name": skill, "skills": [declared]})["id"])


def test_the_nine_endpoints_say_what_is_so(installation: Installation) -> None:
    agent = an_agent(installation, f"inference-{uuid.uuid4().hex[:6]}")
    with installation.client("hermes") as client:
        assert client.get("/health").json() == {"status": "healthy", "service": "hermes-service"}
        assert client.get("/").json()["service"] == "AITBC Hermes Service"
        routed = client.post("/routing/skill", json={"skill_type": "inference"}).json()
        assert routed["selected_agent"]["agent_id"].startswith("agt_") and routed["estimated_cost"] > 0
        refused = client.post("/routing/skill", json={"skill_type": "training"})
        assert refused.status_code == 409
        job = {"task_type": "training", "model_size": "large", "batch_size": 100}
        found = client.post("/offloading/intelligent", json={"job_data": job}).json()
        assert found["should_offload"] and found["job_size"]["complexity"] == 1.0
        cost = found["cost_analysis"]
        assert abs(cost["local_cost"] - cost["aitbc_cost"] - cost["estimated_savings"]) < 1e-9
        private = client.post("/offloading/intelligent", json={"job_data": {**job, "privacy": "local-only"}}).json()
        assert (private["should_offload"], private["reason"]) == (False, "private")
        asked = {"job_data": {"task_type": "inference", "batch_size": 1000}}
        based = client.post("/offloading/intelligent", json=asked).json()
        assert (based["based_on"]["price"], based["cost_analysis"]["aitbc_cost"]) == (0.1, 0.1), "what the agents ask"
        other = an_agent(installation, f"other-{uuid.uuid4().hex[:6]}")
        together: dict[str, Any] = {"agent_ids": [agent, other], "task_data": {"subtasks": ["a", "b", "c"]}}
        split = client.post("/collaboration/coordinate", json=together).json()
        assert split["selected_coordinator"] in (agent, other) and not split["consensus_reached"]
        given = [
            part for parts in split["task_distribution"].values() for part in ([parts], parts)[isinstance(parts, list)]
        ]
        assert sorted(given) == ["a", "b", "c"]
        voting = f"/collaboration/{split['decision_id']}/votes"
        foreign = client.post(voting, json={"votes": {agent: True}})
        assert foreign.status_code == 403, "its owner votes for it, and nobody else"
        together["task_data"] |= {"decision_id": split["decision_id"], "votes": {agent: True, other: True}}
        assert client.post("/collaboration/coordinate", json=together).status_code == 403
        del together["task_data"]["votes"]
        for voter, reached in ((agent, False), (other, True)):
            with installation.client("hermes", key=installation.admin) as owner:
                assert owner.post(voting, json={"votes": {voter: True}}).status_code == 200
            stands = client.post("/collaboration/coordinate", json=together).json()
            assert (stands["decision_id"], stands["consensus_reached"]) == (split["decision_id"], reached), stands
        assert client.post("/collaboration/coordinate", json={"agent_ids": [agent]}).status_code == 422
        assert client.post("/collaboration/coordinate", json={"agent_ids": [agent, "nobody"]}).status_code == 404
        for strategy, ratio in (("performance", 0.3), ("cost", 0.1), ("balanced", 0.5)):
            plan = client.post("/execution/hybrid-optimize", json={"optimization_strategy": strategy}).json()[
                "strategy"
            ]
            assert plan["local_ratio"] == ratio and plan["local_ratio"] + plan["aitbc_ratio"] == 1
        assert client.post("/edge/deploy", json={"agent_id": agent}).status_code == 422
        asking = {"agent_id": agent, "edge_locations": ["eu-central"]}
        assert client.post("/edge/deploy", json=asking).status_code == 404, "it is somebody else's"
        assert client.post("/ecosystem/develop", json={}).json()["marketplace"]["agents"] >= 2


def test_the_agent_coordinator_keeps_agents_and_tasks(installation: Installation) -> None:
    name = f"worker-{uuid.uuid4().hex[:6]}"
    body = {"agent_id": name, "agent_type": "worker", "capabilities": ["a"], "services": ["s"], "endpoints": {}}
    with installation.client("hermes") as client:
        for _ in range(2):
            made = client.post("/agents/register", json=body | {"metadata": {}})
            assert (made.status_code, made.json()["agent_id"], made.json()["status"]) == (201, name, "active")
        found = client.post("/agents/discover", json={"status": "active"}).json()
        (mine,) = [one for one in found["agents"] if one["agent_id"] == name]
        assert (mine["capabilities"], mine["services"], mine["agent_type"]) == (["a"], ["s"], "worker")
        assert found["count"] == len(found["agents"])
        assert client.get(f"/agents/{name}").json()["agent_id"] == name
        assert client.get("/agents/nobody").status_code == 404
        put = client.put(f"/agents/{name}/status", json={"status": "inactive", "load_metrics": {}})
        assert (put.status_code, put.json()["status"]) == (200, "inactive")
        installation.fund()
        wish = {"task_data": {"model": "", "prompt": "Hello", "parameters": {"max_tokens": 9}}}
        sent = client.post("/tasks/submit", json=wish)
        assert sent.status_code == 201, sent.text
        listed = client.get("/tasks", params={"limit": 20}).json()
        [own] = [one for one in listed if one["job_id"] == sent.json()["job_id"]]
        assert {"model", "status"} <= own.keys()
        assert client.get("/tasks/status").json()["queued"] >= 1


def test_workflows_run_as_agents_do(installation: Installation) -> None:
    installation.fund()
    name = f"flow-{uuid.uuid4().hex[:6]}"
    steps = {"second": {"type": "embed"}, "first": {"type": "embed"}}
    body = {"name": name, "workflow_id": name, "steps": steps, "dependencies": {"second": ["first"]}}
    with installation.client("coordinator") as client, installation.miner():
        made = client.post("/api/v1/agents/workflows", json=body | {"max_cost_budget": 0.2})
        assert (made.status_code, made.json()["id"]) == (201, name), made.text
        assert list(made.json()["steps"]) == ["first", "second"]
        circle = body | {"workflow_id": "x", "dependencies": {"second": ["first"], "first": ["second"]}}
        assert client.post("/api/v1/agents/workflows", json=circle).status_code == 422
        assert name in {one["id"] for one in client.get("/api/v1/agents/workflows?limit=50").json()}
        begun = client.post(f"/api/v1/agents/workflows/{name}/execute", json={"inputs": {"prompt": "Hello"}})
        assert begun.status_code == 202, begun.text
        run, end = begun.json()["id"], time.monotonic() + PATIENCE_SECONDS
        while (found := client.get(f"/api/v1/agents/executions/{run}").json())["status"] == "running":
            assert time.monotonic() < end, found
            time.sleep(0.1)
        assert (found["status"], found["progress"], found["total_steps"]) == ("completed", 100, 2)
        receipt = client.get(f"/api/v1/agents/executions/{run}/receipt").json()
        assert client.post("/api/v1/agents/receipts/verify", json={"receipt": receipt}).json() == {"valid": True}
        receipt["statement"]["spent"] = "0"
        assert client.post("/api/v1/agents/receipts/verify", json={"receipt": receipt}).json() == {"valid": False}
        network = {"name": name, "description": "", "agents": [name], "coordination_strategy": "centralized"}
        kept = client.post("/api/v1/agents/networks", json=network)
        assert kept.status_code == 201, kept.text
        path = f"/api/v1/agents/networks/{kept.json()['id']}"
        assert client.post(f"{path}/execute", json={"task": {"name": "x", "payload": "y"}}).status_code == 202
        assert client.get(f"{path}/status").json()["executions"] == 1
        by_cost = client.post(f"{path}/optimize", json={"objective": "cost"}).json()
        assert (by_cost["objective"], len(by_cost["order"])) == ("cost", 1)
        assert client.post(f"{path}/optimize", json={"objective": "beauty"}).status_code == 422
        assert client.get(f"{path}/status").json()["name"] == name
        sent = client.post("/api/v1/agents/contributions", json={"type": "code", "description": "better"})
        assert sent.status_code == 201 and sent.json()["id"]
        for case, (_, method, asked, _) in REFUSED.items():
            answer = client.request(method, f"{asked}?x=1", json={} if method == "POST" else None)
            assert answer.status_code == 501, (case, answer.text)
        listed = client.get("/agents", params={"limit": 50}).json()
        assert name in {one["agent_id"] for one in listed}
        assert client.get(f"/agents/{name}/reputation").json()["completed"] == 0
        assert client.get(f"/agents/{name}/balance").json()["balance"] > 0
        older = {"agent_id": f"{name}-2", "agent_type": "provider", "capabilities": "a,b", "initial_reputation": 1.0}
        assert client.post("/agents/register", json=older | {"region": "eu"}).status_code == 201


def test_a_swarm_agrees_where_its_members_voted_so(installation: Installation) -> None:
    region = uuid.uuid4().hex[:6]
    _, key = installation.resident("member")
    with installation.client("coordinator") as one, installation.client("coordinator", key) as other:
        join = {"role": "monitor", "capability": "x", "priority": "low", "region": region}
        joined = one.post("/swarm/join", json=join)
        assert (joined.status_code, joined.json()["status"]) == (201, "joined")
        other.post("/swarm/join", json=join)
        swarm = joined.json()["swarm_id"]
        (mine,) = one.get("/swarm/list", params={"limit": 20, "swarm_id": swarm}).json()
        assert mine["members"] == 2
        wish = {"task": "agree", "collaborators": 2, "strategy": "consensus", "timeout_seconds": 600}
        task = one.post("/swarm/coordinate", json=wish)
        assert task.status_code == 202, task.text
        path = f"/swarm/tasks/{task.json()['task_id']}"
        told = one.get(f"{path}/status").json()
        assert (told["progress"], told["total_collaborators"]) == (0, 2)
        assert one.post(f"{path}/votes", json={"agree": True}).status_code == 201
        asked = {"consensus_threshold": 0.7}
        assert not one.post(f"{path}/consensus", json=asked).json()["consensus_reached"]
        assert other.post(f"{path}/votes", json={"agree": True}).status_code == 201
        assert one.post(f"{path}/consensus", json=asked).json()["consensus_reached"]
        assert one.get(f"{path}/status").json()["status"] == "completed"
        assert one.post("/swarm/coordinate", json=wish | {"collaborators": 900}).status_code == 409
        assert other.post(f"/swarm/{swarm}/leave").json()["status"] == "left"
        assert other.post("/swarm/nothing/leave").status_code == 404


def test_agents_are_deployed_to_edges_with_a_status_for_each_location(installation: Installation) -> None:
    agent = f"near-{uuid.uuid4().hex[:6]}"
    flow = {"name": agent, "workflow_id": agent, "steps": {"v": {"type": "embed"}}, "max_cost_budget": 0.2}
    with installation.client("coordinator") as client:
        assert client.post("/api/v1/agents/workflows", json=flow).status_code == 201
    body = {"agent_id": agent, "edge_locations": ["us-west", "atlantis"], "deployment_config": {}}
    with installation.client("hermes") as client:
        made = client.post("/edge/deploy", json=body).json()
        assert [one["location"] for one in made["deployment_results"]] == ["us-west", "atlantis"]
        assert {one["deployment_status"] for one in made["deployment_results"]} == {"no_edge"}
        assert made["status"] == "waiting_for_edges"
        wish = {"edge_deployment_id": made["deployment_id"], "coordination_config": {"failover": "active_passive"}}
        kept = client.post("/edge/coordinate", json=wish).json()
        assert kept["load_balancing"]["balancing_algorithm"] == "active_passive"
        again = client.post("/edge/coordinate", json={"edge_deployment_id": made["deployment_id"]}).json()
        assert again["load_balancing"]["balancing_algorithm"] == "active_passive", "it is kept"
        assert client.post("/edge/coordinate", json={"edge_deployment_id": "deployment_123"}).status_code == 404
        assert client.post("/edge/deploy", json=body | {"agent_id": "nobody"}).status_code == 404
    with installation.client("coordinator") as client:
        older = {"agent_id": agent, "region": "us-west", "instances": 2, "instance_type": "x", "auto_scale": False}
        deployed = client.post("/hermes/deploy", json=older)
        assert deployed.status_code == 202 and deployed.json()["id"].startswith("dep_")
        assert client.post("/hermes/deploy", json=older | {"auto_scale": True}).status_code == 501
        wide = {"agent_id": agent, "locations": "us-west,eu-central", "strategy": "latency", "replicas": 1}
        assert client.post("/hermes/edge/deploy", json=wide).status_code == 202
        path = f"/hermes/deployments/{deployed.json()['id']}"
        assert client.get(f"{path}/metrics?metrics=all").json()["metrics"]["served"] == 0
        assert client.get(f"{path}/status").json()["instances"] == 0
        assert client.post(f"{path}/scale", json={"instances": 3}).status_code == 200
        routing = path.replace("/hermes/", "/hermes/routing/")
        assert (
            client.post(f"{routing}/optimize", json={"algorithm": "load-balanced"}).json()["routing"] == "round_robin"
        )
        assert client.post(f"{routing}/optimize", json={"algorithm": "cost-based"}).status_code == 501
        assert client.get(f"{routing}/status").json()["routing"] == "round_robin"
        assert client.get("/hermes/edge/resources", params={"location": "us-west"}).json()["count"] == 0
        assert client.delete(path).json()["status"] == "terminated"
