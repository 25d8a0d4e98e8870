#!/usr/bin/env python3
"""Enqueues the lines of a .jsonl plan with pika, and prints what becomes of each.

    AMQP_URL=amqp://... python3 examples/enqueue.py < plan.jsonl
"""
import datetime, json, os, sys, uuid
import pika

prefix = os.environ.get("SLUICE_PREFIX", "sluice")
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.confirm_delivery()  # basic_publish raises if the broker does not take a message
results = channel.queue_declare("", exclusive=True).method.queue
channel.queue_bind(results, f"{prefix}.results", "#")  # before the first publish: no result is missed

waiting = set()
for body in filter(str.strip, sys.stdin):
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    request = pika.BasicProperties(delivery_mode=2, message_id=str(uuid.uuid4()), headers={"x-sluice-enqueued-at": now})
    channel.basic_publish(f"{prefix}.enqueue", f"{prefix}.requests", body.strip(), request, mandatory=True)
    waiting.add(request.message_id)
while waiting:
    _, _, body = next(channel.consume(results, auto_ack=True))
    data = json.loads(body)["data"]
    if data.get("request_id") in waiting:
        waiting.remove(data["request_id"])
        print(data["source_server_id"], data["outcome"], data.get("task_id", ""), flush=True)
connection.close()
