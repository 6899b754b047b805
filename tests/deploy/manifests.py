"""The manifests of deploy/kubernetes as kubectl renders them, and what else they must agree with.

Exits with 77 (skipped) where kubectl or yaml is missing.
"""
import pathlib
import re
import shutil
import subprocess
import sys

try:
    import yaml
except ImportError:
    print("python3-yaml is not installed")
    sys.exit(77)

TOP = pathlib.Path(__file__).resolve().parents[2]
BASE = TOP / "deploy" / "kubernetes" / "base"


def kubectl(*arguments):
    """What kubectl prints; its warnings go to standard error, where a reader sees them."""
    if not shutil.which("kubectl"):
        print("kubectl is not installed")
        sys.exit(77)
    return subprocess.run(["kubectl", *arguments], check=True, stdout=subprocess.PIPE, text=True,
                          timeout=60).stdout


def render(folder):
    """The objects of a kustomization, by (kind, name)."""
    objects = [o for o in yaml.safe_load_all(kubectl("kustomize", str(folder))) if o]
    named = {(o["kind"], o["metadata"]["name"]): o for o in objects}
    assert len(named) == len(objects), "two objects of one kind have the same name"
    return named


def container(objects):
    """The one container of the StatefulSet."""
    containers = objects["StatefulSet", "varve"]["spec"]["template"]["spec"]["containers"]
    assert len(containers) == 1
    return containers[0]


def option(objects, name):
    """The value of an option among the container's arguments, or of its variable."""
    arguments = container(objects)["args"]
    for i, argument in enumerate(arguments):
        if argument == "--" + name:
            return arguments[i + 1]
        if argument.startswith("--" + name + "="):
            return argument.split("=", 1)[1]
    variable = "VARVE_" + name.upper().replace("-", "_")
    for entry in container(objects).get("env", []):
        if entry["name"] == variable:
            return entry["value"]
    raise KeyError(name)


def seconds(duration):
    """5s, 250ms, 2m in seconds."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", duration).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def size(text):
    """64MiB as the program writes it, 1Gi as Kubernetes does, in bytes."""
    number, unit = re.fullmatch(r"(\d+)([KMG]i)B?", text).groups()
    return int(number) << {"Ki": 10, "Mi": 20, "Gi": 30}[unit]
