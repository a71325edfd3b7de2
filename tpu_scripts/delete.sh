#!/usr/bin/env bash
# Deletes the TPU VM or the request with all its slices, and with them their local disks. Payment ends here and nowhere else.
#
# usage: tpu_scripts/delete.sh --name NAME --zone ZONE --type TYPE [--queued] [--yes] [options]
#
#   --yes       do not ask
#   --queued    it was created with --queued
#   and the common options: --project, --slices, --ssh-via, --settings, --dry-run (create.sh --help)

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
parse "--yes!" "$@"

if [[ ${TPU_QUEUED:-} == true ]]; then
    # --force deletes the slices too; without it only a request that holds none can be deleted.
    delete=(gcloud compute tpus queued-resources delete "$TPU_NAME" "${WHERE[@]}" --force --quiet)
else
    delete=(gcloud compute tpus tpu-vm delete "$TPU_NAME" "${WHERE[@]}" --quiet)
fi
if ! dry && [[ ${TPU_YES:-} != true ]]; then
    [[ -t 0 ]] || fail "nobody is there to confirm that $TPU_NAME shall be deleted: pass --yes"
    read -r -p "Delete $TPU_NAME in $ZONE and everything on its disks? Type its name: " answer
    [[ $answer == "$TPU_NAME" ]] || fail "'$answer' is not $TPU_NAME: nothing was deleted"
fi
run "${delete[@]}"
