"""Checks k8s/kserve/ against the types of KServe's own Python SDK, which are generated from its published
schema, and prints how KServe would start the container, as JSON.

    kserve_manifests.py FOLDER
"""

import json
import pathlib
import sys

import kserve
import yaml
from kubernetes import client as kubernetes

KINDS = {
    "ClusterServingRuntime": kserve.models.V1alpha1ClusterServingRuntime,
    "InferenceService": kserve.models.V1beta1InferenceService,
}
SIMPLE = {"str": str, "int": int, "bool": bool, "float": (int, float)}


def main(folder):
    runtimes, services = {}, []
    for path in sorted(pathlib.Path(folder).glob("*.yaml")):
        for resource in yaml.safe_load_all(path.read_text()):
            if resource["kind"] == "Kustomization":
                continue
            assert resource["apiVersion"].startswith("serving.kserve.io/"), path
            check(resource, KINDS[resource["kind"]].__name__, f"{path.name}: ")
            if resource["kind"] == "ClusterServingRuntime":
                runtimes[resource["metadata"]["name"]] = resource["spec"]
            else:
                services.append(resource)
    # A value of a wrong type and a field that is not there are seen at all.
    for wrong in [{"multiModel": "no"}, {"protocols": []}]:
        try:
            check(wrong, "V1alpha1ServingRuntimeSpec", "")
        except AssertionError:
            continue
        raise AssertionError(f"{wrong} passed")
    starts = {}
    for service in services:
        model = service["spec"]["predictor"]["model"]
        chosen = [name for name, spec in runtimes.items() if fits(spec, model)]
        assert len(chosen) == 1, (service["metadata"]["name"], chosen)
    for name, spec in runtimes.items():
        [container] = [one for one in spec["containers"] if one["name"] == "kserve-container"]
        starts[name] = {
            # KServe's controller executes these as templates over the service's metadata.
            "args": [argument.replace("{{.Name}}", "birds") for argument in container["args"]],
            "env": {entry["name"]: entry["value"] for entry in container.get("env", [])},
            "user": container["securityContext"]["runAsUser"],
            "ports": [port["containerPort"] for port in container["ports"]],
            "probes": [container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")],
        }
    print(json.dumps(starts))


def fits(runtime, model):
    """KServe's rule: the format, selected by itself, and the protocol."""
    formats = [one for one in runtime["supportedModelFormats"] if one.get("autoSelect")]
    named = [one for one in formats if one["name"] == model["modelFormat"]["name"]]
    return named and model.get("protocolVersion", "v1") in runtime["protocolVersions"]


def check(value, kind, path):
    """Whether a value has the type that a model of the SDK, or of Kubernetes' own, says."""
    # The two generators write types in two ways.
    kind = kind.replace("List[", "list[").replace("Dict[", "dict(")
    if kind.startswith("dict(") and kind.endswith("]"):
        kind = kind[:-1] + ")"
    if kind.startswith("list["):
        assert isinstance(value, list), path
        for at, item in enumerate(value):
            check(item, kind[5:-1], f"{path}[{at}]")
    elif kind.startswith("dict("):
        assert isinstance(value, dict), path
        for key, item in value.items():
            assert isinstance(key, str), path
            check(item, kind[5:-1].split(", ")[1], f"{path}.{key}")
    elif kind in SIMPLE:
        assert isinstance(value, SIMPLE[kind]) and (kind == "bool" or not isinstance(value, bool)), (path, value, kind)
    elif kind in ("object", "ResourceQuantity", "IntstrIntOrString"):
        assert isinstance(value, (str, int, float)), (path, value)
    else:
        model = getattr(kserve.models, kind, None) or getattr(kubernetes, kind)
        types = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
        assert isinstance(value, dict), path
        for field, item in value.items():
            assert field in types, f"{path}.{field}: there is no such field in {model.__name__}"
            check(item, types[field], f"{path}.{field}")
        # The SDK itself refuses what is missing.
        if hasattr(model, "openapi_types") and model.__module__.startswith("kserve"):
            model(**{name: value.get(model.attribute_map[name]) for name in model.openapi_types})


if __name__ == "__main__":
    main(sys.argv[1])
