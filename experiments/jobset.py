"""Writes the manifest of an experiment on TPU slices in Kubernetes (GKE with JobSet).

usage: python -m experiments.jobset pretrain|finetune|decode CONFIG image=IMAGE workdir=gs://BUCKET/FOLDER [OPTION=VALUE ...]
       [key=value ...]

  image=IMAGE            a container image with this repository as its working folder and the extra `tpu` installed
  workdir=gs://...       mounted from the bucket; or a path below /mnt/ebm_jax with claim=NAME
  claim=NAME             a PersistentVolumeClaim that many nodes may write (ReadWriteMany), mounted at /mnt/ebm_jax
  accelerator=v5p        v4, v5e, v5p or v6e (v5e)
  topology=2x2x2         arrangement of a slice's chips (2x4)
  slices=2               so many slices, each a node pool of its own (1)
  chips_per_host=4       for v5e and v6e of eight chips on nodes of four (by default the largest nodes there are)
  spot=true              nodes that may be taken away (false)
  restarts=20            how often all of it is started again
  grace=600              seconds that a checkpoint may take after SIGTERM
  service_account=NAME   of Kubernetes, with access to the bucket (default)
  name=NAME              of the JobSet (the config's)
  out=FILE               instead of standard output

All other key=value go to the command. The config is read, and its mesh and batch are held against the slices. Then:
kubectl apply -f FILE.
"""

import dataclasses
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ebm_jax import cli
from ebm_jax.accounting.chips import Slice, slice_of_topology
from ebm_jax.comparison import Comparison
from ebm_jax.decoding_study import DecodingStudy
from ebm_jax.errors import NonFiniteError, UserError
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.overrides import override
from experiments.finetune import changed

COMMANDS = ("pretrain", "finetune", "decode")
OPTIONS = (
    *("image", "workdir", "claim", "accelerator", "topology", "slices", "chips_per_host", "spot", "restarts"),
    *("grace", "service_account", "name", "out"),
)
MOUNT = "/mnt/ebm_jax"
FINAL = (UserError.exit_status, NonFiniteError.exit_status, 28, 126, 127)
"""Exit codes that a restart does not mend: a mistake, NaN, a full disk, no such command."""

# Kubernetes signals the first process alone. One that ends with 0 because it was asked to would count as completed.
WRAPPER = """\
trap 'asked=1; kill -TERM "$child"' TERM
"$@" & child=$!
wait "$child"; code=$?
if [ -n "$asked" ]; then wait "$child"; exit 143; fi
exit "$code"
"""


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=OPTIONS)
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if len(parts.positionals) != 2 or parts.positionals[0] not in COMMANDS:
        raise UserError(f"expected {'|'.join(COMMANDS)} and one config, got {' '.join(parts.positionals) or 'nothing'}")
    command, config = parts.positionals
    text = render(command, config, parts.overrides, parts.options)
    if out := parts.options.get("out"):
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(text, encoding="utf-8")
        print(f"written to {out}; start it with kubectl apply -f {out}")
    else:
        print(text, end="")
    return 0


def render(command: str, config_path: str, overrides: list[str], options: Mapping[str, str]) -> str:
    """The manifest as YAML; raises ``UserError`` where options, config and slices do not fit together."""
    for needed, example in (
        ("image", "REGISTRY/ebm_jax:TAG"),
        ("workdir", "gs://BUCKET/runs/NAME"),
    ):
        if not options.get(needed):
            raise UserError(f"no {needed}: add {needed}={example}")
    piece = slice_of_topology(options.get("accelerator", "v5e"), options.get("topology", "2x4"))
    if "chips_per_host" in options:
        piece = _on_hosts_of(piece, _number(options, "chips_per_host", 1, least=1))
    slices = _number(options, "slices", 1, least=1)
    name = _check(command, config_path, overrides, piece, slices)
    name = options.get("name") or re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", name):
        raise UserError(
            f"name={name!r} must be lower-case letters, digits and hyphens, beginning with a letter, at most 40"
        )
    workdir, volume = _storage(options["workdir"], options.get("claim"))
    words = ["python", "-m", f"experiments.{command}", config_path, *overrides, f"workdir={workdir}"]
    return yaml.dump(manifest(name, words, piece, slices, volume, options), Dumper=_Dumper, sort_keys=False, width=120)


def manifest(
    name: str, words: list[str], piece: Slice, slices: int, volume: dict[str, Any], options: Mapping[str, str]
) -> dict[str, Any]:
    """The JobSet: one job for each slice, one pod for each host."""
    spot = _choice(options, "spot")
    selector = {
        "cloud.google.com/gke-tpu-accelerator": piece.chip.gke_accelerator,
        "cloud.google.com/gke-tpu-topology": piece.topology,
    }
    if spot:
        selector["cloud.google.com/gke-spot"] = "true"
    container = {
        "name": "ebm-jax",
        "image": options["image"],
        "command": ["bash", "-c", WRAPPER, "ebm_jax", *words],
        "env": [{"name": "EBM_JAX_COORDINATOR", "value": "auto"}, {"name": "PYTHONUNBUFFERED", "value": "1"}],
        # Of the TPU runtime, of the traffic between slices, and of JAX's coordinator.
        "ports": [{"containerPort": 8471}, {"containerPort": 8080}, {"containerPort": 8482}],
        "resources": {kind: {"google.com/tpu": piece.chips_per_host} for kind in ("requests", "limits")},
        "volumeMounts": [{"name": "runs", "mountPath": MOUNT}],
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _number(options, "grace", 600, least=30),
        "serviceAccountName": options.get("service_account", "default"),
        "nodeSelector": selector,
    }
    if spot:
        taint = {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
        pod["tolerations"] = [taint]
    pod |= {"containers": [container], "volumes": [{"name": "runs", **volume}]}
    template: dict[str, Any] = {"spec": pod}
    if "csi" in volume:
        template = {"metadata": {"annotations": {"gke-gcsfuse/volumes": "true"}}, **template}
    final = {"containerName": "ebm-jax", "operator": "In", "values": list(FINAL)}
    job = {
        "completionMode": "Indexed",
        "parallelism": piece.hosts,
        "completions": piece.hosts,
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": final}]},
        "template": template,
    }
    mended = {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": name,
            # A slice is a node pool: its pods go there together, and no other slice's do.
            "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
        },
        "spec": {
            "failurePolicy": {"maxRestarts": _number(options, "restarts", 20, least=0), "rules": [mended]},
            "replicatedJobs": [{"name": "slice", "replicas": slices, "template": {"spec": job}}],
        },
    }


