#!/usr/bin/env bash
# Shows the log of a run on one worker or on all.
#
# usage: tpu_scripts/logs.sh --name NAME --zone ZONE --type TYPE [options]
#
#   --run NAME         the run (run)
#   --worker N|all     which host of the slice (0)
#   --slice N|all      which slice (0)
#   --lines N          how many of the last lines first (100)
#   --no-follow        print them and return
#   --output FOLDER    write one file WORKER.log for each worker instead; returns
#   and the common options: --project, --slices, --queued, --ssh-via, --settings, --dry-run (create.sh --help)
#
# Process 0 writes the progress, and the others hardly anything until one fails: start with worker 0. One worker's lines come as
# they are written. With all, gcloud mixes the lines of all workers, so each is marked with its host.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
parse "--run --worker --slice --lines --no-follow! --output" "$@"

check_run_name
: "${TPU_WORKER:=0}" "${TPU_SLICE:=0}" "${TPU_LINES:=100}"
whole_number --lines "$TPU_LINES" 1
[[ $TPU_WORKER == all || ($TPU_WORKER =~ ^[0-9]+$ && $TPU_WORKER -lt $HOSTS) ]] ||
    fail "--worker '$TPU_WORKER': $TPU_TYPE has the workers 0 to $((HOSTS - 1)); or write all"
[[ $TPU_SLICE == all || ($TPU_SLICE =~ ^[0-9]+$ && $TPU_SLICE -lt $TPU_SLICES) ]] ||
    fail "--slice '$TPU_SLICE': there are the slices 0 to $((TPU_SLICES - 1)); or write all"
words=(log "$TPU_RUN" "$TPU_LINES")
if [[ -n ${TPU_OUTPUT:-} ]]; then
    [[ $TPU_SLICE != all ]] || fail "--output with --slice all: files are called after workers alone; take one slice at a time"
    run mkdir -p "$TPU_OUTPUT"
    remote ssh "$TPU_SLICE" "$TPU_WORKER"
    run "${REMOTE[@]}" "$TPU_NAME" "${REMOTE_FLAGS[@]}" --output-directory="$TPU_OUTPUT" \
        --command="$(quote bash ebm_jax/tpu_scripts/worker.sh "${words[@]}")"
    exit 0
fi
if [[ ${TPU_NO_FOLLOW:-} != true ]]; then words+=(follow); fi
if [[ $TPU_WORKER == all || $TPU_SLICE == all ]]; then words+=(named); fi
on_worker "$TPU_SLICE" "$TPU_WORKER" "${words[@]}"
