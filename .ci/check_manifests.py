"""Checks k8s/: that everything builds, fits the Kubernetes schemas, fits together, and fits the program.

    check_manifests.py [--program PATH]

Built are the base, every overlay, and every component put on the base. With --program the settings are
shown to the program itself, and a running one is asked what the probes would ask.
"""

import argparse
import base64
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request

import kubernetes_validate
import yaml

# An old release that clusters still run, and the newest that the pinned package knows.
KUBERNETES = ["1.33", "1.37"]

# Types of operators, which the Kubernetes schemas do not have.
FOREIGN = {"PodMonitor", "PrometheusRule", "ScaledObject"}

# Between the end of the drain and the kernel's SIGKILL.
MARGIN_S = 5

# What these files take for granted is there from this release of kustomize on (`components`, `patches`).
OLDEST_KUSTOMIZE = 4

K8S = pathlib.Path("k8s")


def main(program):
    if error := unable():
        print(f"NOT CHECKED: {error}, so nothing of k8s/ could be built")
        # Under CI everything that checks need is installed.
        sys.exit(1 if "CI" in os.environ else 0)
    faults = []
    settings = {}
    for name, resources in builds():
        found = [fault for resource in resources for fault in schema_faults(resource)]
        found += cross_faults(resources)
        faults += [f"{name}: {fault}" for fault in found]
        settings[name] = settings_of(resources)
        print(f"{name}: {len(resources)} resources, checked against Kubernetes {' and '.join(KUBERNETES)}")
    if program:
        faults += program_faults(program, settings)
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        sys.exit(1)


def unable():
    if not shutil.which("kubectl"):
        return "there is no kubectl here"
    version = subprocess.run(["kubectl", "version", "--client"], text=True, stdout=subprocess.PIPE).stdout
    kustomize = re.search(r"Kustomize Version: v(\d+)", version)
    if not kustomize or int(kustomize[1]) < OLDEST_KUSTOMIZE:
        return f"this kubectl carries no kustomize of version {OLDEST_KUSTOMIZE} or newer"


def builds():
    for folder in [K8S / "base", *sorted((K8S / "overlays").iterdir())]:
        yield str(folder), build(folder)
    yield str(K8S / "jobs"), build(K8S / "jobs")
    for component in [*sorted((K8S / "components").iterdir()), K8S / "monitoring"]:
        # Inside k8s/, since kustomize follows no path out of a repository.
        with tempfile.TemporaryDirectory(dir=K8S) as folder:
            together = {"resources": ["../base"], "components": [os.path.relpath(component, folder)]}
            (pathlib.Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(together))
            yield f"base with {component}", build(folder)


def build(folder):
    text = subprocess.run(["kubectl", "kustomize", folder], check=True, stdout=subprocess.PIPE).stdout
    return [resource for resource in yaml.safe_load_all(text) if resource]


