#!/bin/sh
# Enqueues the lines of a .jsonl plan with amqp-publish, and prints what becomes of each (Debian: amqp-tools, jq).
# amqp-publish hears no confirms: for a few requests by hand, not for a wave.
#   AMQP_URL=amqp://... examples/enqueue.sh < plan.jsonl
set -eu
prefix=${SLUICE_PREFIX:-sluice}
batch=by-hand-$(date -u +%Y%m%d-%H%M%S)-$$
plan=$(mktemp)
trap 'rm -f "$plan"' EXIT
grep . >"$plan"

# Results have the routing key <outcome>.<batch>: a queue of our own gets those of this batch alone.
amqp-consume -u "$AMQP_URL" -e "$prefix.results" -r "*.$batch" -A -c "$(wc -l <"$plan")" \
  -- jq -r '.data | [.source_server_id, .outcome, .task_id // ""] | join(" ")' &
sleep 1 # it listens before the first publish: no result is missed
while IFS= read -r body; do
  printf %s "$body" | amqp-publish -u "$AMQP_URL" -e "$prefix.enqueue" -r "$prefix.requests" -p \
    -H "x-sluice-batch: $batch" -H "x-sluice-enqueued-at: $(date -u +%FT%T.%3NZ)"
done <"$plan"
wait
