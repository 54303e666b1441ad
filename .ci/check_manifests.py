"""Checks a kustomize base: that it builds, that it fits the Kubernetes schemas, and that its parts fit together.

    check_manifests.py FOLDER

The build is kustomize's own where kubectl is installed. Elsewhere the resources are read one by one
with the generated ConfigMaps put in by hand, which leaves kustomize itself unchecked, and this is said.
"""

import pathlib
import re
import shutil
import subprocess
import sys

import kubernetes_validate
import yaml

# An old release that clusters still run, and the newest that the pinned package knows.
KUBERNETES = ["1.33", "1.37"]

# Between the end of the drain and the kernel's SIGKILL.
MARGIN_S = 5


def main(folder):
    resources = build(folder)
    faults = [fault for resource in resources for fault in schema_faults(resource)]
    faults += cross_faults(resources)
    for fault in faults:
        print(f"{folder}: {fault}", file=sys.stderr)
    if faults:
        sys.exit(1)
    print(f"{folder}: {len(resources)} resources, valid for Kubernetes {' and '.join(KUBERNETES)}")


def build(folder):
    if kubectl := shutil.which("kubectl"):
        text = subprocess.run([kubectl, "kustomize", folder], check=True, stdout=subprocess.PIPE).stdout
        return [resource for resource in yaml.safe_load_all(text) if resource]
    print(f"NOT CHECKED: no kubectl here, so kustomize did not build {folder}; reading its files one by one")
    return read(folder)


def read(folder):
    folder = pathlib.Path(folder)
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = kustomization.keys() - {"apiVersion", "kind", "resources", "configMapGenerator", "images"}
    if unknown:
        sys.exit(f"{folder}: reading by hand does not understand {', '.join(sorted(unknown))}: install kubectl")
    resources = [r for name in kustomization["resources"] for r in yaml.safe_load_all((folder / name).read_text())]
    for generator in kustomization.get("configMapGenerator", []):
        data = dict(literal.split("=", 1) for literal in generator["literals"])
        resources.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data})
    images = {image["name"]: f"{image['newName']}:{image['newTag']}" for image in kustomization.get("images", [])}
    for deployment in of_kind(resources, "Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            container["image"] = images.get(container["image"], container["image"])
    return resources


def schema_faults(resource):
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(step) for step in error.path)
            yield f"{name_of(resource)}: {path}: {error.message} (Kubernetes {version})"


def cross_faults(resources):
    names = {name_of(resource) for resource in resources}
    if len(names) != len(resources):
        yield "two resources have the same kind and name"
    deployments = of_kind(resources, "Deployment")
    if not deployments:
        yield "there is no Deployment"
    for deployment in deployments:
        yield from deployment_faults(deployment, resources)
    pods = [deployment["spec"]["template"] for deployment in deployments]
    for service in of_kind(resources, "Service"):
        yield from service_faults(service, pods)
    for budget in of_kind(resources, "PodDisruptionBudget"):
        if not any(selects(budget["spec"]["selector"]["matchLabels"], pod) for pod in pods):
            yield f"{name_of(budget)} selects no pod"


def deployment_faults(deployment, resources):
    name = name_of(deployment)
    template = deployment["spec"]["template"]
    pod = template["spec"]
    if not selects(deployment["spec"]["selector"]["matchLabels"], template):
        yield f"{name} does not select its own pods"
    if not pod.get("securityContext", {}).get("runAsNonRoot"):
        yield f"{name} may run as root"
    if pod.get("automountServiceAccountToken") is not False:
        yield f"{name} mounts a service account token"

    config_maps = {config["metadata"]["name"]: config.get("data", {}) for config in of_kind(resources, "ConfigMap")}
    for container in pod["containers"]:
        where = f"{name}, container {container['name']}"
        yield from confinement_faults(where, container.get("securityContext", {}))
        yield from probe_faults(where, container)
        _, _, tag = container["image"].rpartition(":")
        if tag != crate_version():
            yield f"{where}: the image is tagged {tag}, Cargo.toml says {crate_version()}"
        settings = {}
        for source in container.get("envFrom", []):
            wanted = source["configMapRef"]["name"]
            if wanted not in config_maps:
                yield f"{where} takes its environment from ConfigMap {wanted}, which is not there"
            settings |= config_maps.get(wanted, {})
        yield from drain_faults(where, settings, pod)


def confinement_faults(where, context):
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{where} may gain privileges"
    if not context.get("readOnlyRootFilesystem"):
        yield f"{where} can write to its root file system"
    if context.get("capabilities", {}).get("drop") != ["ALL"]:
        yield f"{where} keeps capabilities"


def probe_faults(where, container):
    ports = {port["name"] for port in container["ports"]}
    for probe, path in {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}.items():
        request = container.get(probe, {}).get("httpGet", {})
        if request.get("path") != path or request.get("port") not in ports:
            yield f"{where}: {probe} should ask a named port for {path}"


def drain_faults(where, settings, pod):
    drain = sum(seconds(settings.get(f"PATCHLIGHT_DRAIN_{part}", "")) for part in ("DELAY", "TIMEOUT"))
    if pod["terminationGracePeriodSeconds"] < drain + MARGIN_S:
        yield f"{where}: terminationGracePeriodSeconds leaves less than {MARGIN_S} s after a drain of {drain} s"


def service_faults(service, pods):
    chosen = [pod for pod in pods if selects(service["spec"]["selector"], pod)]
    if not chosen:
        yield f"{name_of(service)} selects no pod"
    for pod in chosen:
        names = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in names:
                yield f"{name_of(service)} leads to port {port['targetPort']}, which no container names"


def selects(labels, template):
    return labels.items() <= template["metadata"]["labels"].items()


def seconds(text):
    match = re.fullmatch(r"(\d+)s", text)
    if not match:
        sys.exit(f"expected a number of seconds such as 20s in the settings, found {text!r}")
    return int(match[1])


def crate_version():
    return re.search(r'^version = "(.+)"$', pathlib.Path("Cargo.toml").read_text(), re.MULTILINE)[1]


def of_kind(resources, kind):
    return [resource for resource in resources if resource["kind"] == kind]


def name_of(resource):
    return f"{resource['kind']} {resource['metadata']['name']}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
