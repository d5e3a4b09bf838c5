"""Check Kubernetes resources: each by its schema, as a cluster does, and all of them together.

The schemas are those of Kubernetes itself, from kubernetes-validate, and KEDA's, from keda_schemas.json. Both are
strict: a field that the cluster does not know, such as a misspelled one, is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

KUBERNETES = "1.37"
STOP_SECONDS = 15
"""How much longer a pod may take to end than its running jobs."""

Resource = dict[str, Any]


class ResourceError(Exception):
    """A resource is one that a cluster would refuse, or does not fit the others."""


def check_resource(resource: Resource) -> None:
    """Raise ResourceError unless a cluster would take this resource."""
    kind, version = resource.get("kind"), resource.get("apiVersion")
    if not kind or not version:
        raise ResourceError("a resource needs a kind and an apiVersion")
    if not re.fullmatch("[a-z0-9]([a-z0-9.-]*[a-z0-9])?", str(resource.get("metadata", {}).get("name"))):
        raise ResourceError(f"{kind}: its name is not valid")
    if str(version).startswith("keda.sh/"):
        _check_keda(resource)
    else:
        _check_kubernetes(resource)


def _check_kubernetes(resource: Resource) -> None:
    import kubernetes_validate  # here: it takes a second

    try:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)
    except kubernetes_validate.SchemaNotFoundError as error:
        raise ResourceError(f"{resource['kind']} is not of apiVersion {resource['apiVersion']!r}") from error
    except kubernetes_validate.ValidationError as error:
        raise ResourceError(f"{resource['kind']}: {_where(error.path)}{error.message}") from error


def _check_keda(resource: Resource) -> None:
    import jsonschema

    schema = _keda_schemas().get(resource["kind"])
    if schema is None:
        raise ResourceError(f"no check for {resource['kind']} of {resource['apiVersion']}")
    try:
        jsonschema.validate(resource, schema)
    except jsonschema.ValidationError as error:
        best = jsonschema.exceptions.best_match([error])
        raise ResourceError(f"{resource['kind']}: {_where(best.absolute_path)}{best.message}") from error


@cache
def _keda_schemas() -> dict[str, Any]:
    schemas: dict[str, Any] = json.loads(Path(__file__).with_name("keda_schemas.json").read_text(encoding="utf-8"))
    return schemas


def _where(path: Sequence[Any]) -> str:
    return f"{'.'.join(map(str, path))}: " if path else ""


def containers(value: Any) -> Iterator[Resource]:
    """Yield all containers in a resource."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("containers", "initContainers"):
                yield from inner
            else:
                yield from containers(inner)


def command_of(container: Resource) -> list[str]:
    """Return the command of a container, with --option=value as two words; empty for that of its image."""
    words = [*container.get("command", []), *container.get("args", [])]
    return [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]


def check_commands(resource: Resource, check: Callable[[list[str]], None]) -> None:
    """Call `check` with each `jobq` command in a resource, and see that the pod has the time that it takes to stop."""
    for container in containers(resource):
        command = command_of(container)
        if command[:1] != ["jobq"]:
            continue
        check(command)
        if command[1] in ("worker", "server"):
            allowed = _pod(resource).get("terminationGracePeriodSeconds", 30)
            wanted = _option(command, "--stop-timeout", 30) + STOP_SECONDS
            if allowed < wanted:
                raise ResourceError(f"terminationGracePeriodSeconds must be {wanted:g} or more, not {allowed}")


def check_together(resources: Sequence[Resource]) -> None:
    """Raise ResourceError for selectors, ports, targets and mounts that lead nowhere."""
    deployments = {each["metadata"]["name"]: each for each in resources if each["kind"] == "Deployment"}
    for resource in resources:
        kind, name, spec = resource["kind"], resource["metadata"]["name"], resource["spec"]
        if kind == "Deployment":
            _check_pod(resource)
            _labels_must_match(name, spec["selector"]["matchLabels"], [resource])
        elif kind == "PodDisruptionBudget":
            _labels_must_match(name, spec["selector"]["matchLabels"], deployments.values())
        elif kind == "Service":
            target = _labels_must_match(name, spec["selector"], deployments.values())
            for port in spec["ports"]:
                _must_be(port["targetPort"], _ports(target), f"the targetPort of Service {name}")
        elif kind == "ScaledObject":
            _must_be(spec["scaleTargetRef"]["name"], deployments, f"the target of ScaledObject {name}")
            if "replicas" in deployments[spec["scaleTargetRef"]["name"]]["spec"]:
                raise ResourceError(f"Deployment {name}: each apply would undo what KEDA scaled; remove replicas")
            own = {each["metadata"]["name"] for each in resources if each["kind"] == "TriggerAuthentication"}
            for trigger in spec["triggers"]:
                _must_be(trigger["authenticationRef"]["name"], own, f"the authentication of ScaledObject {name}")


def _pod(resource: Resource) -> Resource:
    pod: Resource = resource.get("spec", {}).get("template", {}).get("spec", {})
    return pod


def _option(command: Sequence[str], flag: str, default: float) -> float:
    return float(command[command.index(flag) + 1]) if flag in command else default


def _labels_must_match(name: str, wanted: Resource, deployments: Any) -> Resource:
    for deployment in deployments:
        if wanted.items() <= deployment["spec"]["template"]["metadata"]["labels"].items():
            found: Resource = deployment
            return found
    raise ResourceError(f"the selector of {name} selects no pods")


def _ports(deployment: Resource) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for each in containers(deployment) for port in each.get("ports", [])}


def _must_be(value: Any, known: Any, what: str) -> None:
    if value not in known:
        raise ResourceError(f"{what} is {value!r}; there are {', '.join(map(str, known)) or 'none'}")


def _check_pod(deployment: Resource) -> None:
    name, ports = deployment["metadata"]["name"], _ports(deployment)
    volumes = [volume["name"] for volume in _pod(deployment).get("volumes", [])]
    if _pod(deployment).get("securityContext", {}).get("runAsNonRoot") is not True:
        raise ResourceError(f"Deployment {name} may run as root")
    for container in containers(deployment):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                port = container[probe]["httpGet"]["port"]
                _must_be(port, ports, f"the port of the {probe} of {name}")
                if ports[port] == int(_option(command_of(container), "--port", 0)):
                    raise ResourceError(f"the {probe} of {name} calls by address, which the dashboard does not answer")
        for mount in container.get("volumeMounts", []):
            _must_be(mount["name"], volumes, f"a volume of {name}")
        command = command_of(container)
        if "--metrics-port" in command and int(_option(command, "--metrics-port", 0)) not in ports.values():
            raise ResourceError(f"Deployment {name}: no port of the container is its --metrics-port")
        if "--metrics-port" in command and "--metrics-host" not in command:
            raise ResourceError(f"Deployment {name}: probes do not reach 127.0.0.1; set --metrics-host 0.0.0.0")
