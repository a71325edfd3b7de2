# shellcheck shell=bash
# What the scripts of this folder share: options, settings, quoting, dry runs, and how to reach the workers. Sourced, not run.
#
# An option --like-this is the variable TPU_LIKE_THIS (but --zone is ZONE and --project is PROJECT), from the command line, else
# from the environment, else from the file of NAME=VALUE lines that --settings names.

# shellcheck disable=SC2034  # the scripts use what is set here

set -euo pipefail

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
    echo "error: bash $BASH_VERSION is too old: 4.4 or newer is needed (on macOS: brew install bash, or use Cloud Shell)" >&2
    exit 2
fi

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SCRIPT=${0##*/}
COMMAND=()
# With !, an option takes no value; with +, it may be given several times, and its values are lines of its variable.
COMMON="--name --zone --project --type --slices --queued! --ssh-via --settings --dry-run! --help!"

fail() { # fail MESSAGE: a mistake of the user's; the message names the value and the fix
    echo "error: $1" >&2
    exit 2
}

note() { # note TEXT: for people; in a dry run a comment among the commands
    if dry; then echo "# $1"; else echo "$1" >&2; fi
}

dry() { [[ ${TPU_DRY_RUN:-} == true ]]; }

quote() { # quote WORD...: one line that a shell reads as these words
    local word line=""
    for word in "$@"; do
        if [[ ! $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then
            word="'${word//\'/\'\\\'\'}'"
            # gcloud's --flag=VALUE reads better with the value alone in quotes.
            [[ $word =~ ^\'(--[a-z-]+=)(.*)$ ]] && word="${BASH_REMATCH[1]}'${BASH_REMATCH[2]}"
        fi
        line+="${line:+ }$word"
    done
    printf '%s\n' "$line"
}

run() { # run COMMAND...: prints it in a dry run, else prints and executes it
    if dry; then
        quote "$@"
    else
        quote "+" "$@" >&2
        "$@"
    fi
}

help_text() { # the comment at a script's top
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

variable_of() { # the variable of an option
    local name=${1#--}
    name=${name//-/_}
    case $1 in
        --zone | --project) echo "${name^^}" ;;
        *) echo "TPU_${name^^}" ;;
    esac
}

parse() { # parse "OPTIONS" ARGUMENT...: sets the variables of options, and COMMAND to what follows --
    local known flag variable value
    known=" $(tr -s '[:space:]' ' ' <<<"$COMMON $1")"
    shift
    while (($#)); do
        flag=${1%%=*}
        if [[ $1 == -- ]]; then
            shift
            COMMAND=("$@")
            break
        elif [[ $1 == -h ]]; then
            flag=--help
        elif [[ $1 != --* ]]; then
            fail "unexpected argument '$1': options begin with --, and a command to run stands behind --"
        fi
        variable=$(variable_of "$flag")
        if [[ $known == *" $flag! "* ]]; then
            [[ $1 != *=* ]] || fail "$flag takes no value: write $flag instead of '$1'"
            printf -v "$variable" true
        elif [[ $known == *" $flag "* || $known == *" $flag+ "* ]]; then
            if [[ $1 == *=* ]]; then
                value=${1#*=}
            else
                (($# > 1)) || fail "$flag needs a value: write $flag VALUE"
                value=$2
                shift
            fi
            [[ -n $value ]] || fail "$flag got an empty value: write $flag VALUE"
            if [[ $known == *" $flag+ "* && -n ${!variable:-} ]]; then
                value="${!variable}"$'\n'"$value"
            fi
            printf -v "$variable" %s "$value"
        else
            fail "unknown option '$flag': $SCRIPT knows $(tr -d '!+' <<<"${known# }" | sed 's/ *$//')"
        fi
        shift
    done
    if [[ ${TPU_HELP:-} == true ]]; then
        help_text
        exit 0
    fi
    if [[ -n ${TPU_SETTINGS:-} ]]; then read_settings "$TPU_SETTINGS"; fi
    for flag in $known; do
        [[ $flag == *! ]] || continue
        value=${flag:2:-1}
        value=${value//-/_}
        variable=TPU_${value^^}
        # A flag that a misspelt word fails to set may be an expensive one.
        [[ ${!variable:-false} =~ ^(true|false)$ ]] || fail "$variable='${!variable}' must be true or false"
    done
    : "${TPU_SLICES:=1}" "${TPU_SSH_VIA:=external}" "${TPU_RUN:=run}" "${TPU_MOUNT:=/mnt/ebm_jax}"
    check_common
}

read_settings() { # NAME=VALUE lines; what is set already stays
    local line number=0 name names
    [[ -f $1 ]] || fail "--settings $1: no such file"
    names=$(grep -ohE -e '--[a-z-]+' "$HERE"/*.sh | sort -u | tr 'a-z-' 'A-Z_' | sed 's/^__/TPU_/' | tr '\n' ' ')
    names=" ZONE PROJECT $names"
    while IFS= read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        [[ $line =~ ^[[:space:]]*(#.*)?$ ]] && continue
        name=${line%%=*}
        [[ $line == *=* && $names == *" $name "* ]] ||
            fail "$1:$number: '$line' is not ZONE=, PROJECT= or TPU_NAME_OF_AN_OPTION=VALUE (--ssh-via is TPU_SSH_VIA)"
        if [[ -z ${!name:-} ]]; then printf -v "$name" %s "${line#*=}"; fi
    done <"$1"
}

one_of() { # one_of OPTION VALUE CHOICE...
    local choice
    for choice in "${@:3}"; do [[ $2 != "$choice" ]] || return 0; done
    fail "$1 '$2' is none of ${*:3}"
}

whole_number() { # whole_number OPTION VALUE LEAST
    if [[ ! $2 =~ ^[0-9]{1,9}$ ]] || ((10#$2 < $3)); then fail "$1 '$2' must be a whole number from $3 on"; fi
}

check_common() {
    [[ -n ${TPU_NAME:-} ]] || fail "no name: pass --name NAME or set TPU_NAME; every script needs the same one"
    [[ $TPU_NAME =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] ||
        fail "--name '$TPU_NAME' must be lower-case letters, digits and hyphens, beginning with a letter, at most 40"
    [[ -n ${ZONE:-} ]] || fail "no zone: pass --zone ZONE or set ZONE, for example us-east5-a"
    [[ $ZONE =~ ^[a-z]+-[a-z]+[0-9]+-[a-z0-9]+$ ]] ||
        fail "--zone '$ZONE' is no zone: write a region and a letter, as us-east5-a"
    [[ -n ${TPU_TYPE:-} ]] || fail "no accelerator type: pass --type TYPE or set TPU_TYPE, for example v5e-8"
    whole_number --slices "$TPU_SLICES" 1
    one_of --ssh-via "$TPU_SSH_VIA" external internal iap
    read_type "$TPU_TYPE"
    if ((TPU_SLICES > 1)) && [[ ${TPU_QUEUED:-} != true ]]; then
        fail "--slices $TPU_SLICES needs --queued: several slices are only given out by the queue"
    fi
    PROCESSES=$((HOSTS * TPU_SLICES))
    WHERE=(--zone="$ZONE")
    if [[ -n ${PROJECT:-} ]]; then WHERE+=(--project="$PROJECT"); fi
}

read_type() { # sets API_TYPE, DEFAULT_VERSION, CHIPS and HOSTS; ebm_jax/accounting/chips.py has the same numbers
    local size
    [[ $1 =~ ^(v4|v5e|v5litepod|v5p|v6e)-([0-9]{1,5})$ ]] || fail "--type '$1' is none of v4-N, v5e-N, v5p-N, v6e-N, as v5e-8"
    size=$((10#${BASH_REMATCH[2]}))
    case ${BASH_REMATCH[1]} in
        v4 | v5p)
            # These are counted in TensorCores, two on a chip, and handed out by hosts of four chips.
            ((size >= 8 && size % 8 == 0)) ||
                fail "--type '$1': ${BASH_REMATCH[1]} is counted in cores, 8 to a host: 8, 16, 32, ..."
            CHIPS=$((size / 2)) HOSTS=$((size / 8))
            ;;
        *)
            one_of "--type $1: the number of chips" "$size" 1 4 8 16 32 64 128 256
            CHIPS=$size HOSTS=$((size <= 8 ? 1 : size / 4))
            ;;
    esac
    API_TYPE=$1
    case $1 in
        v4-*) DEFAULT_VERSION=tpu-ubuntu2204-base ;;
        v5p-*) DEFAULT_VERSION=v2-alpha-tpuv5 ;;
        v6e-*) DEFAULT_VERSION=v2-alpha-tpuv6e ;;
        *) API_TYPE=v5litepod-$size DEFAULT_VERSION=v2-alpha-tpuv5-lite ;;
    esac
}

nodes() { # the names of the TPU VMs, one for each slice
    local slice
    if ((TPU_SLICES == 1)); then echo "$TPU_NAME"; fi
    for ((slice = 0; TPU_SLICES > 1 && slice < TPU_SLICES; slice++)); do echo "$TPU_NAME-$slice"; done
}

remote() { # remote VERB SLICE WORKER: sets REMOTE, the beginning of a command that reaches them (ssh or scp)
    local via=()
    REMOTE=(gcloud compute tpus)
    case $TPU_SSH_VIA in
        internal) via=(--internal-ip) ;;
        iap)
            # The tunnel is only in gcloud's alpha commands.
            REMOTE=(gcloud alpha compute tpus)
            via=(--tunnel-through-iap)
            ;;
    esac
    if ((TPU_SLICES > 1)); then
        REMOTE+=(queued-resources "$1")
        via=(--node="$2" "${via[@]}")
    else
        REMOTE+=(tpu-vm "$1")
    fi
    REMOTE_FLAGS=(--worker="$3" "${via[@]}" "${WHERE[@]}")
}

on() { # on SLICE WORKER LINE: a shell runs it there, by ssh; either may be all
    remote ssh "$1" "$2"
    run "${REMOTE[@]}" "$TPU_NAME" "${REMOTE_FLAGS[@]}" --command="$3"
}

on_worker() { # on_worker SLICE WORKER ARGUMENT...: worker.sh, in the code there
    on "$1" "$2" "$(quote bash ebm_jax/tpu_scripts/worker.sh "${@:3}")"
}

describe() { # the command that tells a state: describe queue, or describe NODE
    if [[ $1 == queue ]]; then
        DESCRIBE=(gcloud compute tpus queued-resources describe "$TPU_NAME" "${WHERE[@]}" --format='value(state.state)')
    else
        DESCRIBE=(gcloud compute tpus tpu-vm describe "$1" "${WHERE[@]}" --format='value(state)')
    fi
}

asked_state() { # what gcloud says of one of them; MISSING where there is none, UNKNOWN where gcloud cannot tell
    local answer errors
    errors=$(mktemp)
    describe "$1"
    if answer=$("${DESCRIBE[@]}" 2>"$errors"); then
        echo "${answer:-UNKNOWN}"
    elif grep -qiE 'NOT_FOUND|not found' "$errors"; then
        echo MISSING
    else
        cat "$errors" >&2
        echo UNKNOWN
    fi
    rm -f "$errors"
}

tpu_state() { # READY, UNKNOWN, MISSING, or the first state that is another, of the queue and of every slice
    local state node
    if [[ ${TPU_QUEUED:-} == true ]]; then
        state=$(asked_state queue)
        if [[ $state != ACTIVE ]]; then
            echo "$state"
            return
        fi
    fi
    for node in $(nodes); do
        state=$(asked_state "$node")
        if [[ $state != READY ]]; then
            # A queue that is active had this slice: it is not still to be made.
            if [[ $state == MISSING && ${TPU_QUEUED:-} == true ]]; then state=TERMINATED; fi
            echo "$state"
            return
        fi
    done
    echo READY
}

kind_of_state() { # what to do about a state: ready, wait, gone, missing or unknown
    case $1 in
        READY) echo ready ;;
        MISSING) echo missing ;;
        UNKNOWN | STATE_UNSPECIFIED) echo unknown ;;
        CREATING | ACCEPTED | PROVISIONING | WAITING_FOR_RESOURCES | STARTING | RESTARTING | REPAIRING | REIMAGING) echo wait ;;
        *) echo gone ;; # PREEMPTED, TERMINATED, SUSPENDING, SUSPENDED, FAILED, STOPPING, STOPPED, DELETING, HIDDEN
    esac
}

ask_states() { # every worker tells its run's state; one that has no code yet has none
    local code=ebm_jax/tpu_scripts/worker.sh
    on all all "if test -f $code; then bash $code status $TPU_RUN; else echo ebm_jax-run \$(hostname) none -; fi"
}

run_states() { # a line "HOST STATE CODE" of every worker, sorted; fails where not every worker answers
    local lines
    lines=$(ask_states 2>/dev/null | sed -n 's/^.*ebm_jax-run //p' | sort)
    echo "$lines"
    [[ -n $lines ]] && (($(wc -l <<<"$lines") == PROCESSES))
}

check_run_name() {
    [[ $TPU_RUN =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || fail "--run '$TPU_RUN' names a folder: use letters, digits and any of ._-"
}

check_bucket() {
    [[ -z ${TPU_BUCKET:-} || $TPU_BUCKET =~ ^gs://[a-z0-9][a-z0-9._-]{2,}$ ]] ||
        fail "--bucket '$TPU_BUCKET' must be gs:// and the name of a bucket, without a folder behind it"
    [[ $TPU_MOUNT == /?* ]] || fail "--mount '$TPU_MOUNT' must be an absolute path, as /mnt/ebm_jax"
}

check_run() {
    check_run_name
    check_bucket
    ((${#COMMAND[@]})) ||
        fail "no command: write it behind --, as $SCRIPT ... -- python -m experiments.pretrain CONFIG workdir=DIR"
    [[ -z ${TPU_SHARED:-} || $TPU_SHARED == /?* ]] ||
        fail "--shared '$TPU_SHARED' must be an absolute path, as /mnt/disks/shared"
}

place_workdir() { # puts the command's workdir where every worker sees it; sets WORKDIR
    local index path shared="${TPU_SHARED:-}"
    WORKDIR=""
    for index in "${!COMMAND[@]}"; do
        [[ ${COMMAND[index]} == workdir=* ]] || continue
        WORKDIR=${COMMAND[index]#workdir=}
        if [[ $WORKDIR == gs://* ]]; then
            # A run's folder is a path: gs:// would be a folder of that name on every worker's own disk.
            path=${WORKDIR#gs://}
            [[ -n ${TPU_BUCKET:-} && "$path/" == "${TPU_BUCKET#gs://}/"* ]] ||
                fail "workdir=$WORKDIR: pass --bucket gs://${path%%/*}, to setup.sh too, which mounts it on every worker"
            WORKDIR=$TPU_MOUNT/${path#*/}
            COMMAND[index]=workdir=$WORKDIR
        fi
    done
    if [[ -n ${TPU_BUCKET:-} && $WORKDIR == "$TPU_MOUNT"/* ]]; then return; fi
    if [[ -n $shared && $WORKDIR == "${shared%/}"/* ]]; then return; fi
    if [[ ${TPU_LOCAL_WORKDIR:-} == true ]]; then return; fi
    if ((PROCESSES > 1)); then
        fail "workdir=${WORKDIR:-(none)} lies on each worker's own disk, and $PROCESSES hosts write to it: write\
 workdir=gs://BUCKET/... with --bucket gs://BUCKET, or name the disk that they share with --shared FOLDER\
 (or insist with --local-workdir)"
    fi
    if [[ ${TPU_SPOT:-} == true ]]; then
        fail "workdir=${WORKDIR:-(none)} lies on the TPU's own disk, which goes with it when it is preempted: write\
 workdir=gs://BUCKET/... with --bucket gs://BUCKET (or insist with --local-workdir)"
    fi
    note "workdir=${WORKDIR:-(none)} lies on the TPU's own disk: copy it before you delete the TPU"
}
