"""The manifests for Kubernetes: that they are valid, and that they agree with the process that they start.

They are never applied to a cluster here.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from app.cluster.settings import ClusterSettings
from app.settings import Settings
from app.telemetry.metrics import Metrics
from tests.servers import serving

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("base", *(f"overlays/{name}" for name in ("gpu", "monitoring", "kserve", "ray")))
# Kinds that Kubernetes itself has no schema for.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "InferenceService", "RayService"}
STORE_IMAGE = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../base]
components: [../components/store-image]
"""

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, which resolves the overlays"),
]


def rendered(folder):
    """The manifests that `kubectl apply -k` would send."""
    done = subprocess.run([shutil.which("kubectl"), "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(manifests, kind):
    (found,) = [each for each in manifests if each["kind"] == kind]
    return found


@pytest.fixture(scope="module")
def base():
    return rendered(KUBERNETES / "base")


@pytest.fixture(scope="module")
def pod(base):
    return of_kind(base, "Deployment")["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def environment(base):
    return of_kind(base, "ConfigMap")["data"]


def check(manifests):
    """Validate manifests strictly: no property that Kubernetes does not know."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate: make cluster")
    for manifest in manifests:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_resolves_to_valid_manifests(overlay):
    """Those of operators have no schema here; their pods do."""
    manifests = rendered(KUBERNETES / overlay)
    assert manifests
    check(manifests)


def test_an_unknown_property_would_be_found(base):
    """Or the test before could not fail."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate: make cluster")
    deployment = of_kind(base, "Deployment")
    deployment = {**deployment, "spec": {**deployment["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        check([deployment])


def test_the_store_can_be_an_image(tmp_path):
    """By the component, which takes the claim away."""
    for name in ("base", "components"):
        shutil.copytree(KUBERNETES / name, tmp_path / name)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(STORE_IMAGE)
    manifests = rendered(tmp_path / "mine")
    check(manifests)
    assert "PersistentVolumeClaim" not in {each["kind"] for each in manifests}
    volumes = {each["name"]: each for each in of_kind(manifests, "Deployment")["spec"]["template"]["spec"]["volumes"]}
    assert volumes["store"].keys() == {"name", "image"}


def pod_of(kind, manifest):
    """The pods of an operator's resource, as manifests of Kubernetes."""
    specs = {
        "InferenceService": lambda spec: [
            {key: value for key, value in spec["predictor"].items() if key not in KSERVE_ONLY}
        ],
        "RayService": lambda spec: [
            group["template"]["spec"]
            for group in (
                spec["rayClusterConfig"]["headGroupSpec"],
                *spec["rayClusterConfig"]["workerGroupSpecs"],
            )
        ],
    }[kind](manifest["spec"])
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec} for spec in specs]


# The fields of KServe's ComponentExtensionSpec, which stand beside those of a pod.
KSERVE_ONLY = {"minReplicas", "maxReplicas", "containerConcurrency", "timeout"}


@pytest.mark.parametrize(("overlay", "kind"), [("kserve", "InferenceService"), ("ray", "RayService")])
def test_the_pods_of_an_operator_are_valid_and_restricted(overlay, kind):
    """As those of the base are."""
    pods = pod_of(kind, of_kind(rendered(KUBERNETES / "overlays" / overlay), kind))
    check(pods)
    for each in pods:
        restricted(each["spec"])


def restricted(spec):
    """What Kubernetes' Pod Security Standard `restricted` demands."""
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_pod_is_restricted(pod):
    """And its user is the image's."""
    restricted(pod)
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert [pod["securityContext"][key] for key in ("runAsUser", "runAsGroup")] == [int(each) for each in user.groups()]


def test_variables_are_settings(environment):
    """With values that the process accepts, under names that it knows."""
    names = {f"LIGHTBOX_{name.upper()}": name for name in Settings.model_fields}
    assert environment.keys() <= names.keys()
    Settings(**{names[name]: value for name, value in environment.items()})
    service = of_kind(rendered(KUBERNETES / "overlays" / "kserve"), "InferenceService")
    (container,) = service["spec"]["predictor"]["containers"]
    assert {each["name"] for each in container["env"]} <= names.keys()


def test_the_grace_period_covers_delay_and_grace(pod, environment):
    """Otherwise Kubernetes would kill a server that still answers."""
    needed = float(environment["LIGHTBOX_SHUTDOWN_DELAY_S"]) + float(environment["LIGHTBOX_SHUTDOWN_GRACE_S"])
    assert pod["terminationGracePeriodSeconds"] > needed
    probe = pod["containers"][0]["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < float(environment["LIGHTBOX_SHUTDOWN_DELAY_S"])


def test_ports_and_paths_are_those_of_the_process(base, pod, environment, entry_of):
    """Of a real one, started with the variables of the base."""
    models = importlib.import_module("tests.models")
    (container,) = pod["containers"]
    (port,) = container["ports"]
    assert str(port["containerPort"]) == environment["LIGHTBOX_PORT"]
    assert of_kind(base, "Service")["spec"]["ports"][0]["targetPort"] == port["name"]
    (rule,) = of_kind(base, "NetworkPolicy")["spec"]["ingress"]
    assert [each["port"] for each in rule["ports"]] == [port["name"]]
    own = {"LIGHTBOX_HOST", "LIGHTBOX_PORT", "LIGHTBOX_MODEL_STORE", "LIGHTBOX_SHUTDOWN_DELAY_S"}
    others = {name: value for name, value in environment.items() if name not in own}
    monitor = of_kind(rendered(KUBERNETES / "overlays" / "monitoring"), "ServiceMonitor")
    paths = [container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")]
    paths.append(monitor["spec"]["endpoints"][0]["path"])
    with serving(entry_of(models.batch_norm_dropout), **others) as server:
        assert [httpx.get(f"{server.url}{path}").status_code for path in paths] == [200] * len(paths)


def test_selectors_select_the_pods(base):
    """Of the service, the budget, the policy and the autoscaler."""
    labels = of_kind(base, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/name": "lightbox"}
    assert of_kind(base, "Service")["spec"]["selector"] == labels
    assert of_kind(base, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert of_kind(base, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    target = of_kind(base, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"]
    assert target == of_kind(base, "Deployment")["metadata"]["name"]


def test_alerts_name_metrics_that_exist():
    """And the dashboard is the documentation's."""
    manifests = rendered(KUBERNETES / "overlays" / "monitoring")
    rules = of_kind(manifests, "PrometheusRule")["spec"]["groups"][0]["rules"]
    used = {name for rule in rules for name in re.findall(r"\blightbox_\w+", rule["expr"])}
    families = {re.sub(r"_(total|bucket)$", "", name) for name in used}
    known = {line.split()[2] for line in Metrics().exposition().decode().splitlines() if line.startswith("# HELP")}
    assert families
    assert families <= {re.sub(r"_total$", "", name) for name in known}
    copy = KUBERNETES / "overlays" / "monitoring" / "grafana.json"
    assert copy.read_text() == (ROOT / "docs" / "grafana.json").read_text()


def test_ray_is_configured_as_serve_yaml_is():
    """But for the address and the store."""
    service = of_kind(rendered(KUBERNETES / "overlays" / "ray"), "RayService")
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    local = yaml.safe_load((ROOT / "serve.yaml").read_text())
    assert config["http_options"].pop("host") == "0.0.0.0"  # noqa: S104  # in a pod
    assert local["http_options"].pop("host") == "127.0.0.1"
    assert config["applications"][0]["args"].pop("model_store") == "/models"
    assert config == local
    assert local["applications"][0]["args"].keys() <= ClusterSettings.model_fields.keys()
    head = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert config["http_options"]["port"] in [port["containerPort"] for port in head["ports"]]


def test_the_inference_service_is_one_of_kserve():
    """Every field is known to KServe's own SDK, and one that is not would be found."""
    python = os.environ.get("LIGHTBOX_PROTOCOLS") or pytest.skip("needs LIGHTBOX_PROTOCOLS: make protocols")
    service = of_kind(rendered(KUBERNETES / "overlays" / "kserve"), "InferenceService")

    def unknown(manifest):
        command = [python, ROOT / "tests" / "kserve_schema.py"]
        return subprocess.run(
            command, input=json.dumps(manifest), capture_output=True, text=True, check=True
        ).stdout.split()

    assert unknown(service) == []
    predictor = {**service["spec"]["predictor"], "minReplica": 1}
    assert unknown({**service, "spec": {"predictor": predictor}}) == [".spec.predictor.minReplica"]