def _check(command: str, path: str, overrides: list[str], piece: Slice, slices: int) -> str:
    """Holds a config against the slices; returns its name."""
    found = cli.load_and_call(path, "get_config")
    kinds = {"pretrain": (ExperimentConfig,), "finetune": (ExperimentConfig, Comparison), "decode": (DecodingStudy,)}
    if not isinstance(found, kinds[command]):
        raise UserError(
            f"{path}: get_config() returned {type(found).__name__}, which experiments.{command} does not take"
        )
    if isinstance(found, DecodingStudy):
        if piece.hosts * slices > 1:
            raise UserError(
                f"topology={piece.topology} x {slices} slices has {piece.hosts * slices} hosts, and experiments.decode runs on"
                " one: take a topology of one host, and only=METHOD for one JobSet for each method"
            )
        return override(found, [word for word in overrides if not word.startswith("only=")]).name
    if isinstance(found, Comparison):
        comparison = changed(found, [word for word in overrides if not word.startswith("only=")])
        for method, config in comparison.methods.items():
            _check_mesh(f"{comparison.name}, {method}", config, piece, slices)
        return comparison.name
    config = override(found, overrides)
    _check_mesh(config.name, config, piece, slices)
    return config.name


def _check_mesh(name: str, config: ExperimentConfig, piece: Slice, slices: int) -> None:
    """What the mesh and the batches of a run ask of its devices."""
    mesh, chips = config.mesh, piece.chips * slices
    there = f"{chips} chips ({slices} x {piece.accelerator_type}, {piece.hosts} hosts each)"
    sizes = {axis: getattr(mesh, axis) for axis in ("data", "fsdp", "tensor")}
    asked = 1
    for size in sizes.values():
        asked *= 1 if size == -1 else size
    if chips % asked or (-1 not in sizes.values() and asked != chips and piece.hosts * slices > 1):
        said = " ".join(f"mesh.{axis}={size}" for axis, size in sizes.items())
        raise UserError(
            f"{name}: {said} does not cover {there}: set mesh.data=-1, and fsdp x tensor to a divisor of {chips}"
        )
    sizes = {axis: chips // asked if size == -1 else size for axis, size in sizes.items()}
    if sizes["data"] % slices:
        raise UserError(
            f"{name}: mesh.data={sizes['data']} is not divisible by slices={slices}, which it crosses: lower mesh.fsdp"
        )
    if piece.chips_per_host % sizes["tensor"]:
        raise UserError(
            f"{name}: mesh.tensor={sizes['tensor']} must divide the {piece.chips_per_host} chips of one host"
        )
    shards, rows = sizes["data"] * sizes["fsdp"], config.train.batch_size
    if rows % shards:
        raise UserError(f"{name}: train.batch_size={rows} is not divisible by the {shards} parts of a batch on {there}")


def _storage(workdir: str, claim: str | None) -> tuple[str, dict[str, Any]]:
    """Where a pod finds its workdir, and the volume that is mounted there."""
    if claim:
        if not workdir.startswith(f"{MOUNT}/"):
            raise UserError(f"workdir={workdir} must lie below {MOUNT}, where claim={claim} is mounted")
        return workdir, {"persistentVolumeClaim": {"claimName": claim}}
    found = re.fullmatch(r"gs://([a-z0-9][a-z0-9._-]{2,})/(.+)", workdir)
    if found is None:
        raise UserError(
            f"workdir={workdir} goes with the pod: write gs://BUCKET/FOLDER, or claim=NAME and a path below {MOUNT}"
        )
    attributes = {"bucketName": found[1], "mountOptions": "implicit-dirs,rename-dir-limit=200000"}
    return f"{MOUNT}/{found[2]}", {"csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes}}


def _on_hosts_of(piece: Slice, chips: int) -> Slice:
    if chips != piece.chips_per_host and (piece.chips != 8 or piece.chip.cores != 1 or chips != 4):
        raise UserError(
            f"chips_per_host={chips}: {piece.chip.name} {piece.topology} comes on hosts of {piece.chips_per_host} chips"
            + (" or 4" if piece.chips == 8 and piece.chip.cores == 1 else "")
        )
    return dataclasses.replace(piece, hosts=piece.chips // chips)


def _number(options: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = options.get(name, str(default))
    if not re.fullmatch(r"\d+", text) or int(text) < least:
        raise UserError(f"{name}={text!r} must be a whole number from {least} on")
    return int(text)


def _choice(options: Mapping[str, str], name: str) -> bool:
    text = options.get(name, "false")
    if text not in ("true", "false"):
        raise UserError(f"{name}={text!r} must be true or false")
    return text == "true"


if __name__ == "__main__":
    sys.exit(cli.main(main))
