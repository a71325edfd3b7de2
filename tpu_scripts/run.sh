#!/usr/bin/env bash
# Starts a command on every worker, in the background: it goes on when ssh or this computer does not.
#
# usage: tpu_scripts/run.sh --name NAME --zone ZONE --type TYPE [options] -- COMMAND...
#
#   -- COMMAND...          as python -m experiments.pretrain CONFIG workdir=gs://BUCKET/runs/NAME key=value; it starts in the
#                          code's folder with the environment's python and EBM_JAX_COORDINATOR=auto; each worker keeps a log
#   --run NAME             of the run, for logs.sh, stop.sh and babysit.sh (run)
#   --env NAME=VALUE       for the command; may be given several times
#   --bucket gs://BUCKET   the one that setup.sh mounted: workdir=gs://BUCKET/... becomes a folder below --mount
#   --mount FOLDER         where (/mnt/ebm_jax)
#   --shared FOLDER        a disk that all workers share; a workdir below it is fine
#   --local-workdir        allow a workdir on the workers' own disks
#   and the common options: --project, --slices, --queued, --ssh-via, --settings, --dry-run (create.sh --help)
#
# With several hosts the workdir must be shared: checkpoints are written by all of them. Local disks go with the TPU.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
parse "--run --env+ --bucket --mount --shared --local-workdir!" "$@"

check_run
place_workdir
assignments=(EBM_JAX_COORDINATOR=auto)
while IFS= read -r assignment; do
    if [[ -z $assignment ]]; then continue; fi
    [[ $assignment =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || fail "--env '$assignment' is not NAME=VALUE"
    assignments+=("$assignment")
done <<<"${TPU_ENV:-}"
on_worker all all start "$TPU_RUN" "${assignments[@]}" -- "${COMMAND[@]}"
note "logs: tpu_scripts/logs.sh; a checkpoint and the end: tpu_scripts/stop.sh"
