# Completion of latentd for bash. Made by deploy/cli.py.
_latentd() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} options=''
  COMPREPLY=()
  case $before in
    --block-size) mapfile -t COMPREPLY < <(compgen -W '16 32 64' -- "$word"); return ;;
    --device) mapfile -t COMPREPLY < <(compgen -W 'auto cpu cuda' -- "$word"); return ;;
    --dtype) mapfile -t COMPREPLY < <(compgen -W 'auto fp32 bf16' -- "$word"); return ;;
    --generation-config) mapfile -t COMPREPLY < <(compgen -W 'auto none' -- "$word"); return ;;
    --kv-cache-dtype) mapfile -t COMPREPLY < <(compgen -W 'auto fp32 bf16 fp8' -- "$word"); return ;;
    --load-format) mapfile -t COMPREPLY < <(compgen -W 'auto random' -- "$word"); return ;;
    --log-format) mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$word"); return ;;
    --log-level) mapfile -t COMPREPLY < <(compgen -W 'trace debug info warning error critical' -- "$word"); return ;;
    --page-tokens) mapfile -t COMPREPLY < <(compgen -W '16 32 64' -- "$word"); return ;;
    --model | inspect) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    --config) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
  esac
  case ${COMP_WORDS[1]:-} in
    serve) options='-h --help --model --config --host --http-port --grpc-port --served-model-name --generation-config --default-max-tokens --max-queue --drain-timeout --drain-propagation --stall-timeout --log-level --log-format --api-key --api-key-file --tls-cert --tls-key --tls-client-ca --cors-origin --metrics-port --admin-port --otlp-endpoint --otlp-ca-file --otlp-header --otlp-sample-ratio --max-body-bytes --body-timeout --max-choices --max-logprobs --max-schema-bytes --grpc-connection-age --device --cpu-threads --dtype --kv-cache-dtype --kv-cache-tokens --gpu-memory-utilization --load-format --page-tokens --block-size --max-model-len --max-num-seqs --max-num-batched-tokens --batch-invariant --no-batch-invariant{false} --no-prefix-cache --shared-prefixes --overcommit' ;;
    inspect) options='-h --help --memory --kv-cache-dtype --json' ;;
    health) options='-h --help --host --http-port --grpc-port --metrics-port --grpc --live --timeout' ;;
    new-key) options='-h --help --tenant --requests-per-minute --tokens-per-minute --max-concurrent --priority' ;;
    version) options='-h --help' ;;
    *) options='serve inspect health new-key version --help --version' ;;
  esac
  [[ $COMP_CWORD -gt 1 ]] || options='serve inspect health new-key version --help --version'
  mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
}
complete -F _latentd latentd
