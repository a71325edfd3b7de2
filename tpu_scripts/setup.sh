#!/usr/bin/env bash
# Brings the code to every worker, makes its environment, mounts the bucket, and checks that JAX sees every chip.
#
# usage: tpu_scripts/setup.sh --name NAME --zone ZONE --type TYPE [options]
#
#   --repo URL --commit REF   clone it, at a commit or tag; else the files that git tracks here are copied, as they are now
#   --extras LIST             of pyproject.toml (tpu,data,hf,log,eval)
#   --python PROGRAM          on the workers, 3.11 or newer; else one is looked for, or fetched with uv
#   --bucket gs://BUCKET      mounted on every worker by gcsfuse
#   --mount FOLDER            where (/mnt/ebm_jax)
#   --no-check                do not start JAX
#   and the common options: --project, --slices, --queued, --ssh-via, --settings, --dry-run (create.sh --help)
#
# It may be run again: the environment is kept, the code is replaced, data and runs stay.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
parse "--repo --commit --extras --python --bucket --mount --no-check!" "$@"

: "${TPU_EXTRAS:=tpu,data,hf,log,eval}"
[[ $TPU_EXTRAS =~ ^[a-z]+(,[a-z]+)*$ ]] || fail "--extras '$TPU_EXTRAS' must be names with commas and no spaces, as tpu,data,hf"
check_bucket
if [[ -n ${TPU_REPO:-} ]]; then
    [[ -n ${TPU_COMMIT:-} ]] ||
        fail "--repo $TPU_REPO needs --commit REF: every worker, and every restart, shall have the same code"
    on all all "test -d ebm_jax/.git || git clone --quiet $(quote "$TPU_REPO") ebm_jax && cd ebm_jax\
 && git fetch --quiet --tags origin && git checkout --quiet --detach $(quote "$TPU_COMMIT")"
else
    [[ -z ${TPU_COMMIT:-} ]] || fail "--commit $TPU_COMMIT needs --repo URL: without it the files here are copied as they are"
    if dry; then
        archive=/tmp/ebm_jax.tar.gz
        echo "git -C $(quote "$HERE/..") ls-files -z | tar -C $(quote "$HERE/..") --null -T - -czf $archive"
    else
        folder=$(mktemp -d)
        trap 'rm -rf "$folder"' EXIT
        archive=$folder/ebm_jax.tar.gz
        git -C "$HERE/.." ls-files -z | tar -C "$HERE/.." --null -T - -czf "$archive"
    fi
    remote scp all all
    run "${REMOTE[@]}" "$archive" "$TPU_NAME:ebm_jax.tar.gz" "${REMOTE_FLAGS[@]}"
    # Code that is no longer tracked must not stay behind; data and runs in the folder must.
    on all all "mkdir -p ebm_jax && cd ebm_jax && rm -rf ebm_jax experiments configs tests docs tpu_scripts\
 && tar -xzf ../ebm_jax.tar.gz"
fi
on_worker all all install "$TPU_EXTRAS" ${TPU_PYTHON:+"$TPU_PYTHON"}
if [[ -n ${TPU_BUCKET:-} ]]; then on_worker all all mount "${TPU_BUCKET#gs://}" "$TPU_MOUNT"; fi
if [[ ${TPU_NO_CHECK:-} != true ]]; then on_worker all all check "$((CHIPS * TPU_SLICES))"; fi