def schema_faults(resource):
    if resource["kind"] in FOREIGN:
        return
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
    jobs = of_kind(resources, "Job")
    if not deployments and not jobs:
        yield "there is neither a Deployment nor a Job"
    for job in jobs:
        yield from job_faults(job)
    for deployment in deployments:
        yield from deployment_faults(deployment, resources)
    pods = [deployment["spec"]["template"] for deployment in deployments]
    for service in of_kind(resources, "Service"):
        yield from service_faults(service, pods)
    for budget in of_kind(resources, "PodDisruptionBudget"):
        if not any(selects(budget["spec"]["selector"]["matchLabels"], pod) for pod in pods):
            yield f"{name_of(budget)} selects no pod"
    for policy in of_kind(resources, "NetworkPolicy"):
        yield from policy_faults(policy, pods)
    for ingress in of_kind(resources, "Ingress"):
        yield from ingress_faults(ingress, of_kind(resources, "Service"))
    for monitor in of_kind(resources, "PodMonitor"):
        chosen = [pod for pod in pods if selects(monitor["spec"]["selector"]["matchLabels"], pod)]
        ports = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
        if not chosen or any(not ports <= port_names(pod) for pod in chosen):
            yield f"{name_of(monitor)} finds no pod with ports {sorted(ports)}"
    for scaler in of_kind(resources, "HorizontalPodAutoscaler") + of_kind(resources, "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]["name"]
        scaled = [deployment for deployment in deployments if deployment["metadata"]["name"] == target]
        if not scaled:
            yield f"{name_of(scaler)} scales {target}, which is not there"
        for deployment in scaled:
            if "replicas" in deployment["spec"]:
                yield f"{name_of(deployment)} sets replicas, which belong to {name_of(scaler)}"
        yield from metric_faults(scaler)


def metric_faults(scaler):
    text = yaml.safe_dump(scaler)
    documented = pathlib.Path("docs/metrics.md").read_text()
    wanted = set(re.findall(r"patchlight_[a-z_]+", text))
    if not wanted:
        yield f"{name_of(scaler)} follows no metric of the program"
    for metric in wanted:
        if f"`{metric}`" not in documented:
            yield f"{name_of(scaler)} follows {metric}, which the program does not have"


def policy_faults(policy, pods):
    chosen = [pod for pod in pods if selects(policy["spec"]["podSelector"]["matchLabels"], pod)]
    if not chosen:
        yield f"{name_of(policy)} is about no pod"
    for rule in policy["spec"].get("ingress", []):
        for port in rule.get("ports", []):
            if any(port["port"] not in port_names(pod) for pod in chosen):
                yield f"{name_of(policy)} lets in port {port['port']}, which no container names"


def ingress_faults(ingress, services):
    ports = {(service["metadata"]["name"], port["name"]) for service in services for port in service["spec"]["ports"]}
    for rule in ingress["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            backend = path["backend"]["service"]
            if (backend["name"], backend["port"]["name"]) not in ports:
                yield f"{name_of(ingress)} leads {path['path']} to a service that is not there"
            if path["path"].startswith(("/metrics", "/healthz", "/readyz")):
                yield f"{name_of(ingress)} shows {path['path']} to everybody"


def deployment_faults(deployment, resources):
    name = name_of(deployment)
    template = deployment["spec"]["template"]
    pod = template["spec"]
    if not selects(deployment["spec"]["selector"]["matchLabels"], template):
        yield f"{name} does not select its own pods"
    yield from pod_faults(name, pod)

    config_maps = {config["metadata"]["name"] for config in of_kind(resources, "ConfigMap")}
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in pod["containers"] + pod.get("initContainers", []):
        where = f"{name}, container {container['name']}"
        yield from container_faults(where, container, volumes)
        for source in container.get("envFrom", []):
            if source["configMapRef"]["name"] not in config_maps:
                yield f"{where} takes its environment from ConfigMap {source['configMapRef']['name']}, which is not there"
        if container["name"] == "patchlight":
            yield from probe_faults(where, container)
            version = container["image"].rpartition(":")[2].removesuffix("-cuda")
            if version != crate_version():
                yield f"{where}: the image is tagged {version}, Cargo.toml says {crate_version()}"
            yield from drain_faults(where, settings_of(resources), pod)
            yield from file_faults(where, settings_of(resources), container)


def pod_faults(name, pod):
    if not pod.get("securityContext", {}).get("runAsNonRoot"):
        yield f"{name} may run as root"
    if pod.get("securityContext", {}).get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield f"{name} has no seccomp profile"
    if pod.get("automountServiceAccountToken") is not False:
        yield f"{name} mounts a service account token"


def container_faults(where, container, volumes):
    yield from confinement_faults(where, container.get("securityContext", {}))
    if "memory" not in container.get("resources", {}).get("limits", {}):
        yield f"{where} has no memory limit"
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in volumes:
            yield f"{where} mounts volume {mount['name']}, which is not there"


def job_faults(job):
    name = name_of(job)
    pod = job["spec"]["template"]["spec"]
    yield from pod_faults(name, pod)
    for container in pod["containers"]:
        where = f"{name}, container {container['name']}"
        yield from container_faults(where, container, {volume["name"] for volume in pod.get("volumes", [])})
        values = {variable["name"]: variable["value"] for variable in container.get("env", [])}
        if values.get("PATCHLIGHT_SHARD_COUNT") != str(job["spec"]["completions"]):
            yield f"{where}: PATCHLIGHT_SHARD_COUNT is not the number of completions"
        yield from file_faults(where, values, container)


def settings_of(resources):
    """The environment of the container that runs the program."""
    maps = {config["metadata"]["name"]: config.get("data", {}) for config in of_kind(resources, "ConfigMap")}
    settings = {}
    for deployment in of_kind(resources, "Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            if container["name"] == "patchlight":
                for source in container.get("envFrom", []):
                    settings |= maps.get(source["configMapRef"]["name"], {})
    return settings


def file_faults(where, settings, container):
    """Every file that a setting names lies in something that is mounted, or in the image."""
    mounted = tuple(mount["mountPath"] + "/" for mount in container.get("volumeMounts", []))
    for name, value in settings.items():
        if value.startswith("/") and not value.startswith((*mounted, "/usr/local/share/patchlight/")):
            yield f"{where}: {name} names {value}, which nothing mounts"


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
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in port_names(pod):
                yield f"{name_of(service)} leads to port {port['targetPort']}, which no container names"


def port_names(pod):
    return {port["name"] for container in pod["spec"]["containers"] for port in container.get("ports", [])}


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


def program_faults(program, settings):
    """What only the program can say: which settings it knows and takes, and what the probes' paths answer."""
    known = set(re.findall(r"PATCHLIGHT_[A-Z_]+", ask(program, ["serve", "--help"], {}).stdout))
    with tempfile.TemporaryDirectory() as folder:
        stand_in = stand_ins(pathlib.Path(folder))
        for name, values in settings.items():
            yield from (f"{name}: the program has no setting {setting}" for setting in sorted(values.keys() - known))
            # An address that it refuses keeps it from starting, and must be all that it refuses.
            shown = {setting: stand_in(setting, value) for setting, value in values.items()}
            refused = ask(program, ["serve"], shown | {"PATCHLIGHT_LISTEN": "nowhere"})
            lines = [line for line in refused.stderr.splitlines() if "--" in line]
            if refused.returncode != 64 or any("--listen" not in line for line in lines):
                yield f"{name}: the program does not take these settings: {refused.stderr.strip()}"
        yield from classify_faults(program)
        base = {setting: stand_in(setting, value) for setting, value in settings["k8s/base"].items()}
        with running(program, base | {"PATCHLIGHT_LISTEN": "127.0.0.1:0"}) as address:
            for path in ["/readyz", "/healthz", "/metrics"]:
                with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as answer:
                    if answer.status != 200:
                        yield f"the program answers {path} with {answer.status}"
    print("the program knows and takes all settings; /readyz, /healthz and /metrics answer")


def classify_faults(program):
    """Whether the program takes the Job's arguments and variables: without its volumes it misses the list."""
    for job in of_kind(build(K8S / "jobs"), "Job"):
        for container in job["spec"]["template"]["spec"]["containers"]:
            values = {variable["name"]: variable["value"] for variable in container["env"]}
            answer = ask(program, container["args"], values | {"PATCHLIGHT_MODEL": "models/demo", "JOB_COMPLETION_INDEX": "7"})
            if answer.returncode != 2 or "/images/list.txt: No such file" not in answer.stderr:
                yield f"{name_of(job)}: the program does not take its arguments: {answer.stderr.strip()}"


def stand_ins(folder):
    """Files in place of those that only a cluster has."""
    keys = folder / "keys"
    keys.write_text(base64.b64encode(bytes(range(32))).decode() + "\n")
    address = folder / "address"
    address.write_text("redis://:password@127.0.0.1:6379\n")

    def stand_in(setting, value):
        if not value.startswith("/"):
            return value
        if setting == "PATCHLIGHT_MODEL":
            return str(pathlib.Path("models/demo").absolute())
        return str(address if setting == "PATCHLIGHT_ATTENTION_STORE_FILE" else keys)

    return stand_in


def ask(program, arguments, settings):
    return subprocess.run([program, *arguments], env=environment(settings), text=True, capture_output=True, timeout=120)


def environment(settings):
    return {name: value for name, value in os.environ.items() if not name.startswith("PATCHLIGHT_")} | settings


@contextlib.contextmanager
def running(program, settings):
    server = subprocess.Popen([program, "serve"], env=environment(settings), text=True, stderr=subprocess.PIPE)
    try:
        said = []
        for line in server.stderr:
            said.append(line)
            if found := re.search(r"listening on http://([0-9.:]+)", line):
                break
        else:
            sys.exit("the program did not start with the settings of k8s/base:\n" + "".join(said))
        yield found[1]
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", help="a built patchlight")
    main(parser.parse_args().program)
